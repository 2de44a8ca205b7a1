//! What tests from outside need: a real server in a scratch directory, agent packages, a page that changes, a clock that can be
//! moved, a collector of traces, a provider of models,
//! the official clients of models, and waiting on conditions. Only ever a dev-dependency.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up must stop with a message")]

mod clock;
mod collector;
mod leftovers;
mod local_model;
mod model_server;
mod os;
mod package;
mod page;
mod plain;
mod programs;
mod sdk;
mod volume;
mod wait;

pub use clock::ShiftedClock;
pub use collector::{Collector, Mood, SeenSpan};
pub use leftovers::{groups_of, mounts_below};
pub use local_model::LocalModel;
pub use model_server::{Act, Asked, ModelServer, vector};
pub use os::{CliOutput, TestOs};
pub use package::Package;
pub use page::Page;
pub use plain::PLAIN_USER;
pub use programs::{program, python};
pub use sdk::{Sdk, sdks};
pub use volume::Volume;
pub use wait::{eventually, until};
