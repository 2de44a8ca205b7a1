//! Postgres behind the same interface: synchronous calls over connections that each own a small runtime.
//!
//! A connection is driven only while its thread waits for an answer, and that thread is the writer's or one of the
//! blocking pool, never one that runs tasks. What is lost is opened again, with a pause that grows; nothing here retries
//! a statement, because only the writer knows what is safe to do again.

mod database;
mod dump;
mod fault;
mod hints;
mod link;
mod listener;
mod pipeline;
mod schema;
mod session;
mod value;

pub use database::Database;
pub(crate) use database::Target;
pub(crate) use dump::{bytes as dump_bytes, dump};
pub(crate) use link::{Link, Role};
pub(crate) use listener::Listener;
pub(crate) use schema::{admin, administer, check_server, enter, grant, require_current};
pub(crate) use value::{get, integer};
