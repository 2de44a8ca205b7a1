//! Models, on the real program: what clients get through the gateway and inside of sandboxes, what providers get, how each
//! fault ends, and that budgets and records hold.

#![expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "a story that is left out says why, and helpers fail by panicking"
)]

mod attempts;
mod budgets;
mod chat;
mod crashes;
mod faults;
mod inside;
mod local_model;
mod repeats;
mod scene;
mod sdks;
