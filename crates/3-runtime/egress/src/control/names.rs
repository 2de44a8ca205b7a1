//! The names that programs of one sandbox were told an address for. The numbers of their addresses are given here and not
//! by the proxy, because programs remember addresses for longer than a proxy lives: one that was replaced must not give the
//! address of one name to another. Only grows.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use agentos_protocol::egress::NAMES_MAX;

/// Bytes of all of them with their quotes and commas: they have to fit into the one message that attaches the sandbox to a
/// proxy, beside its hosts and the certificate of its authority.
const NAMES_BYTES_MAX: usize = 128 * 1024;
const AROUND_EACH: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Given>);

#[derive(Debug, Default)]
struct Given {
    numbers: HashMap<String, u32>,
    by_number: Vec<String>,
    bytes: usize,
}

impl Names {
    /// The number of a name, the same one each time. `None` when the sandbox has used up its share.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.with(|given| {
            if let Some(number) = given.numbers.get(name) {
                return Some(*number);
            }
            let bytes = given.bytes + name.len() + AROUND_EACH;
            if given.by_number.len() >= NAMES_MAX || bytes > NAMES_BYTES_MAX {
                return None;
            }
            let number = u32::try_from(given.by_number.len()).ok()?;
            given.bytes = bytes;
            given.by_number.push(name.to_owned());
            given.numbers.insert(name.to_owned(), number);
            Some(number)
        })
    }

    /// In the order of their numbers.
    pub fn all(&self) -> Vec<String> {
        self.with(|given| given.by_number.clone())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Given) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_belongs_to_one_name_for_ever() {
        let names = Names::default();
        assert_eq!((names.number("a.example"), names.number("b.example")), (Some(0), Some(1)));
        assert_eq!(names.number("a.example"), Some(0));
        assert_eq!(names.all(), ["a.example", "b.example"]);
    }

    #[test]
    fn the_share_of_a_sandbox_ends_by_count_and_by_bytes() {
        let names = Names::default();
        for number in 0..NAMES_MAX {
            assert!(names.number(&format!("{number}.example")).is_some());
        }
        assert_eq!(names.number("one-more.example"), None);
        assert_eq!(names.number("0.example"), Some(0), "what is known stays");
        let names = Names::default();
        let long = |number: usize| format!("{number:0>200}.example");
        let given = (0..NAMES_MAX).take_while(|number| names.number(&long(*number)).is_some()).count();
        assert!(given < NAMES_MAX && serde_json::to_vec(&names.all()).unwrap().len() <= NAMES_BYTES_MAX, "{given}");
        assert_eq!(names.number(&long(0)), Some(0));
    }
}
