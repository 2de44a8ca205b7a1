//! The proof that the one door holds: real store, audit log, journal, secrets, dialer and tools behind the monitor, an
//! agent that tries everything, and a server on loopback that notes what reaches it.
//!
//! Every story ends with the verification of the whole audit log.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod addresses;
mod audit;
mod capture;
mod commands;
mod coverage;
mod egress;
mod floods;
mod house;
mod kv;
mod leases;
mod models;
mod next_schema;
mod notices;
mod replay;
mod secrets;
mod server;
mod webhooks;
