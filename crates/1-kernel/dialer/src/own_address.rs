//! Is an address one of this machine's own? Its public address leads to services that listen on all interfaces (the
//! gateway, a database), so it is as private as loopback.
//!
//! Asked of the kernel by binding a UDP socket, which sends nothing and works for addresses that come and go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// What this machine can tell about its addresses.
#[derive(Debug)]
pub(crate) struct OwnAddresses {
    /// With `net.ipv4.ip_nonlocal_bind` (high-availability pairs) every address can be bound: there is no answer.
    is_v4_known: bool,
    is_v6_known: bool,
}

impl OwnAddresses {
    pub(crate) fn probe() -> Self {
        // Documentation addresses, which no machine has.
        let is_v4_known = !can_bind(Ipv4Addr::new(192, 0, 2, 1).into());
        let is_v6_known = !can_bind(Ipv6Addr::new(0x2001, 0x0db8, 0, 0, 0, 0, 0, 1).into());
        if !is_v4_known || !is_v6_known {
            tracing::warn!("foreign addresses can be bound here: public addresses of this machine are not told apart");
        }
        Self { is_v4_known, is_v6_known }
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let is_known = if address.is_ipv4() { self.is_v4_known } else { self.is_v6_known };
        is_known && can_bind(address)
    }
}

fn can_bind(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_own_and_a_resolver_is_not() {
        let own = OwnAddresses { is_v4_known: true, is_v6_known: true };
        assert!(own.contains(Ipv4Addr::LOCALHOST.into()));
        let unsure = OwnAddresses { is_v4_known: false, is_v6_known: false };
        assert!(!unsure.contains(Ipv4Addr::LOCALHOST.into()));
        let probed = OwnAddresses::probe();
        assert!(!probed.contains(Ipv4Addr::new(8, 8, 8, 8).into()));
    }
}
