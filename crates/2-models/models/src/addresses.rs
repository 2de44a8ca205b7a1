//! The addresses of operations that were checked before. To read one takes longer than everything else that is done to a request
//! on its way out, and each target has a handful.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use agentos_dialer::CheckedUrl;
use agentos_types::Result;

/// Targets come from the operator's document; beyond so many all are checked anew.
const REMEMBERED_MAX: usize = 1_024;

#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<HashMap<String, CheckedUrl>>);

impl Addresses {
    /// As [`CheckedUrl::parse`].
    pub fn checked(&self, text: String) -> Result<CheckedUrl> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(url) = known.get(&text) {
            return Ok(url.clone());
        }
        let url = CheckedUrl::parse(&text)?;
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(text, url.clone());
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_the_same_address_and_a_bad_one_stays_bad() {
        let addresses = Addresses::default();
        for _ in 0..2 {
            assert_eq!(addresses.checked("http://A.example:80/v1".into()).unwrap().as_str(), "http://a.example/v1");
            assert!(addresses.checked("http://a.example/..%2f".into()).is_err());
        }
        for number in 0..2 * REMEMBERED_MAX {
            addresses.checked(format!("http://a.example/{number}")).unwrap();
        }
        assert!(addresses.0.lock().unwrap().len() <= REMEMBERED_MAX);
    }
}
