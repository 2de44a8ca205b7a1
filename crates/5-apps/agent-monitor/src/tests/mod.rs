//! The Monitor against a kernel in memory: what it does, what it does when it is killed, and what two of it do at once.

mod crash;
mod documents;
mod fake;
mod race;
mod stories;
