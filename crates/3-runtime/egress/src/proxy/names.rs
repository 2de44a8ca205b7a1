//! Addresses that stand for names inside one sandbox. A program asks for a name, gets an address of a pool that nothing
//! else uses, and when it connects there the name is known again. The true addresses are looked up when it is dialed.
//!
//! Which address belongs to which name the server decides and remembers: programs keep addresses for longer than a proxy
//! lives. Here is what this proxy was told; an address that it was not told of leads nowhere.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Mutex, PoisonError},
};

use agentos_protocol::egress::NAMES_MAX;

/// 198.18.0.0/15, reserved for benchmarks (RFC 2544) and never routed.
const POOL: u32 = 0xC612_0000;
const POOL_PREFIX: u32 = 15;

#[derive(Debug, Default)]
pub(super) struct Names {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<String, u32>,
    /// With holes where the server gave a number to somebody who has died before he could tell.
    by_number: HashMap<u32, String>,
}

impl Names {
    /// The address that goes with the number that the server gave to a name. `None` if either is known to belong to
    /// another, which no server says.
    pub fn learn(&self, name: &str, number: u32) -> Option<Ipv4Addr> {
        if usize::try_from(number).ok()? >= NAMES_MAX {
            return None;
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = table.by_number.get(&number).is_some_and(|known| known != name)
            || table.by_name.get(name).is_some_and(|known| *known != number);
        if is_other {
            return None;
        }
        table.by_name.insert(name.to_owned(), number);
        table.by_number.insert(number, name.to_owned());
        // The first address is that of the network itself.
        Some(Ipv4Addr::from_bits(POOL + 1 + number))
    }

    pub fn has(&self, name: &str) -> bool {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).by_name.contains_key(name)
    }

    /// The name that an address stands for.
    pub fn name(&self, address: IpAddr) -> Option<String> {
        let number = pool_number(address)?.checked_sub(1)?;
        self.table.lock().unwrap_or_else(PoisonError::into_inner).by_number.get(&number).cloned()
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
        let first = names.learn("a.example", 0).unwrap();
        let second = names.learn("b.example", 1).unwrap();
        assert_eq!((first.to_string().as_str(), second.to_string().as_str()), ("198.18.0.1", "198.18.0.2"));
        assert_eq!(names.learn("a.example", 0), Some(first));
        assert_eq!(names.name(first.into()).as_deref(), Some("a.example"));
        assert_eq!(names.name(second.to_ipv6_mapped().into()).as_deref(), Some("b.example"));
        for foreign in ["198.18.0.0", "198.18.0.3", "198.19.255.255", "198.20.0.1", "198.17.255.255", "8.8.8.8", "::1"]
        {
            assert_eq!(names.name(foreign.parse().unwrap()), None, "{foreign}");
        }
        assert!(is_in_pool("198.19.255.255".parse().unwrap()) && !is_in_pool("198.20.0.0".parse().unwrap()));
    }

    #[test]
    fn what_contradicts_itself_or_leaves_the_pool_is_not_learned() {
        let names = Names::default();
        let last = u32::try_from(NAMES_MAX).unwrap() - 1;
        let address = names.learn("a.example", last).unwrap();
        assert!(is_in_pool(address.into()));
        for (name, number) in [("b.example", last), ("a.example", 3), ("c.example", last + 1), ("c.example", u32::MAX)]
        {
            assert_eq!(names.learn(name, number), None, "{name} {number}");
        }
        assert!(!names.has("b.example") && !names.has("c.example"));
        assert_eq!(names.name(address.into()).as_deref(), Some("a.example"));
        assert_eq!(names.name("198.18.0.4".parse().unwrap()), None);
    }
}
