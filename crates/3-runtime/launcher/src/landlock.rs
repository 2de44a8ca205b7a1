//! Landlock: a second wall behind mounts and network, that holds when one of them has a hole.
//!
//! The rules are derived from the order of the sandbox, so that there is no second list that could disagree with it: what is
//! mounted writable may be written, what is mounted executable may be executed, the ports of the listeners may be connected
//! to. On top, no abstract unix socket and no process outside of the sandbox can be reached. What the kernel is too old
//! for stays with the first wall, and the launcher's layers say so.

mod raw;

use std::{ffi::CString, io, os::fd::RawFd};

use agentos_protocol::sandbox::{Listener, Mount, Network, SandboxOrder};

use self::raw::{PathRule, PortRule, Ruleset};

pub const EXECUTE: u64 = 1 << 0;
pub const WRITE_FILE: u64 = 1 << 1;
pub const READ_FILE: u64 = 1 << 2;
pub const READ_DIRECTORY: u64 = 1 << 3;
const REMOVE_DIRECTORY: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIRECTORY: u64 = 1 << 7;
const MAKE_REGULAR: u64 = 1 << 8;
const MAKE_SOCKET: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_SYMLINK: u64 = 1 << 12;
/// Linking and renaming between directories.
const REFER: u64 = 1 << 13;
pub const TRUNCATE: u64 = 1 << 14;
const DEVICE_REQUESTS: u64 = 1 << 15;

const READ: u64 = READ_FILE | READ_DIRECTORY;
/// Without the making of devices (1 << 6 and 1 << 11).
const WRITE: u64 = WRITE_FILE
    | TRUNCATE
    | REMOVE_DIRECTORY
    | REMOVE_FILE
    | MAKE_DIRECTORY
    | MAKE_REGULAR
    | MAKE_SOCKET
    | MAKE_FIFO
    | MAKE_SYMLINK
    | REFER;
/// What a rule about something that is no directory may hold.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | DEVICE_REQUESTS;
/// One by one, so that a node that should not be there stays closed. A request to them asks whether they are a terminal.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

const BIND_TCP: u64 = 1 << 0;
const CONNECT_TCP: u64 = 1 << 1;

/// What this kernel's Landlock can do. 0 is a kernel without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Abi(pub u32);

impl Abi {
    pub fn probe() -> Abi {
        Abi(raw::version())
    }

    pub fn has_files(self) -> bool {
        self.0 >= 1
    }

    pub fn has_tcp(self) -> bool {
        self.0 >= 4
    }

    pub fn has_scopes(self) -> bool {
        self.0 >= 6
    }

    /// For the layer that the launcher tells of.
    pub fn detail(self) -> String {
        match self.0 {
            0 => {
                "this kernel has no Landlock, or it is not in its list of security modules (boot with lsm=landlock,...)"
                    .into()
            }
            abi if self.has_scopes() => format!("ABI {abi}: files, TCP, scopes"),
            abi if self.has_tcp() => format!("ABI {abi}: files, TCP; no scopes before Linux 6.12"),
            abi => format!("ABI {abi}: files; no TCP before Linux 6.7, no scopes before 6.12"),
        }
    }

    /// Every right about files that it knows, all of which are refused where no rule gives them.
    fn handled_files(self) -> u64 {
        match self.0 {
            0 => 0,
            1 => (1 << 13) - 1,
            2 => (1 << 14) - 1,
            3 | 4 => (1 << 15) - 1,
            _ => (1 << 16) - 1,
        }
    }

    /// Abstract unix sockets and signals.
    fn scoped(self) -> u64 {
        if self.has_scopes() { 0b11 } else { 0 }
    }
}

/// What a program inside may do, as paths inside and ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub paths: Vec<(String, u64)>,
    pub may_bind_tcp: bool,
    /// Absent: to every port.
    pub connect_tcp: Option<Vec<u16>>,
}

impl Rules {
    pub fn of(order: &SandboxOrder) -> Rules {
        // Directories that only lead to a mount can be listed, and nothing else.
        let mut paths = vec![("/".to_owned(), READ_DIRECTORY)];
        // Processes write there about themselves: their names, for example. What is dangerous is masked by mounts.
        paths.push(("/proc".to_owned(), READ | WRITE_FILE | TRUNCATE));
        for mount in &order.mounts {
            match mount {
                Mount::Bind { target, writable, executable, .. } => {
                    paths.push((target.clone(), READ | rights(*writable, *executable)));
                }
                Mount::Tmpfs { target, executable, .. } => {
                    paths.push((target.clone(), READ | rights(true, *executable)))
                }
                Mount::File { target, .. } => paths.push((target.clone(), READ)),
                // A link gives nothing: what it leads to counts.
                Mount::Symlink { .. } => {}
                Mount::Devices { .. } => {
                    paths.push(("/dev".to_owned(), READ_DIRECTORY));
                    paths.extend(DEVICES.map(|node| (node.to_owned(), READ_FILE | WRITE_FILE | DEVICE_REQUESTS)));
                    paths.push(("/dev/shm".to_owned(), READ | WRITE));
                }
            }
        }
        let (may_bind_tcp, connect_tcp) = match &order.network {
            // Handed a network, not an address: the proxy dials out and accepts at sockets that it is given.
            Network::Host => (false, None),
            Network::Own { loopback: true, .. } => (true, None),
            Network::Own { listeners, loopback: false } => {
                (false, Some(listeners.iter().filter_map(tcp_port).collect()))
            }
        };
        Rules { paths, may_bind_tcp, connect_tcp }
    }
}

fn rights(writable: bool, executable: bool) -> u64 {
    let write = if writable { WRITE } else { 0 };
    let execute = if executable { EXECUTE } else { 0 };
    write | execute
}

fn tcp_port(listener: &Listener) -> Option<u16> {
    match listener {
        Listener::Tcp(port) => Some(*port),
        Listener::Udp(_) => None,
    }
}

/// Puts the rules in force for this process and its children, for ever. The paths are looked up now, so the root must be the
/// sandbox's own. `programs` may be executed although no path leads to them: the init that follows. Needs `no_new_privs`.
pub fn restrict(abi: Abi, rules: &Rules, programs: &[RawFd]) -> io::Result<()> {
    if !abi.has_files() {
        return Ok(());
    }
    let files = abi.handled_files();
    let mut tcp = 0;
    if abi.has_tcp() {
        tcp |= if rules.may_bind_tcp { 0 } else { BIND_TCP };
        tcp |= if rules.connect_tcp.is_some() { CONNECT_TCP } else { 0 };
    }
    let ruleset = Ruleset::new(abi, files, tcp, abi.scoped())?;
    for (path, rights) in &rules.paths {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("rule for {path}: {error}"));
        let text = CString::new(path.as_str()).map_err(|_| io::ErrorKind::InvalidInput)?;
        match raw::open_path(&text) {
            Ok(place) => place.allow(&ruleset, rights & files).map_err(named)?,
            // What is not there needs no rule, and a rule that is not there gives nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(named(error)),
        }
    }
    for program in programs {
        ruleset.allow_path(&PathRule { rights: EXECUTE | READ_FILE, descriptor: *program })?;
    }
    if tcp & CONNECT_TCP != 0 {
        for port in rules.connect_tcp.iter().flatten() {
            ruleset.allow_port(&PortRule { rights: CONNECT_TCP, port: u64::from(*port) })?;
        }
    }
    ruleset.enforce()
}

#[cfg(test)]
mod tests;
