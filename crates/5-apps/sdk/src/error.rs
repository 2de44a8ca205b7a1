//! What a handler returns when the task failed.

use agentos_protocol::frame::CallError;
use agentos_types::task::ErrorClass;

/// Why a task failed. The class decides whether and how soon the kernel tries it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TaskError {
    pub class: ErrorClass,
    pub message: String,
    /// Seconds that the other side asked to wait.
    pub retry_after_s: Option<u64>,
}

impl TaskError {
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), retry_after_s: None }
    }

    /// Trying again cannot help: the input or the agent is wrong.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Permanent, message)
    }

    /// Trying again with back-off may help.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Transient, message)
    }

    /// Trying again helps after the given time.
    pub fn rate_limited(message: impl Into<String>, retry_after_s: u64) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(ErrorClass::RateLimited, message) }
    }
}

/// Keeps class and waiting time, so that a handler can use `?` on its calls and the kernel retries rightly.
impl From<CallError> for TaskError {
    fn from(error: CallError) -> Self {
        Self {
            class: error.class,
            message: format!("{}: {}", error.code, error.message),
            retry_after_s: error.retry_after_ms.map(|wait_ms| wait_ms.div_ceil(1_000)),
        }
    }
}
