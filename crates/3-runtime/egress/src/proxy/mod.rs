//! The program `agent-os-egress`. It accepts on the listeners that were made inside the sandboxes, finds out what a program
//! wants to reach, asks the server, and carries out what is granted, once.
//!
//! Invariants, each of them attacked in `tests`:
//! - nothing leaves before its answer: each connection and each request, also the second on one connection, is asked for;
//! - what was asked is what is dialed: one reader of names, one lookup, every answer filtered, the checked address dialed;
//! - what two readers could read differently is refused, and what is passed on is written anew by us;
//! - what ends at models of the server has no other way on: no lookup, no dial;
//! - every buffer, wait, count and sum of bytes has a limit, for a sandbox and for the whole;
//! - when the server is gone, so is the proxy, and with it every way out.
//!
//! Not here: who may reach what (the server's monitor), where secrets come from, any file. The prose is
//! `docs/src/reference/egress.md`.

mod accept;
mod activity;
mod authority;
mod channel;
pub mod client_hello;
pub mod dns;
mod gate;
mod grant;
mod guest;
pub mod http;
mod inherited;
mod line;
mod meter;
mod models;
mod names;
mod serve;
mod stop;
mod target;
mod tls;
mod tunnel;
mod wire;

pub use inherited::inherited;
pub use serve::{ProxyOptions, run};
