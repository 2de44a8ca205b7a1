//! How an action fails, and which errors belong to a watched source rather than to the task.

use agentos_sdk::{CallError, Code, ErrorClass, TaskError};

use crate::record::Standing;

/// A refusal of the input: trying again cannot help.
pub fn refuse(message: impl Into<String>) -> TaskError {
    TaskError::permanent(message)
}

/// `AOS-1603: message`, as people see it.
pub fn text(error: &CallError) -> String {
    format!("{}: {}", error.code, error.message)
}

/// What an error of a read says about the source. `None`: it says nothing about the source (the store is down, the task was
/// canceled, the rate limit was reached), so it ends the attempt and the kernel decides about the next one.
pub fn standing(error: &CallError) -> Option<Standing> {
    match error.code {
        Code::NOT_GRANTED | Code::ADDRESS_DENIED | Code::REDIRECT_DENIED | Code::FILE_DENIED => Some(Standing::Denied),
        Code::NAME_UNRESOLVED
        | Code::CONNECT_FAILED
        | Code::CONNECTION_LOST
        | Code::REMOTE_TIMEOUT
        | Code::RESPONSE_MALFORMED
        | Code::FILE_UNAVAILABLE => Some(Standing::Unreachable),
        Code::RESPONSE_TOO_LARGE | Code::URL_INVALID | Code::SYSCALL_INVALID => Some(Standing::Error),
        _ => None,
    }
}

/// Whether an error of the delivery is worth the kernel's own quick retries.
pub fn may_pass(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Transient | ErrorClass::RateLimited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_of_the_source_or_of_the_kernel() {
        let check = |code, expected: Option<Standing>| {
            let error = CallError { code, message: "m".into(), class: ErrorClass::Transient, retry_after_ms: None };
            assert_eq!(standing(&error), expected, "{code}");
        };
        check(Code::NOT_GRANTED, Some(Standing::Denied));
        check(Code::ADDRESS_DENIED, Some(Standing::Denied));
        check(Code::REDIRECT_DENIED, Some(Standing::Denied));
        check(Code::FILE_DENIED, Some(Standing::Denied));
        check(Code::NAME_UNRESOLVED, Some(Standing::Unreachable));
        check(Code::CONNECT_FAILED, Some(Standing::Unreachable));
        check(Code::REMOTE_TIMEOUT, Some(Standing::Unreachable));
        check(Code::FILE_UNAVAILABLE, Some(Standing::Unreachable));
        check(Code::RESPONSE_TOO_LARGE, Some(Standing::Error));
        check(Code::URL_INVALID, Some(Standing::Error));
        for kernel in
            [Code::INTERNAL, Code::STORE_BUSY, Code::RATE_LIMITED, Code::AUDIT_UNAVAILABLE, Code::TASK_CANCELED]
        {
            check(kernel, None);
        }
    }
}
