//! Which addresses an agent may never reach: everything that is not a public unicast address. Pure, no lookups.
//!
//! Sources: the IANA special-purpose registries (RFC 6890 and its updates), and the large clouds' metadata addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agentos_types::{Code, Fault};

use crate::HostPort;

const METADATA: &str = "cloud metadata service";

/// Refused even for an excepted name: whoever reads them holds the machine's cloud identity.
const METADATA_V4: &[Ipv4Addr] = &[
    Ipv4Addr::new(169, 254, 169, 254), // AWS, Azure, Google, Oracle, OpenStack, DigitalOcean
    Ipv4Addr::new(169, 254, 170, 2),   // AWS ECS task credentials
    Ipv4Addr::new(169, 254, 170, 23),  // AWS EKS pod identity
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba
    Ipv4Addr::new(168, 63, 129, 16),   // Azure platform channel; a public address by its number
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle, classic
];
const METADATA_V6: &[Ipv6Addr] = &[
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254), // AWS
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x23),  // AWS EKS pod identity
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254), // Google
];

/// Network, prefix length, name.
const REFUSED_V4: &[(Ipv4Addr, u32, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "unspecified network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private network"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "carrier-grade NAT"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private network"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "protocol assignments"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4 relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private network"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// The first match names the reason. What is left of 2000::/3 is public; all else outside it is refused unseen.
const REFUSED_V6: &[(Ipv6Addr, u32, &str)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::new(0x0064, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "local NAT64"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "private network"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "site-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "Teredo tunnel"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "protocol assignments"),
    (Ipv6Addr::new(0x2001, 0x0db8, 0, 0, 0, 0, 0, 0), 32, "documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "6to4 tunnel"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "documentation"),
];

/// Why the address may not be dialed; `None` for public unicast.
pub fn refuse_reason(address: IpAddr) -> Option<&'static str> {
    metadata_reason(address).or_else(|| match address {
        IpAddr::V4(address) => refuse_v4(address),
        IpAddr::V6(address) => refuse_v6(address),
    })
}

/// Why the address is refused even when its host and port are an operator's exception.
pub fn metadata_reason(address: IpAddr) -> Option<&'static str> {
    let is_metadata = match address {
        IpAddr::V4(address) => METADATA_V4.contains(&address),
        IpAddr::V6(address) => {
            METADATA_V6.contains(&address) || embedded_v4(address).any(|inner| METADATA_V4.contains(&inner))
        }
    };
    is_metadata.then_some(METADATA)
}

/// Lets a target pass only if every one of its addresses does: one bad answer among good ones is an attack or a
/// mistake, and which of them would be dialed must not depend on their order.
pub(crate) fn check_all(
    target: &HostPort,
    addresses: &[IpAddr],
    exceptions: &[HostPort],
    is_own: impl Fn(IpAddr) -> bool,
) -> Result<(), (Fault, IpAddr)> {
    let exception = exceptions.iter().find(|exception| *exception == target);
    for address in addresses {
        let reason = match exception {
            None => refuse_reason(*address).or_else(|| is_own(*address).then_some("an address of this machine")),
            Some(exception) if exception.address() == Some(*address) => None,
            Some(_) => metadata_reason(*address),
        };
        if let Some(reason) = reason {
            return Err((refused(target, *address, reason), *address));
        }
    }
    Ok(())
}

/// The address itself is for the log alone: a caller could map the inner network with it.
fn refused(target: &HostPort, address: IpAddr, reason: &str) -> Fault {
    let hint = if reason == METADATA && target.address().is_none() {
        "metadata services are refused by name; if the operator intends it, the address itself must stand in \
         `dialer.private_exceptions`"
            .to_owned()
    } else {
        format!("if the operator intends it, add `{target}` to `dialer.private_exceptions`")
    };
    Fault::new(Code::ADDRESS_DENIED, format!("{target} leads to a refused address ({reason})"))
        .hint(hint)
        .detail(format!("{target} is {address}"))
}

fn refuse_v4(address: Ipv4Addr) -> Option<&'static str> {
    let covers = |network: Ipv4Addr, prefix: u32| (address.to_bits() ^ network.to_bits()) >> (32 - prefix) == 0;
    REFUSED_V4.iter().find(|(network, prefix, _)| covers(*network, *prefix)).map(|(_, _, name)| *name)
}

fn refuse_v6(address: Ipv6Addr) -> Option<&'static str> {
    if let Some(reason) = embedded_v4(address).find_map(refuse_v4) {
        return Some(reason);
    }
    if let Some((_, _, name)) = REFUSED_V6.iter().find(|(network, prefix, _)| covers_v6(address, *network, *prefix)) {
        return Some(name);
    }
    // The packet ends at the inner IPv4 address, which was found public above. The tunnels (6to4, Teredo) are refused
    // whatever they hold: they are obsolete, and where they end is up to a relay.
    let is_translated = mapped(address).is_some() || nat64(address).is_some();
    let is_global_unicast = address.to_bits() >> 125 == 0b001;
    (!is_translated && !is_global_unicast).then_some("not a public address")
}

