//! The control against proxies of the tests, which die, hang and lie, and against a judge that notes what it is told.

mod authority;
mod broker;
mod fake;
mod lives;
mod order;
mod wishes;
