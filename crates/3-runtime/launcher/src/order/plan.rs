//! What the sandbox's first process needs of an order, in the form that it reads (`init/plan.rs`).

use std::io;

use agentos_protocol::sandbox::{Profile, SandboxOrder};

use super::block::Header;
use crate::{
    left_out,
    seccomp::closing::{self, Closing},
};

/// Of a checked order.
pub fn plan(profile: Profile, order: &SandboxOrder) -> io::Result<Vec<u8>> {
    let closing = closing::of(profile)?.unwrap_or_default();
    let mut bytes = header(order, &closing).ok_or(io::ErrorKind::InvalidInput)?;
    bytes.extend(closing.filter.iter().flat_map(closing::bytes_of));
    let mut word = |parts: &[&str]| {
        parts.iter().for_each(|part| bytes.extend_from_slice(part.as_bytes()));
        bytes.push(0);
    };
    word(&[&order.directory]);
    order.command.iter().for_each(|text| word(&[text]));
    order.environment.iter().for_each(|(name, value)| word(&[name, "=", value]));
    Ok(bytes)
}

fn header(order: &SandboxOrder, closing: &Closing) -> Option<Vec<u8>> {
    let header = Header {
        command: order.command.len().try_into().ok()?,
        environment: order.environment.len().try_into().ok()?,
        filter: closing.filter.len().try_into().ok()?,
        is_open: left_out::is("init").into(),
        places: closing.places,
    };
    let counts = [header.command, header.environment, header.filter, header.is_open];
    let counts = counts.into_iter().flat_map(u32::to_ne_bytes);
    Some(counts.chain(header.places.into_iter().flat_map(u64::to_ne_bytes)).collect())
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::super::block::{HEADER_BYTES, Plan};

    fn block(counts: [u32; 4], rest: &[u8]) -> Vec<u8> {
        let header = counts.into_iter().flat_map(u32::to_ne_bytes).chain(iter::repeat_n(7, 24));
        header.chain(rest.iter().copied()).collect()
    }

    #[test]
    fn a_plan_that_is_cut_is_no_plan() {
        for (counts, rest) in [
            ([1, 0, 0, 0], &b""[..]),
            ([1, 0, 0, 0], b"/"),
            ([1, 0, 0, 0], b"/\0"),
            ([0, 0, 0, 0], b"/\0"),
            ([2, 0, 0, 0], b"/\0a\0"),
            ([1, 0, 0, 0], b"/\0a"),
            ([1, 0, 0, 0], b"/\0a\0b\0"),
            ([1, u32::MAX, 0, 0], b"/\0a\0b\0"),
            ([1, 0, 2, 0], b"instruct/\0a\0"),
            ([1, 0, u32::MAX, 0], b"instruct/\0a\0"),
        ] {
            assert_eq!(Plan::read(&block(counts, rest)), None, "{counts:?} {rest:?}");
        }
        assert_eq!(Plan::read(&[0; HEADER_BYTES - 1]), None);
        let whole = block([1, 1, 1, 1], b"instruct/\0a\0B=c\0");
        let plan = Plan::read(&whole).unwrap();
        assert_eq!((plan.filter, plan.directory, plan.header.is_open), (&b"instruct"[..], &b"/\0"[..], 1));
        assert_eq!(plan.header.places, [0x0707_0707_0707_0707; 3]);
        assert!(plan.command().eq([&b"a\0"[..]]) && plan.environment().eq([&b"B=c\0"[..]]));
    }
}
