//! Models, on the real program: what clients get through the gateway and inside of sandboxes, what providers get, how each
//! fault ends, and that budgets and records hold.

#![expect(clippy::panic, reason = "helpers fail by panicking")]

mod attempts;
mod budgets;
mod captured;
mod chat;
mod clouds;
mod crashes;
mod deaths;
mod faults;
mod foreign;
mod inside;
mod limits;
mod local_model;
mod mounted_sdks;
mod nodes;
pub mod outage;
mod repeats;
pub mod scene;
mod sdks;
mod socket;
mod spending;
mod syscall;
mod tested;
