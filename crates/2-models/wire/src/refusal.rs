//! Why a body cannot be read, or cannot be written for the other side.

use std::fmt;

/// Before anything is sent. Each one names the field, so that who wrote the request can find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The body is not what its protocol says. `field` is a path such as `messages[2].content`.
    Malformed { field: String, reason: String },
    /// The body says something that the other protocol has no place for.
    NoPlace { field: String, protocol: crate::Protocol },
    /// The model lacks something that the body needs: `tools`, `images`, `json schema`, `thinking`.
    NotCapable { what: String, model: String },
}

impl Refusal {
    pub fn malformed(field: impl Into<String>, reason: impl fmt::Display) -> Self {
        Refusal::Malformed { field: field.into(), reason: reason.to_string() }
    }

    pub fn no_place(field: impl Into<String>, protocol: crate::Protocol) -> Self {
        Refusal::NoPlace { field: field.into(), protocol }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Malformed { field, reason } => write!(f, "{field}: {reason}"),
            Refusal::NoPlace { field, protocol } => {
                write!(f, "'{field}' cannot be said in the protocol '{protocol}' of the chosen model")
            }
            Refusal::NotCapable { what, model } => write!(f, "the model '{model}' has no {what}"),
        }
    }
}

impl std::error::Error for Refusal {}
