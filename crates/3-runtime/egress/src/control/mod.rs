//! The server's side of the egress proxy.
