//! The routes, one module for each noun of the API. Bodies are those of `agentos-api`; nothing is reshaped here.

mod agents;
mod audit;
mod budgets;
mod log_life;
mod model_admin;
mod retention;
mod schedules;
mod secrets;
mod status;
mod tasks;
mod tokens;
mod witnesses;

pub use tasks::TaskFilter;

/// Adds a parameter that was given.
fn push<T: ToString>(query: &mut Vec<(&'static str, String)>, name: &'static str, value: Option<T>) {
    query.extend(value.map(|value| (name, value.to_string())));
}