fn covers_v6(address: Ipv6Addr, network: Ipv6Addr, prefix: u32) -> bool {
    (address.to_bits() ^ network.to_bits()) >> (128 - prefix) == 0
}

/// Every IPv4 address that an IPv6 address stands for by one of the standard encodings.
fn embedded_v4(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let bits = address.to_bits();
    let low = Ipv4Addr::from_bits(bits as u32);
    // ::/96 was "IPv4-compatible"; ::, ::1 and the like are caught as 0/8 or by the table.
    let compatible = (bits >> 32 == 0 && bits > 1).then_some(low);
    let is_teredo = bits >> 96 == 0x2001_0000;
    let teredo_server = is_teredo.then_some(Ipv4Addr::from_bits((bits >> 64) as u32));
    let teredo_client = is_teredo.then_some(Ipv4Addr::from_bits(!(bits as u32)));
    let six_to_four = (bits >> 112 == 0x2002).then_some(Ipv4Addr::from_bits((bits >> 80) as u32));
    [mapped(address), nat64(address), compatible, six_to_four, teredo_client, teredo_server].into_iter().flatten()
}

/// ::ffff:0:0/96.
fn mapped(address: Ipv6Addr) -> Option<Ipv4Addr> {
    address.to_ipv4_mapped()
}

