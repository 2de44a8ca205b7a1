//! An order, read as if an enemy had written it. Pure: no system call is made here, so whether a source exists and is no
//! link shows only when it is opened.

#[path = "../../init/plan.rs"]
pub mod block;
mod open;
mod paths;
mod plan;

use std::collections::BTreeSet;

use agentos_protocol::sandbox::{
    Descriptor, Listener, Mount, Network, PACKET_BYTES_MAX, SANDBOX_VERSION, SandboxOrder, ToLauncher,
};
use agentos_protocol::wire;

pub use open::without_walls;
pub use paths::check_plain;
pub use plan::plan;

/// A shell tool passes long lists of files; the packet bounds their length.
const ARGUMENTS_MAX: usize = 1024;
const VARIABLES_MAX: usize = 512;
/// Each costs a few system calls at every start.
const MOUNTS_MAX: usize = 128;
/// They are handed out in one message with the pidfd.
const LISTENERS_MAX: usize = 56;
/// The kernel's own limit for a host name.
const HOSTNAME_BYTES_MAX: usize = 64;
const APPARMOR_BYTES_MAX: usize = 255;
const NICE_MAX: i32 = 19;
/// More is a slip of the pen: the machine's memory ends far below.
const TMPFS_BYTES_MAX: u64 = 1 << 44;

/// Why an order is refused, and which one it was. 0 stands for an order whose number could not be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub id: u64,
    pub message: String,
}

/// Reads one packet of the server with as many descriptors as came along.
pub fn read(packet: &[u8], descriptors: usize) -> Result<SandboxOrder, Refused> {
    if packet.len() > PACKET_BYTES_MAX {
        return Err(Refused { id: 0, message: format!("a packet above the limit of {PACKET_BYTES_MAX} bytes") });
    }
    let ToLauncher::Spawn(order) = wire::decode(packet).map_err(|fault| {
        let id = serde_json::from_slice::<serde_json::Value>(packet).ok().and_then(|value| value.get("id")?.as_u64());
        Refused { id: id.unwrap_or(0), message: fault.message }
    })?;
    match check(&order, descriptors) {
        Ok(()) => Ok(*order),
        Err(message) => Err(Refused { id: order.id, message }),
    }
}

fn check(order: &SandboxOrder, descriptors: usize) -> Result<(), String> {
    if order.version != SANDBOX_VERSION {
        return Err(format!("order version {} is not supported, only {SANDBOX_VERSION}", order.version));
    }
    check_program(order)?;
    check_environment(order)?;
    at_most("mounts", order.mounts.len(), MOUNTS_MAX)?;
    order.mounts.iter().try_for_each(check_mount)?;
    if order.mounts.iter().filter(|mount| matches!(mount, Mount::Devices { .. })).count() > 1 {
        return Err("devices are mounted twice".into());
    }
    check_network(&order.network)?;
    check_descriptors(&order.descriptors, descriptors)?;
    check_hostname(&order.hostname)?;
    if !(0..=NICE_MAX).contains(&order.nice) {
        return Err(format!("nice level {} is not between 0 and {NICE_MAX}", order.nice));
    }
    if order.processors == Some(0) {
        return Err("0 processors: nothing could run".into());
    }
    if order.host_id == Some(0) {
        return Err("host_id is 0: nothing inside may be the host's root".into());
    }
    match order.host_gid {
        Some(0) => return Err("host_gid is 0: nothing inside may be in the group of the host's root".into()),
        Some(_) if order.host_id.is_none() => return Err("host_gid without host_id: a group is that of a user".into()),
        _ => {}
    }
    order.apparmor.as_deref().map_or(Ok(()), check_apparmor)
}

fn check_program(order: &SandboxOrder) -> Result<(), String> {
    at_most("arguments", order.command.len(), ARGUMENTS_MAX)?;
    let program = order.command.first().ok_or("the command is empty")?;
    check_plain("program", program)?;
    if order.directory != "/" {
        check_plain("directory", &order.directory)?;
    }
    match order.command.iter().any(|word| word.contains('\0')) {
        true => Err("an argument holds a NUL byte".into()),
        false => Ok(()),
    }
}

