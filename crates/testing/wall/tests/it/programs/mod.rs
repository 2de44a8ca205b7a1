//! Real programs inside, unchanged: what people run in a sandbox has to work there, for root and for a plain user. Each goes
//! through `agent-os sandbox run`, as a person would start it.

mod build;
mod command;
mod curl;
mod git;
mod java;
mod node;
mod python;
mod server;
mod shell;
mod statics;
mod world;
