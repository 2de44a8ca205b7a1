//! Which provider and model answers a call, what is tried after a failure, and what is not asked at all for a while.
//!
//! The operator's [`Document`] is checked, compiled and put in place as one value; a request keeps the one that it began with.
//! What the router knows of the health of targets lives beside it and outlasts its replacement. A choice is a pure function of
//! a [`Situation`](choose::Situation): the same record gives the same choice, today and in a post-mortem.
//!
//! Pure: no I/O, no clock, no randomness of its own. Instants and a seed come with each request.
//!
//! Not here: sending anything (the engine), budgets (the ledger), what a price is (the catalog).

mod asked;
mod choose;
mod config;
mod document;
mod explain;
mod health;
mod names;
mod plan;
mod probe;
mod record;
mod refusal;
mod router;
mod target;

pub use asked::{Asked, Operation};
pub use choose::{Act, Candidate, Exclusion, Lane, LaneState, Rules, Situation, Stop, Tried};
pub use config::Config;
pub use document::{
    Cache, Caching, Decisions, Document, Emulate, FailureClass, FlatPrice, KeyGroup, Keys, Kind, Model, Policy,
    Problem, Provider, Refuse, Route, RouteTarget, Rule, Timeouts, UnknownPrice,
};
pub use health::{BreakerState, Change, HealthView, KeyView, LaneView, Observed};
pub use plan::Plan;
pub use probe::{Probe, ProbeView, Probed};
pub use record::{DecisionRecord, Mismatch, Step, replay};
pub use refusal::NoTarget;
pub use router::Router;
pub use target::{Target, Waits};
