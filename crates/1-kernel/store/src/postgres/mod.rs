//! Postgres behind the same interface: synchronous calls over connections that each own a small runtime.
//!
//! A connection is driven only while its thread waits for an answer, and that thread is the writer's or one of the
//! blocking pool, never one that runs tasks. What is lost is opened again, with a pause that grows; nothing here retries
//! a statement, because only the writer knows what is safe to do again.

mod database;
mod fault;
mod link;
mod pipeline;
mod schema;
mod session;
mod value;

pub use database::Database;
pub(crate) use link::{Link, Role};
pub(crate) use schema::{check_server, prepare, revert};
pub(crate) use value::{get, integer};
