//! What an error of Postgres means to a caller.

use std::time::Duration;

use agentos_types::{Code, Fault};
use tokio_postgres::{Error, error::SqlState};

/// A caller can wait, restore, or report a defect.
pub(super) fn fault(source: &Error) -> Fault {
    let Some(error) = source.as_db_error() else {
        // Without an answer from the server it is the way there that failed.
        return if is_local_defect(source) { Fault::internal(describe(source)) } else { unavailable(describe(source)) };
    };
    let code = error.code();
    let class = code.code().get(..2).unwrap_or_default();
    match class {
        "XX" if *code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED => {
            Fault::new(Code::STORE_CORRUPT, "the database reports damage").detail(describe(source))
        }
        // Connection, authorization, lack of resources, an operator's intervention, failure of the system; and what a
        // later attempt may pass: time-outs of locks, conflicts, a server that is read-only for now.
        "08" | "28" | "3D" | "53" | "57" | "58" | "40" => unavailable(describe(source)),
        // A session that is ended or not begun is no defect of the statement.
        _ if matches!(error.severity(), "FATAL" | "PANIC") => unavailable(describe(source)),
        _ if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
            unavailable(describe(source))
        }
        _ => Fault::internal(describe(source)),
    }
}

pub(super) fn unavailable(detail: impl std::fmt::Display) -> Fault {
    Fault::new(Code::STORE_UNAVAILABLE, "the database cannot be used at the moment")
        .detail(detail)
        .retry_after(Duration::from_secs(5))
}

/// The server ended the session, or there is none any more.
pub(super) fn ends_session(source: &Error) -> bool {
    source.is_closed()
        || match source.as_db_error() {
            Some(error) => matches!(error.severity(), "FATAL" | "PANIC"),
            None => !is_local_defect(source),
        }
}

/// A value that does not fit its column, a wrong number of parameters: ours, and the connection is as good as before.
fn is_local_defect(source: &Error) -> bool {
    let text = source.to_string();
    ["error serializing", "error deserializing", "expected ", "invalid column"]
        .iter()
        .any(|part| text.starts_with(part))
}

fn describe(source: &Error) -> String {
    match source.as_db_error() {
        // The detail of the database may quote whole rows.
        Some(error) => format!("{} {}: {}", error.severity(), error.code().code(), error.message()),
        None => match std::error::Error::source(source) {
            Some(cause) => format!("{source}: {cause}"),
            None => source.to_string(),
        },
    }
}