/// `LD_*` is refused because it makes the dynamic loader run other code than the program that was named.
fn check_environment(order: &SandboxOrder) -> Result<(), String> {
    at_most("variables", order.environment.len(), VARIABLES_MAX)?;
    for (name, value) in &order.environment {
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !(starts_well && is_word) {
            return Err(format!("'{}' is not a variable name", name.escape_debug()));
        }
        if name.starts_with("LD_") {
            return Err(format!("the variable {name} would steer the dynamic loader and is refused"));
        }
        if value.contains('\0') {
            return Err(format!("the variable {name} holds a NUL byte"));
        }
    }
    Ok(())
}

fn check_mount(mount: &Mount) -> Result<(), String> {
    match mount {
        Mount::Bind { source, target, .. } => {
            check_plain("source", source)?;
            check_plain("target", target)
        }
        Mount::Tmpfs { target, bytes, inodes, .. } => {
            check_plain("target", target)?;
            check_size(target, *bytes)?;
            // For the kernel 0 is no limit.
            match inodes {
                0 => Err(format!("{target} has no limit of inodes")),
                _ => Ok(()),
            }
        }
        Mount::Symlink { target, to } => {
            check_plain("target", target)?;
            match to.is_empty() || to.len() > paths::PATH_BYTES_MAX || to.contains('\0') {
                true => Err(format!("the link {target} leads to no path")),
                false => Ok(()),
            }
        }
        Mount::File { target, .. } => check_plain("target", target),
        Mount::Devices { shm_bytes } => check_size("/dev/shm", *shm_bytes),
    }
}

fn check_size(target: &str, bytes: u64) -> Result<(), String> {
    match bytes {
        // For the kernel 0 is no limit.
        0 => Err(format!("{target} has no limit of bytes")),
        1..=TMPFS_BYTES_MAX => Ok(()),
        _ => Err(format!("{target}: {bytes} bytes are above the limit of {TMPFS_BYTES_MAX}")),
    }
}

fn check_network(network: &Network) -> Result<(), String> {
    let Network::Own { listeners, .. } = network else { return Ok(()) };
    at_most("listeners", listeners.len(), LISTENERS_MAX)?;
    let mut seen = BTreeSet::new();
    for listener in listeners {
        let (kind, port) = match listener {
            Listener::Tcp(port) => ("tcp", *port),
            Listener::Udp(port) => ("udp", *port),
        };
        if port == 0 {
            return Err(format!("a {kind} listener has port 0"));
        }
        if !seen.insert((kind, port)) {
            return Err(format!("two {kind} listeners have port {port}"));
        }
    }
    Ok(())
}

fn check_descriptors(kinds: &[Descriptor], descriptors: usize) -> Result<(), String> {
    if kinds.len() != descriptors {
        return Err(format!("the order names {} descriptors and {descriptors} came with it", kinds.len()));
    }
    let mut seen = Vec::new();
    for kind in kinds {
        if *kind != Descriptor::CgroupProcs && seen.contains(&kind) {
            return Err(format!("the descriptor {kind:?} comes twice"));
        }
        seen.push(kind);
    }
    Ok(())
}

fn check_hostname(name: &str) -> Result<(), String> {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    match !name.is_empty() && name.len() <= HOSTNAME_BYTES_MAX && is_word {
        true => Ok(()),
        false => Err(format!("'{}' is not a host name", name.escape_debug())),
    }
}

fn check_apparmor(name: &str) -> Result<(), String> {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte));
    match !name.is_empty() && name.len() <= APPARMOR_BYTES_MAX && is_word {
        true => Ok(()),
        false => Err(format!("'{}' is not the name of an AppArmor profile", name.escape_debug())),
    }
}

fn at_most(what: &str, count: usize, limit: usize) -> Result<(), String> {
    match count <= limit {
        true => Ok(()),
        false => Err(format!("{count} {what} are above the limit of {limit}")),
    }
}

#[cfg(test)]
mod tests;
