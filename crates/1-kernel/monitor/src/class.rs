//! From an error code to the class that decides about another attempt.

use agentos_types::{Code, Fault, task::ErrorClass};

pub fn class_of(fault: &Fault) -> ErrorClass {
    match fault.code {
        Code::STORE_UNAVAILABLE
        | Code::STORE_BUSY
        | Code::AUDIT_UNAVAILABLE
        | Code::NAME_UNRESOLVED
        | Code::CONNECT_FAILED
        | Code::CONNECTION_LOST
        | Code::REMOTE_TIMEOUT
        | Code::REMOTE_STATUS
        | Code::RESPONSE_MALFORMED
        | Code::KV_CONFLICT
        | Code::SHUTTING_DOWN
        | Code::INTERNAL => ErrorClass::Transient,
        Code::RATE_LIMITED => ErrorClass::RateLimited,
        Code::TASK_DEADLINE => ErrorClass::Deadline,
        Code::STEP_IN_DOUBT => ErrorClass::InDoubt,
        Code::NOT_GRANTED | Code::ADDRESS_DENIED | Code::REDIRECT_DENIED | Code::FILE_DENIED | Code::STEP_LIMIT => {
            ErrorClass::Denied
        }
        _ => ErrorClass::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use agentos_types::code::CATALOGUE;

    use super::*;

    /// What a system call can end in, and whether another attempt can help.
    const ENDINGS: &[(Code, ErrorClass)] = &[
        // The machine or the other side may be better later.
        (Code::INTERNAL, ErrorClass::Transient),
        (Code::STORE_UNAVAILABLE, ErrorClass::Transient),
        (Code::STORE_BUSY, ErrorClass::Transient),
        (Code::AUDIT_UNAVAILABLE, ErrorClass::Transient),
        (Code::SHUTTING_DOWN, ErrorClass::Transient),
        (Code::NAME_UNRESOLVED, ErrorClass::Transient),
        (Code::CONNECT_FAILED, ErrorClass::Transient),
        (Code::CONNECTION_LOST, ErrorClass::Transient),
        (Code::REMOTE_TIMEOUT, ErrorClass::Transient),
        (Code::REMOTE_STATUS, ErrorClass::Transient),
        (Code::RESPONSE_MALFORMED, ErrorClass::Transient),
        (Code::KV_CONFLICT, ErrorClass::Transient),
        (Code::RATE_LIMITED, ErrorClass::RateLimited),
        // Only a person can help.
        (Code::STEP_IN_DOUBT, ErrorClass::InDoubt),
        // Refused by a grant, a limit or the filter.
        (Code::NOT_GRANTED, ErrorClass::Denied),
        (Code::ADDRESS_DENIED, ErrorClass::Denied),
        (Code::REDIRECT_DENIED, ErrorClass::Denied),
        (Code::FILE_DENIED, ErrorClass::Denied),
        (Code::STEP_LIMIT, ErrorClass::Denied),
        (Code::TASK_DEADLINE, ErrorClass::Deadline),
        // The agent or its arguments are wrong, or the attempt is over.
        (Code::INVALID_ID, ErrorClass::Permanent),
        (Code::STORE_CORRUPT, ErrorClass::Permanent),
        (Code::TASK_NOT_FOUND, ErrorClass::Permanent),
        (Code::PAYLOAD_TOO_LARGE, ErrorClass::Permanent),
        (Code::BODY_INVALID, ErrorClass::Permanent),
        (Code::LEASE_LOST, ErrorClass::Permanent),
        (Code::STEP_CONFLICT, ErrorClass::Permanent),
        (Code::TASK_CANCELED, ErrorClass::Permanent),
        (Code::TASK_UNKNOWN_TO_WORKER, ErrorClass::Permanent),
        (Code::SYSCALL_UNKNOWN, ErrorClass::Permanent),
        (Code::SYSCALL_INVALID, ErrorClass::Permanent),
        (Code::URL_INVALID, ErrorClass::Permanent),
        (Code::RESPONSE_TOO_LARGE, ErrorClass::Permanent),
        (Code::FILE_UNAVAILABLE, ErrorClass::Permanent),
        (Code::KV_LIMIT, ErrorClass::Permanent),
        (Code::SCHEDULE_INVALID, ErrorClass::Permanent),
        (Code::SCHEDULE_NOT_FOUND, ErrorClass::Permanent),
        (Code::AGENT_NOT_FOUND, ErrorClass::Permanent),
        (Code::AGENT_STATE, ErrorClass::Permanent),
        (Code::AGENT_QUARANTINED, ErrorClass::Permanent),
        (Code::SECRET_NOT_FOUND, ErrorClass::Permanent),
        (Code::SECRET_KEY_UNUSABLE, ErrorClass::Permanent),
    ];

    #[test]
    fn every_ending_has_the_class_that_was_decided_for_it() {
        for (code, class) in ENDINGS {
            assert_eq!(class_of(&Fault::new(*code, "")), *class, "{code}");
        }
    }

    #[test]
    fn what_is_not_an_ending_of_a_call_is_never_tried_again() {
        let others = CATALOGUE.iter().filter(|entry| !ENDINGS.iter().any(|(code, _)| *code == entry.code));
        for entry in others {
            assert_eq!(class_of(&Fault::new(entry.code, "")), ErrorClass::Permanent, "{} {}", entry.code, entry.title);
        }
    }
}
