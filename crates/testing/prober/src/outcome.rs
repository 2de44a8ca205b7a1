//! What came of an attempt.

use serde::{Deserialize, Serialize};

use crate::kernel::Errno;

/// Whether the attacker got what it wanted, and how that showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub verdict: Verdict,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Blocked,
    Open,
    /// Not tried, because the machine or the facts lack what it needs.
    Absent,
    /// The attempt itself failed: it says nothing.
    Broken,
}

/// One line of the program's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub name: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Outcome {
    pub fn blocked(detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Blocked, detail: detail.into() }
    }

    pub fn open(detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Open, detail: detail.into() }
    }

    pub fn absent(detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Absent, detail: detail.into() }
    }

    pub fn broken(detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Broken, detail: detail.into() }
    }

    /// Open if it worked.
    pub fn of<T>(result: Result<T, Errno>) -> Self {
        match result {
            Ok(_) => Self::open("worked"),
            Err(errno) => Self::blocked(errno.name()),
        }
    }

    /// For calls with arguments that make no sense: open if the kernel went as far as to look at them.
    pub fn of_rights<T>(result: Result<T, Errno>) -> Self {
        match result {
            Err(errno) if errno.is_refusal() => Self::blocked(errno.name()),
            Err(errno) => Self::open(format!("the call was let in: {}", errno.name())),
            Ok(_) => Self::open("worked"),
        }
    }

    pub fn of_io<T>(result: std::io::Result<T>) -> Self {
        Self::of(result.map_err(|error| Errno::of(&error)))
    }

    pub fn open_if(is_open: bool, detail: impl Into<String>) -> Self {
        if is_open { Self::open(detail) } else { Self::blocked(detail) }
    }
}
