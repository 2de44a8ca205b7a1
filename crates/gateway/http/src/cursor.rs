//! Cursors as callers see them: opaque, versioned, and bound to the listing that made them, so that none can be built
//! by hand or carried to another listing without being refused.

use agentos_types::{Code, Fault, Result, limits};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// Raised when the meaning of the inner key changes; older cursors are then refused instead of misread.
const VERSION: u8 = 1;
/// Longest cursor that is decoded; ours are below 100 bytes.
const CURSOR_BYTES_MAX: usize = 512;

/// The listings that have cursors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listing {
    Tasks,
    Notifications,
}

impl Listing {
    fn as_str(self) -> &'static str {
        match self {
            Listing::Tasks => "tasks",
            Listing::Notifications => "notifications",
        }
    }
}

pub(crate) fn encode(listing: Listing, key: &str) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::json!([VERSION, listing.as_str(), key]).to_string())
}

/// The key inside a cursor of this listing.
pub(crate) fn decode(listing: Listing, cursor: &str) -> Result<String> {
    let key = || {
        let bytes = (cursor.len() <= CURSOR_BYTES_MAX).then(|| URL_SAFE_NO_PAD.decode(cursor).ok()).flatten()?;
        let (version, name, key) = serde_json::from_slice::<(u8, String, String)>(&bytes).ok()?;
        (version == VERSION && name == listing.as_str()).then_some(key)
    };
    key().ok_or_else(|| invalid(format!("the cursor does not belong to this listing of {}", listing.as_str())))
}

/// A page size within the product's bounds.
pub(crate) fn page_limit(asked: Option<usize>) -> Result<usize> {
    match asked {
        None => Ok(limits::PAGE_DEFAULT),
        Some(limit) if (1..=limits::PAGE_MAX).contains(&limit) => Ok(limit),
        Some(limit) => Err(invalid(format!("limit {limit} is not between 1 and {}", limits::PAGE_MAX))),
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(Code::CURSOR_INVALID, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_only_its_own_listing() {
        let cursor = encode(Listing::Tasks, "task_1");
        assert_eq!(decode(Listing::Tasks, &cursor).unwrap(), "task_1");
        let other_version = URL_SAFE_NO_PAD.encode("[2,\"tasks\",\"task_1\"]");
        let other_shape = URL_SAFE_NO_PAD.encode("[1,\"tasks\"]");
        let long = "A".repeat(CURSOR_BYTES_MAX + 1);
        for bad in ["", "x", "task_1", &other_version, &other_shape, &long, &format!("{cursor}=")] {
            assert_eq!(decode(Listing::Tasks, bad).unwrap_err().code, Code::CURSOR_INVALID, "{bad}");
        }
        assert_eq!(decode(Listing::Notifications, &cursor).unwrap_err().code, Code::CURSOR_INVALID);
    }

    #[test]
    fn page_sizes_are_bounded() {
        assert_eq!(page_limit(None).unwrap(), limits::PAGE_DEFAULT);
        assert_eq!(page_limit(Some(limits::PAGE_MAX)).unwrap(), limits::PAGE_MAX);
        assert!(page_limit(Some(0)).is_err() && page_limit(Some(limits::PAGE_MAX + 1)).is_err());
    }
}
