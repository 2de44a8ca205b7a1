//! The one guarded way out of sandboxes. [`proxy`] is the program `agent-os-egress`: it takes the listeners that were made
//! inside the sandboxes, reads what programs want, asks, dials, and carries bytes. [`control`] is the server's side: it starts
//! the proxy, keeps it alive, tells it about sandboxes, and lets the monitor answer.
//!
//! The proxy decides nothing and holds one secret at a time; the server carries no bytes.

pub mod control;
pub mod proxy;
