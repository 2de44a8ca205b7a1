//! The API's client: one typed method for every route, event streams that survive a lost connection, and problem
//! documents turned back into faults.
//!
//! No printing, no files, no environment: who uses it decides where the URL and the token come from.

mod answer;
mod chat;
mod follow;
mod http;
mod routes;
mod sse;
mod tls;

pub use chat::{Chat, Question};
pub use follow::{AuditRecords, Reconnect, TaskEvents};
pub use http::{Client, Download, is_on_this_machine};
pub use routes::TaskFilter;
