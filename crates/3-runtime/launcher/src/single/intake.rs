//! Everything before the order is known: the bond with the parent, the socket, and the one frame that is read from it.

use std::ffi::{OsStr, OsString};

use agentos_protocol::{launch::LaunchOrder, wire};

use crate::{Failure, single::order::Order, sys};

/// An order is a command line and an environment; the kernel itself takes 128 KiB for a single argument.
const ORDER_BYTES_MAX: usize = 64 * 1024;
const PREFIX_BYTES: usize = 4;
/// The supervisor writes the order right after the spawn; a launcher that still waits then has been forgotten.
const ORDER_TIMEOUT_S: i64 = 30;

/// Ties this process to its parent, then reads and checks the order.
pub fn receive(arguments: impl Iterator<Item = OsString>, channel: i32) -> Result<Order, Failure> {
    let failed = |stage| move |message| Failure { stage, message };
    let parent = parse_arguments(arguments).map_err(failed("usage"))?;
    die_with_parent(parent).map_err(failed("parent"))?;
    open_channel(channel).map_err(failed("channel"))?;
    read_order(channel).map_err(failed("order"))
}

fn parse_arguments(mut arguments: impl Iterator<Item = OsString>) -> Result<i32, String> {
    let usage = || "usage: agent-os-launch --parent PID (started by agent-os, not by hand)".to_owned();
    let (flag, value) = (arguments.next(), arguments.next());
    if flag.as_deref() != Some(OsStr::new("--parent")) || arguments.next().is_some() {
        return Err(usage());
    }
    let pid = value.as_deref().and_then(OsStr::to_str).and_then(|text| text.parse().ok());
    pid.filter(|pid| *pid > 0).ok_or_else(usage)
}

/// First the signal, then the check: a parent that died before the signal was set has been replaced by then.
fn die_with_parent(expected: i32) -> Result<(), String> {
    sys::set_parent_death_signal().map_err(|error| format!("the parent-death signal could not be set: {error}"))?;
    match sys::parent_process() {
        actual if actual == expected => Ok(()),
        actual => Err(format!("the parent is process {actual}, not {expected}: the one that asked has ended")),
    }
}

/// The supervisor's runtime may have left the socket non-blocking; a worker starts with a blocking one.
fn open_channel(channel: i32) -> Result<(), String> {
    match sys::is_unix_stream(channel) {
        Ok(true) => {}
        Ok(false) => return Err("descriptor 0 is not a unix stream socket".into()),
        Err(error) => return Err(format!("descriptor 0 is not a socket: {error}")),
    }
    sys::set_blocking(channel).map_err(|error| format!("the socket could not be made blocking: {error}"))
}

/// Reads the prefix and then exactly the announced bytes: what follows on the socket belongs to the worker.
fn read_order(channel: i32) -> Result<Order, String> {
    let set_timeout = |seconds| {
        sys::set_receive_timeout(channel, seconds)
            .map_err(|error| format!("the receive timeout could not be set: {error}"))
    };
    set_timeout(ORDER_TIMEOUT_S)?;
    let mut prefix = [0; PREFIX_BYTES];
    read_exactly(channel, &mut prefix)?;
    let mut payload = vec![0; announced_length(prefix)?];
    read_exactly(channel, &mut payload)?;
    set_timeout(0)?;
    let order: LaunchOrder = wire::decode(&payload).map_err(|fault| fault.message)?;
    Order::check(order)
}

fn announced_length(prefix: [u8; PREFIX_BYTES]) -> Result<usize, String> {
    match u32::from_be_bytes(prefix) as usize {
        length if length <= ORDER_BYTES_MAX => Ok(length),
        length => Err(format!("an order of {length} bytes is above the limit of {ORDER_BYTES_MAX} bytes")),
    }
}

fn read_exactly(channel: i32, buffer: &mut [u8]) -> Result<(), String> {
    let wanted = buffer.len();
    let mut filled = 0;
    // Ends: every round fills at least one byte, or returns.
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match sys::receive(channel, rest) {
            Ok(0) => return Err(format!("the socket closed after {filled} of {wanted} bytes")),
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(format!("no whole order within {ORDER_TIMEOUT_S} s"));
            }
            Err(error) => return Err(format!("the socket could not be read: {error}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &[&str], expected: Option<i32>) {
        let parsed = parse_arguments(arguments.iter().map(OsString::from));
        assert_eq!(parsed.as_ref().ok().copied(), expected, "{arguments:?} gave {parsed:?}");
    }

    #[test]
    fn arguments_name_exactly_one_parent() {
        check(&["--parent", "17"], Some(17));
        check(&[], None);
        check(&["--parent"], None);
        check(&["--parent", "0"], None);
        check(&["--parent", "-1"], None);
        check(&["--parent", "x"], None);
        check(&["--paren", "17"], None);
        check(&["--parent", "17", "more"], None);
    }

    #[test]
    fn the_announced_length_is_limited() {
        let limit = u32::try_from(ORDER_BYTES_MAX).unwrap();
        assert_eq!(announced_length(limit.to_be_bytes()), Ok(ORDER_BYTES_MAX));
        assert!(announced_length((limit + 1).to_be_bytes()).is_err());
        assert!(announced_length(u32::MAX.to_be_bytes()).is_err());
    }
}
