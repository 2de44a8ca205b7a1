//! Why a connection of a sandbox comes to its end, as the code that carries it passes it upwards.

use std::net::IpAddr;

use agentos_protocol::egress::{Refusal, WishEnd};
use agentos_types::Fault;

#[derive(Debug)]
pub(super) enum Stop {
    /// By the proxy itself. `target` is what the program named, where it got so far.
    Refused {
        reason: Refusal,
        target: Option<String>,
    },
    /// By the server.
    Denied {
        code: String,
        message: String,
    },
    Unreachable {
        fault: Box<Fault>,
        address: Option<IpAddr>,
    },
    /// One side broke off, or answered what is no HTTP.
    Broken,
    /// Who should receive takes no more. He may have said something before that.
    Stuck,
    /// A limit ended what was granted; the report of its end says so.
    Limited(Refusal),
    /// The server cannot be asked any more.
    NobodyToAsk,
}

impl Stop {
    pub fn refused(reason: Refusal) -> Self {
        Stop::Refused { reason, target: None }
    }

    pub fn refused_for(reason: Refusal, target: impl Into<String>) -> Self {
        Stop::Refused { reason, target: Some(target.into()) }
    }

    /// With what the program wanted to reach, now that it is known.
    #[must_use]
    pub fn naming(self, name: impl FnOnce() -> String) -> Self {
        match self {
            Stop::Refused { reason, target: None } => Stop::Refused { reason, target: Some(name()) },
            other => other,
        }
    }

    /// How a wish ends that had been granted before this happened.
    pub fn wish_end(&self) -> WishEnd {
        match self {
            Stop::Refused { reason, .. } | Stop::Limited(reason) => WishEnd::Limited { limit: *reason },
            Stop::Unreachable { fault, address } => {
                WishEnd::Unreachable { code: fault.code.to_string(), address: *address }
            }
            Stop::Denied { .. } | Stop::Broken | Stop::Stuck | Stop::NobodyToAsk => WishEnd::Broken,
        }
    }

    /// Limits of a granted wish are in the report of its end and need no other. What the program did wrong is a refusal all
    /// the same.
    #[must_use]
    pub fn after_grant(self) -> Self {
        match self {
            Stop::Refused { reason: reason @ (Refusal::TooSlow | Refusal::ByteLimit), .. } => Stop::Limited(reason),
            other => other,
        }
    }
}

impl From<std::io::Error> for Stop {
    fn from(_: std::io::Error) -> Self {
        Stop::Broken
    }
}

impl From<Refusal> for Stop {
    fn from(reason: Refusal) -> Self {
        Stop::refused(reason)
    }
}
