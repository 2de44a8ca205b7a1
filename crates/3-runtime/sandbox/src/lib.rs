//! Sandboxes as the server sees them: what a sandbox is made of (the plan), who makes it (a launcher for each profile), what
//! runs and how it ended, and what this machine can enforce.
//!
//! Not here: the walls themselves (`agentos-launcher`), limits and quotas (`agentos-limits`), ways out (`agentos-egress`).

mod apparmor;
mod cell;
mod desk;
mod holder;
mod launcher;
mod launchers;
mod packet;
pub mod plan;
pub mod probe;
mod reason;
mod running;

pub use apparmor::{AppArmor, AppArmorMode};
pub use cell::Cell;
pub use launchers::{Backend, Early, SandboxOptions, Sandboxes};
pub use reason::{Evidence, Reason};
pub use running::{Ended, Running};
