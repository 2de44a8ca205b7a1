//! A network that leads nowhere: loopback alone, every address local, and listeners that somebody outside accepts from.

use std::os::fd::{AsFd, OwnedFd};

use agentos_protocol::sandbox::{Listener, Network};

use crate::{
    channel::{CHANNEL, LISTENERS},
    sys::{
        network::{self, Netlink},
        packets,
    },
};

use super::Child;

pub fn prepare(child: &mut Child<'_>) -> Result<(), String> {
    let Network::Own { listeners, .. } = &child.order.network else { return Ok(()) };
    let netlink = Netlink::open().map_err(|error| format!("netlink: {error}"))?;
    netlink.loopback_up().map_err(|error| format!("the loopback device could not be started: {error}"))?;
    if listeners.is_empty() {
        return Ok(());
    }
    let has_v6 = network::has_family(libc::AF_INET6);
    netlink.everything_is_local(libc::AF_INET).map_err(|error| format!("the IPv4 route: {error}"))?;
    if has_v6 {
        netlink.everything_is_local(libc::AF_INET6).map_err(|error| format!("the IPv6 route: {error}"))?;
    }
    let sockets = listeners.iter().map(|listener| open(*listener, has_v6)).collect::<Result<Vec<OwnedFd>, String>>()?;
    let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    packets::send(CHANNEL, LISTENERS, &borrowed, true)
        .map_err(|error| format!("the listeners could not be handed out: {error}"))
}

fn open(listener: Listener, has_v6: bool) -> Result<OwnedFd, String> {
    let (made, kind, port) = match listener {
        Listener::Tcp(port) => (network::listen_tcp(port, has_v6), "TCP", port),
        Listener::Udp(port) => (network::receive_udp(port, has_v6), "UDP", port),
    };
    made.map_err(|error| format!("{kind} port {port} could not be opened: {error}"))
}

/// The launcher's own name stays where there is no namespace for it.
pub fn hostname(child: &mut Child<'_>) -> Result<(), String> {
    network::set_hostname(child.order.hostname.as_bytes()).map_err(|error| format!("the host name: {error}"))
}
