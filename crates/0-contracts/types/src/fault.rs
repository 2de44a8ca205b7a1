//! The one error that crosses crate borders: a coded message for the person, and a detail for the log only.

use std::{error, fmt, time::Duration};

use crate::Code;

pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// An error that somebody can act on. `message` and `hint` may be shown to callers; `detail` goes to the log alone,
/// because it may name paths, addresses or upstream text that a caller has no right to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: Code,
    pub message: String,
    pub hint: Option<String>,
    pub detail: Option<String>,
    pub retry_after: Option<Duration>,
    /// What a program needs to act on it, under fixed names: amounts, limits, instants. Shown like the message.
    pub facts: Vec<(&'static str, String)>,
}

impl Fault {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, detail: None, retry_after: None, facts: Vec::new() }
    }

    /// A defect or a failure of the machine: the caller learns only that it happened, the log learns what.
    pub fn internal(detail: impl fmt::Display) -> Self {
        Self::new(Code::INTERNAL, "an internal error occurred; the server's log has the detail").detail(detail)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    #[must_use]
    pub fn fact(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.facts.push((name, value.to_string()));
        self
    }

    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl error::Error for Fault {}

/// Adds the public meaning of a foreign error where it first becomes ours.
pub trait OrFault<T> {
    /// The foreign error's text becomes the log detail; callers see only `message`.
    fn or_fault(self, code: Code, message: impl Into<String>) -> Result<T>;
}

impl<T, E: fmt::Display> OrFault<T> for std::result::Result<T, E> {
    fn or_fault(self, code: Code, message: impl Into<String>) -> Result<T> {
        self.map_err(|source| Fault::new(code, message).detail(source))
    }
}