/// 64:ff9b::/96 (RFC 6052).
fn nat64(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    (bits >> 32 == 0x0064_ff9b << 64).then_some(Ipv4Addr::from_bits(bits as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(addresses: &[&str], reason: Option<&str>) {
        for address in addresses {
            assert_eq!(refuse_reason(address.parse().unwrap()), reason, "{address}");
        }
    }

    #[test]
    fn public_addresses_pass() {
        check(&["8.8.8.8", "1.1.1.1", "93.184.216.34", "9.255.255.255", "11.0.0.0", "100.63.255.255"], None);
        check(&["100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.0.1", "169.255.0.1", "172.15.0.1"], None);
        check(&["172.32.0.0", "192.0.1.0", "192.0.3.0", "192.167.0.1", "198.17.0.1", "198.20.0.0"], None);
        check(&["223.255.255.255", "168.63.129.15", "2606:4700::1111", "2a00:1450::1", "2001:4860::8888"], None);
        check(&["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2001:200::1", "3ffe::1"], None);
    }

    #[test]
    fn private_and_reserved_v4_are_refused() {
        check(&["0.0.0.0", "0.255.255.255"], Some("unspecified network"));
        check(&["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.1"], Some("private network"));
        check(&["100.64.0.0", "100.127.255.255"], Some("carrier-grade NAT"));
        check(&["127.0.0.1", "127.255.255.254"], Some("loopback"));
        check(&["169.254.0.1", "169.254.169.253"], Some("link-local"));
        check(&["192.0.0.1"], Some("protocol assignments"));
        check(&["192.0.2.1", "198.51.100.1", "203.0.113.255"], Some("documentation"));
        check(&["192.88.99.1"], Some("6to4 relay"));
        check(&["198.18.0.0", "198.19.255.255"], Some("benchmarking"));
        check(&["224.0.0.1", "239.255.255.255"], Some("multicast"));
        check(&["240.0.0.1", "255.255.255.255"], Some("reserved"));
    }

    #[test]
    fn private_and_reserved_v6_are_refused() {
        check(&["::"], Some("unspecified"));
        check(&["::1"], Some("loopback"));
        check(&["fc00::1", "fdff::1"], Some("private network"));
        check(&["fe80::1", "febf::1"], Some("link-local"));
        check(&["fec0::1", "feff::1"], Some("site-local"));
        check(&["ff02::1"], Some("multicast"));
        check(&["2001:db8::1", "3fff::1"], Some("documentation"));
        check(&["2001:2::1", "2001:10::1", "2001:1ff::1"], Some("protocol assignments"));
        check(&["64:ff9b:1::1"], Some("local NAT64"));
        check(&["100::1", "4000::1", "5f00::1", "1::1", "64:ff9b:0:1::808:808"], Some("not a public address"));
    }

    #[test]
    fn embedded_v4_is_decoded_first() {
        check(&["::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "::127.0.0.1"], Some("loopback"));
        check(&["::ffff:10.1.2.3", "64:ff9b::192.168.0.1", "2002:c0a8:1::"], Some("private network"));
        // Teredo: the server at bits 32-63, the client inverted in the last 32.
        check(&["2001:0:7f00:1::f7f7:f7f7", "2001:0:808:808::80ff:fffe"], Some("loopback"));
        check(&["2001:0:808:808::f7f7:f7f7"], Some("Teredo tunnel"));
        check(&["2002:808:808::1"], Some("6to4 tunnel"));
        check(&["::8.8.8.8"], Some("not a public address"));
    }

    #[test]
    fn metadata_is_named() {
        check(
            &["169.254.169.254", "100.100.100.200", "168.63.129.16", "169.254.170.2", "fd00:ec2::254"],
            Some(METADATA),
        );
        check(&["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::a9fe:a9fe"], Some(METADATA));
    }

    /// Asks for `target` with the exceptions given and tells what came of it.
    fn ask(target: &str, addresses: &[&str], exceptions: &[&str]) -> Option<Code> {
        let exceptions: Vec<HostPort> = exceptions.iter().map(|text| text.parse().unwrap()).collect();
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let own: IpAddr = "93.184.216.35".parse().unwrap();
        check_all(&target.parse().unwrap(), &addresses, &exceptions, |ip| ip == own).err().map(|(fault, _)| fault.code)
    }

    #[test]
    fn one_bad_answer_refuses_all() {
        let denied = Some(Code::ADDRESS_DENIED);
        assert_eq!(ask("a.example:80", &["8.8.8.8", "2606:4700::1111"], &[]), None);
        assert_eq!(ask("a.example:80", &["8.8.8.8", "10.0.0.1"], &[]), denied);
        assert_eq!(ask("a.example:80", &["10.0.0.1", "8.8.8.8"], &[]), denied);
        assert_eq!(ask("a.example:80", &["93.184.216.35"], &[]), denied, "an address of this machine");
    }

    #[test]
    fn an_exception_is_one_host_and_one_port() {
        let denied = Some(Code::ADDRESS_DENIED);
        assert_eq!(ask("a.example:80", &["10.0.0.1"], &["a.example:80"]), None);
        assert_eq!(ask("a.example:81", &["10.0.0.1"], &["a.example:80"]), denied);
        assert_eq!(ask("b.a.example:80", &["10.0.0.1"], &["a.example:80"]), denied);
        assert_eq!(ask("10.0.0.1:80", &["10.0.0.1"], &["a.example:80"]), denied, "as written, not as resolved");
        assert_eq!(ask("a.example:80", &["10.0.0.1"], &["10.0.0.1:80"]), denied, "as written, not as resolved");
    }

    #[test]
    fn an_exception_opens_metadata_only_by_address() {
        let denied = Some(Code::ADDRESS_DENIED);
        assert_eq!(ask("a.example:80", &["169.254.169.254"], &["a.example:80"]), denied);
        assert_eq!(ask("a.example:80", &["::ffff:169.254.169.254"], &["a.example:80"]), denied);
        assert_eq!(ask("169.254.169.254:80", &["169.254.169.254"], &["169.254.169.254:80"]), None);
        assert_eq!(ask("169.254.169.254:81", &["169.254.169.254"], &["169.254.169.254:80"]), denied);
    }

    #[test]
    fn the_refusal_tells_the_operator_and_not_the_agent() {
        let target: HostPort = "inner.example:80".parse().unwrap();
        let (fault, address) = check_all(&target, &["10.9.8.7".parse().unwrap()], &[], |_| false).unwrap_err();
        assert_eq!(address.to_string(), "10.9.8.7");
        assert_eq!(fault.message, "inner.example:80 leads to a refused address (private network)");
        assert!(fault.hint.unwrap().contains("add `inner.example:80` to `dialer.private_exceptions`"));
        assert!(fault.detail.unwrap().contains("10.9.8.7"));
    }
}
