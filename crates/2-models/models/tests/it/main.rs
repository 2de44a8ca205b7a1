//! The engine behind the real monitor, journal and ledger, in front of providers that do what they are told.

mod budgets;
mod failover;
mod house;
mod plain;
mod provider;
mod streams;
