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
mod clouds;
mod crashes;
mod deaths;
mod faults;
mod foreign;
mod inside;
mod limits;
mod local_model;
mod nodes;
pub mod outage;
mod repeats;
pub mod scene;
mod sdks;
mod socket;
mod spending;
mod syscall;
mod tested;
