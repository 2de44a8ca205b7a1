//! What a piece of work is for: the request and the place in a trace that its log lines name. It belongs to the task of
//! the runtime and not to the thread, and costs nothing until a line is written.

use std::future::Future;

use super::TraceContext;

tokio::task_local! {
    static SCOPE: Scope;
}

#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub request_id: Option<String>,
    pub context: Option<TraceContext>,
}

impl Scope {
    /// Work for a task, at this place of its trace.
    pub fn of_trace(traceparent: &str) -> Self {
        Self { request_id: None, context: TraceContext::parse(traceparent) }
    }
}

/// Runs `work` with the scope as the current one. What it spawns has to be given a scope of its own.
pub fn scoped<F: Future>(scope: Scope, work: F) -> impl Future<Output = F::Output> {
    SCOPE.scope(scope, work)
}

/// The scope of what runs here, if it has one.
pub fn current() -> Option<Scope> {
    SCOPE.try_with(Clone::clone).ok()
}
