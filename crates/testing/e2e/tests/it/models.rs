//! Models, on the real program: what clients get through the gateway and inside of sandboxes, what providers get, how each
//! fault ends, and that budgets and records hold.

#![expect(clippy::panic, reason = "helpers fail by panicking")]

mod budgets;
mod captured;
mod chat;
mod crashes;
mod faults;
mod inside;
mod local_model;
mod mounted_sdks;
mod scene;
mod sdks;
