//! From an error code to the class that decides about another attempt.

use agentos_types::{Code, Fault, task::ErrorClass};

pub fn class_of(fault: &Fault) -> ErrorClass {
    match fault.code {
        Code::STORE_UNAVAILABLE
        | Code::STORE_BUSY
        | Code::AUDIT_UNAVAILABLE
        | Code::NAME_UNRESOLVED
        | Code::CONNECT_FAILED
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
