//! The supervisor: every agent its own operating system process, started, watched, limited, counted and ended here.
//!
//! An agent's processes come to life only in a sandbox that `agent-os-launch` makes, inside a group of their own and on a
//! workspace of their own ([`surroundings`]). Each agent has one actor ([`agent_run`]) that owns its processes, its socket and the leases of its
//! tasks; actors share nothing, so that a rogue agent harms no other. What may happen when is one pure table
//! ([`lifecycle`]); how long to wait after a failure is one pure function ([`backoff`]).
//!
//! Not here: permission (every call of a worker goes to the monitor through [`Syscalls`], unread), the walls of the
//! sandbox (the launcher), the rules of tasks (`agentos-tasks`).

mod accounting;
mod agent_run;
pub mod agents;
mod backoff;
mod behind;
mod beside;
mod commands;
mod controls;
mod ends;
pub mod lifecycle;
mod logs;
mod losses;
mod mailbox;
mod model_doors;
mod options;
mod package;
mod process;
mod processes;
mod quarters;
mod supervisor;
mod surroundings;
mod syscalls;
mod ways_out;

pub use commands::{Captured, Command, CommandReport, Commands};
pub use controls::controls;
pub use logs::LogLine;
pub use model_doors::{ModelDoors, Visitor};
pub use options::SupervisorOptions;
pub use quarters::Quarters;
pub use supervisor::{AgentCommand, Deployment, STARTS_AT_ONCE, Supervisor};
pub use syscalls::Syscalls;
pub use ways_out::WaysOut;
