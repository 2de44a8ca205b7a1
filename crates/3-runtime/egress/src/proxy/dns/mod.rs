//! The name server of the sandboxes: an address of the pool for a name that the server allows, nothing for all others. It
//! never asks anybody else, so that a name cannot carry anything out.

pub mod message;
mod server;

pub(super) use server::{serve_datagrams, serve_stream};
