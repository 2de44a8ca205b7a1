//! A network of its own for each test: ports below 1024, every address local to it as inside a sandbox, and nothing of the
//! machine in reach. The test runs itself again in there.

use std::{
    net::{Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

/// The second run is told by its name that it is the second.
const INSIDE: &str = "AGENTOS_EGRESS_TEST_INSIDE";
const PREPARE: &str = "ip link set lo up && ip route add local 0.0.0.0/0 dev lo && \
    { ip -6 route add local ::/0 dev lo || true; } && exec \"$0\" \"$@\"";

/// A test whose body runs in a network of its own.
macro_rules! inside {
    ($(fn $name:ident() $body:block)*) => {$(
        #[test]
        fn $name() {
            crate::proxy::network::run(concat!(module_path!(), "::", stringify!($name)), || $body);
        }
    )*};
}
pub(crate) use inside;

pub fn run(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let name = name.split_once("::").unwrap().1;
    let program = std::env::current_exe().unwrap();
    // `setpriv` in front of it would hide the test from who kills a hanging one; the child dies with `unshare`.
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--kill-child", "--fork", "--", "sh", "-c", PREPARE])
        .arg(program)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .status()
        .expect("unshare(1) of util-linux");
    assert!(status.success(), "{name} failed inside of its network");
}

pub fn any(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

/// Beside one that is bound to all addresses there may be one that is bound to a single one.
pub fn bound(address: SocketAddr, kind: SocketType) -> OwnedFd {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    sockopt::set_socket_reuseport(&socket, true).unwrap();
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false).unwrap();
    }
    bind(&socket, &address).unwrap();
    socket
}

pub fn tcp_listener(address: SocketAddr) -> OwnedFd {
    let socket = bound(address, SocketType::STREAM);
    listen(&socket, 128).unwrap();
    socket
}
