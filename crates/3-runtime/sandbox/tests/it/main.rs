//! The client of the launcher against a launcher of the tests, which does and omits what a real one must not.

#[cfg(test)]
mod harness;
#[cfg(test)]
mod launchers;
#[cfg(test)]
mod losses;
