//! Simulation: journal, store, audit log and monitor under a clock, a randomness and faults that a seed decides, beside a
//! model that is small enough to be obviously right.
//!
//! What is real: every line of the store, the audit log, the journal and the monitor, on a real SQLite file or a real
//! Postgres. What is simulated: the clock, the randomness, the world that requests go to, the workers, the death of the
//! process (the files are copied in the moment of death, and the copy is opened) and refused commits. What is not: the
//! supervisor's processes and sockets, which have their own stories in `agentos-e2e`, and disks that lie.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken expectation is how a simulation fails")]
#![expect(clippy::print_stdout, reason = "a run tells its seeds and what happened in them")]

mod deed;
mod disk;
mod node;
mod play;
mod rest;
mod seeds;
mod sequences;
mod view;
mod work;
mod world;
