//! The program `agent-os-egress`.
