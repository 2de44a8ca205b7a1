//! The client of the launcher against a launcher of the tests, which does and omits what a real one must not.

mod harness;
mod launchers;
mod losses;
