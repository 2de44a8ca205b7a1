//! What the verifier can find wrong, each class with its own exit code of `agent-os-verify`.

use std::{error, fmt};

use agentos_types::{Code, Fault};

macro_rules! kinds {
    ($($name:ident = $exit:literal, $word:literal, $meaning:literal;)*) => {
        /// Classes of findings. Exit codes are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FindingKind {
            $(#[doc = $meaning] $name,)*
        }

        impl FindingKind {
            pub const ALL: &[FindingKind] = &[$(FindingKind::$name),*];

            /// Exit code of `agent-os-verify`.
            pub fn exit_code(self) -> u8 {
                match self { $(FindingKind::$name => $exit),* }
            }

            /// One word for reports.
            pub fn as_str(self) -> &'static str {
                match self { $(FindingKind::$name => $word),* }
            }

            /// What it means, for people.
            pub fn meaning(self) -> &'static str {
                match self { $(FindingKind::$name => $meaning),* }
            }
        }
    };
}

kinds! {
    Empty = 10, "empty", "there is nothing to verify: no record and no checkpoint of this log";
    HashMismatch = 11, "hash-mismatch", "a record's body is not the one that its stored leaf hash was made of";
    Edited = 12, "edited", "a record's body and its searchable columns disagree, or a stored value has the wrong form";
    LinkBroken = 13, "link-broken", "a record does not name the record before it";
    Missing = 14, "missing", "records are missing inside the log";
    Reordered = 15, "reordered", "a record was inserted, repeated or moved";
    CheckpointSignature = 16, "checkpoint-signature", "a checkpoint is malformed or not signed by the log's key";
    CheckpointMismatch = 17, "checkpoint-mismatch", "the records do not hash to the root that a signed checkpoint states";
    Truncated = 18, "truncated", "the log ends before a signed checkpoint says that it does";
    Uncovered = 19, "uncovered", "records follow the newest checkpoint; each commit writes one, so they were added from outside";
    Fork = 20, "fork", "a held checkpoint is signed by the log's key but states another history";
    PruneUnsigned = 30, "prune-unsigned", "records were taken away that no sealed order to prune speaks of, or another number of them";
    KeptFrontier = 31, "kept-frontier", "what was kept of a pruned day is not what the signed checkpoint states";
    DayTable = 32, "day-table", "the table of days does not say what the records say";
    KeyChain = 33, "key-chain", "a change of the log's key is not signed by the key before it, or the log does not record it";
    KeyTime = 34, "key-time", "a checkpoint is signed by a key of the log before or after that key's time";
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The first thing that is wrong with a log. What follows it cannot be judged, so verification stops there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: FindingKind,
    /// The record it shows at; for a checkpoint the last record under it.
    pub seq: Option<u64>,
    pub message: String,
}

impl Finding {
    pub fn new(kind: FindingKind, seq: Option<u64>, message: impl Into<String>) -> Self {
        Self { kind, seq, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => write!(f, "{} at record {seq}: {}", self.kind, self.message),
            None => write!(f, "{}: {}", self.kind, self.message),
        }
    }
}

/// Why a log was not verified: it is wrong, or it could not be read. Never the same thing to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyError {
    Finding(Finding),
    Unreadable(Fault),
}

impl From<Finding> for VerifyError {
    fn from(finding: Finding) -> Self {
        Self::Finding(finding)
    }
}

impl From<Fault> for VerifyError {
    fn from(fault: Fault) -> Self {
        Self::Unreadable(fault)
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finding(finding) => finding.fmt(f),
            Self::Unreadable(fault) => fault.fmt(f),
        }
    }
}

impl error::Error for VerifyError {}

impl From<VerifyError> for Fault {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Unreadable(fault) => fault,
            VerifyError::Finding(finding) => {
                Fault::new(Code::AUDIT_TAMPERED, format!("the audit log does not verify: {finding}"))
                    .hint("keep the files as they are; compare with exported segments and held checkpoints")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_distinct_and_above_the_programs_own() {
        for pair in FindingKind::ALL.windows(2) {
            assert!(pair[0].exit_code() >= 10 && pair[0].exit_code() < pair[1].exit_code());
        }
    }
}
