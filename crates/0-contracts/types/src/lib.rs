//! The vocabulary of AgentOS: ids, time, faults, manifests, grants, tasks, agents, audit events, witnesses.
//!
//! A type lives here only when two floors of the house use it. No I/O, no clock, no async, no policy.

pub mod actor;
pub mod agent;
pub mod audit;
pub mod budget;
pub mod code;
pub mod envelope;
pub mod fault;
pub mod grant;
pub mod hex;
pub mod ids;
pub mod json;
pub mod limits;
pub mod machine;
pub mod manifest;
pub mod notify;
pub mod task;
pub mod time;
pub mod witness;

pub use actor::{Actor, Role, Scope};
pub use code::Code;
pub use envelope::Envelope;
pub use fault::{Fault, Result};
pub use grant::{Action, Category, Grant};
pub use ids::{AgentName, EventId, InstanceId, LogName, RequestId, ScheduleId, SecretName, TaskId, TokenId};
pub use manifest::Manifest;
pub use time::Timestamp;
