//! The HTTP API as types: bodies, problem documents, and the port through which the gateway calls the kernel.
//!
//! No HTTP server and no kernel here, so that clients, the OpenAPI generator and tests compile without either.

pub mod body;
pub mod budgets;
pub mod kernel;
mod log_life;
pub mod model_admin;
pub mod models;
pub mod problem;

pub use budgets::Budgets;
pub use kernel::Kernel;
pub use model_admin::ModelAdmin;
pub use models::Models;
pub use problem::Problem;
