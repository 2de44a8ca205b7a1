//! Addresses that stand for names inside one sandbox. A program asks for a name, gets an address of a pool that nothing
//! else uses, and when it connects there the name is known again. The true addresses are looked up when it is dialed.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Mutex, PoisonError},
};

/// 198.18.0.0/15, reserved for benchmarks (RFC 2544) and never routed.
const POOL: u32 = 0xC612_0000;
const POOL_PREFIX: u32 = 15;
/// Names of one sandbox. More are a scan; an address is never given to a second name.
const NAMES_MAX: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct Names {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<String, u32>,
    /// Position 0 is the first address after that of the network itself.
    by_number: Vec<String>,
}

impl Names {
    /// The address of a name, the same one each time. `None` when the sandbox has used up its share.
    pub fn address(&self, name: &str) -> Option<Ipv4Addr> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match table.by_name.get(name) {
            Some(number) => *number,
            None if table.by_number.len() >= NAMES_MAX => return None,
            None => {
                table.by_number.push(name.to_owned());
                let number = u32::try_from(table.by_number.len()).ok()?;
                table.by_name.insert(name.to_owned(), number);
                number
            }
        };
        Some(Ipv4Addr::from_bits(POOL + number))
    }

    pub fn has(&self, name: &str) -> bool {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).by_name.contains_key(name)
    }

    /// The name that an address stands for.
    pub fn name(&self, address: IpAddr) -> Option<String> {
        let number = pool_number(address)?;
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.by_number.get(usize::try_from(number.checked_sub(1)?).ok()?).cloned()
    }
}

/// Whether an address belongs to the pool, with a name or without.
pub(super) fn is_in_pool(address: IpAddr) -> bool {
    pool_number(address).is_some()
}

fn pool_number(address: IpAddr) -> Option<u32> {
    let IpAddr::V4(address) = address.to_canonical() else { return None };
    let number = address.to_bits() ^ POOL;
    (number >> (32 - POOL_PREFIX) == 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_address_and_an_address_its_name() {
        let names = Names::default();
        let first = names.address("a.example").unwrap();
        let second = names.address("b.example").unwrap();
        assert_eq!((first.to_string().as_str(), second.to_string().as_str()), ("198.18.0.1", "198.18.0.2"));
        assert_eq!(names.address("a.example"), Some(first));
        assert_eq!(names.name(first.into()).as_deref(), Some("a.example"));
        assert_eq!(names.name(second.to_ipv6_mapped().into()).as_deref(), Some("b.example"));
        for foreign in ["198.18.0.0", "198.18.0.3", "198.19.255.255", "198.20.0.1", "198.17.255.255", "8.8.8.8", "::1"]
        {
            assert_eq!(names.name(foreign.parse().unwrap()), None, "{foreign}");
        }
        assert!(is_in_pool("198.19.255.255".parse().unwrap()) && !is_in_pool("198.20.0.0".parse().unwrap()));
    }

    #[test]
    fn the_share_of_a_sandbox_ends() {
        let names = Names::default();
        for number in 0..NAMES_MAX {
            assert!(names.address(&format!("{number}.example")).is_some());
        }
        assert_eq!(names.address("one-more.example"), None);
        assert!(names.address("0.example").is_some(), "what is known stays");
    }
}
