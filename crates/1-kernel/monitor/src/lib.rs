//! The reference monitor: every effect of an agent passes [`Monitor::call`] and nothing else can make the
//! `Authorized<Call>` that executors take.
//!
//! Identify ▸ rate limit ▸ parse ▸ one spelling ▸ grants ▸ record ▸ execute ▸ record. Policy, labels, budgets and
//! approvals will take their places in that line. What programs do by themselves comes in by [`Monitor::egress`],
//! and calls of models, of agents and of programs outside, by [`Monitor::model`].

mod bounds;
mod call;
mod canonical;
mod class;
pub mod egress;
mod model;
mod monitor;
pub mod placeholder;
mod rate;

pub use bounds::{Bounds, Rules};
pub use call::{Call, CallRequest, Executors};
pub use class::class_of;
pub use model::{Beside, ModelEnd, ModelOutcome, ModelPass, ModelRecord, ModelRequest, ModelStart, SoFar, Told};
pub use monitor::Monitor;
