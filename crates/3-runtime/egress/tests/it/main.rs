//! The way out of sandboxes, from outside.

mod proxy;
