//! The documented exit codes, and how a fault becomes one.

use std::{io, process::ExitCode};

use agentos_types::{Code, Fault};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Success,
    Refused,
    Usage,
    NotReachable,
    TaskNotCompleted,
    NotVerified,
    NotPermitted,
    /// As `timeout`, `env` and container programs have it, so that no status of a command is mistaken for it.
    NotRun,
    /// As the command in the sandbox has ended.
    Command(u8),
}

impl Exit {
    pub const ALL: [Exit; 8] = [
        Exit::Success,
        Exit::Refused,
        Exit::Usage,
        Exit::NotReachable,
        Exit::TaskNotCompleted,
        Exit::NotVerified,
        Exit::NotPermitted,
        Exit::NotRun,
    ];

    pub fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Refused => 1,
            Exit::Usage => 2,
            Exit::NotReachable => 3,
            Exit::TaskNotCompleted => 4,
            Exit::NotVerified => 5,
            Exit::NotPermitted => 6,
            Exit::NotRun => 125,
            Exit::Command(status) => status,
        }
    }

    /// What the reference page and `--help` say.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Success => "success",
            Exit::Refused => "the server refused the request, or something failed",
            Exit::Usage => "wrong usage",
            Exit::NotReachable => "no server answers",
            Exit::TaskNotCompleted => "the task ended without success (failed, canceled or rejected)",
            Exit::NotVerified => "the audit log does not verify",
            Exit::NotPermitted => "no valid token, a missing right, or a file that others can read",
            Exit::NotRun => "the sandbox could not be made, and the command did not run",
            Exit::Command(_) => "as the command in the sandbox has ended",
        }
    }

    /// For a command that ended with this fault.
    pub fn of(code: Code) -> Self {
        match code {
            Code::USAGE | Code::INVALID_ID | Code::SECRET_INVALID => Exit::Usage,
            Code::NOT_RUNNING | Code::CONNECT_FAILED => Exit::NotReachable,
            Code::AUDIT_TAMPERED => Exit::NotVerified,
            Code::UNAUTHENTICATED | Code::AUTH_LOCKED | Code::FORBIDDEN | Code::FILE_MODE => Exit::NotPermitted,
            _ => Exit::Refused,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Why a command stopped before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    Fault(Fault),
    /// The reader of our output went away, as `head` does: not an error.
    ReaderGone,
}

/// What a command returns: how the program ends, unless it stopped.
pub(crate) type Outcome<T = Exit> = Result<T, Stop>;

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

/// Only printing yields bare I/O errors; files report faults that name their path.
impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Stop::ReaderGone,
            _ => Stop::Fault(local("the output could not be written", error)),
        }
    }
}

/// A failure of this machine, told to the person who can mend it.
pub(crate) fn local(what: impl Into<String>, error: impl std::fmt::Display) -> Fault {
    Fault::new(Code::INTERNAL, what).detail(error)
}

/// The command line does not fit the command.
pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Fault {
    Fault::new(Code::USAGE, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 3, 4, 5, 6, 125]);
        assert_eq!(Exit::Command(137).code(), 137);
        for (code, exit) in [
            (Code::TASK_NOT_FOUND, Exit::Refused),
            (Code::USAGE, Exit::Usage),
            (Code::NOT_RUNNING, Exit::NotReachable),
            (Code::AUDIT_TAMPERED, Exit::NotVerified),
            (Code::UNAUTHENTICATED, Exit::NotPermitted),
            (Code::FORBIDDEN, Exit::NotPermitted),
        ] {
            assert_eq!(Exit::of(code), exit, "{code}");
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        assert!(matches!(Stop::from(io::Error::from(io::ErrorKind::BrokenPipe)), Stop::ReaderGone));
        assert!(matches!(Stop::from(io::Error::from(io::ErrorKind::StorageFull)), Stop::Fault(_)));
    }
}
