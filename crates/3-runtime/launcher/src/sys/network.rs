//! A network namespace made usable: its loopback device up, every address local to it, and sockets that catch all of them.

use std::{
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use super::check;

/// The loopback device is the first one of every network namespace.
const LOOPBACK_INDEX: u32 = 1;

fn socket(domain: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: socket takes three integers.
    let descriptor = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[repr(C)]
struct RouteMessage {
    header: libc::nlmsghdr,
    route: Route,
    interface: Attribute,
}

/// `struct rtmsg` of rtnetlink(7).
#[repr(C)]
struct Route {
    family: u8,
    destination_length: u8,
    source_length: u8,
    type_of_service: u8,
    table: u8,
    protocol: u8,
    scope: u8,
    kind: u8,
    flags: u32,
}

#[repr(C)]
struct Attribute {
    length: u16,
    kind: u16,
    value: u32,
}

#[repr(C)]
struct LinkMessage {
    header: libc::nlmsghdr,
    link: Link,
}

/// `struct ifinfomsg` of rtnetlink(7).
#[repr(C)]
struct Link {
    family: u8,
    padding: u8,
    kind: u16,
    index: u32,
    flags: u32,
    change: u32,
}

/// A conversation with the kernel about this namespace's network.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)? })
    }

    pub fn loopback_up(&self) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        let link = Link { family: 0, padding: 0, kind: 0, index: LOOPBACK_INDEX, flags: up, change: up };
        let header = header(mem::size_of::<LinkMessage>(), libc::RTM_NEWLINK, 0);
        self.ask(&LinkMessage { header, link })
    }

    /// `ip route add local 0.0.0.0/0 dev lo`, or `::/0`.
    pub fn everything_is_local(&self, family: libc::c_int) -> io::Result<()> {
        let route = Route {
            family: family as u8,
            destination_length: 0,
            source_length: 0,
            type_of_service: 0,
            table: libc::RT_TABLE_LOCAL,
            protocol: libc::RTPROT_BOOT,
            scope: libc::RT_SCOPE_HOST,
            kind: libc::RTN_LOCAL,
            flags: 0,
        };
        let interface =
            Attribute { length: mem::size_of::<Attribute>() as u16, kind: libc::RTA_OIF, value: LOOPBACK_INDEX };
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let header = header(mem::size_of::<RouteMessage>(), libc::RTM_NEWROUTE, flags);
        self.ask(&RouteMessage { header, route, interface })
    }

    /// Sends a request and reads its acknowledgement.
    fn ask<M>(&self, message: &M) -> io::Result<()> {
        let socket = self.socket.as_raw_fd();
        // SAFETY: the pointer and the size are those of one live structure of plain integers without padding.
        let sent = unsafe { libc::send(socket, (&raw const *message).cast(), mem::size_of::<M>(), 0) };
        if sent == -1 {
            return Err(io::Error::last_os_error());
        }
        #[repr(C)]
        struct Answer {
            header: libc::nlmsghdr,
            error: i32,
            rest: [u8; 256],
        }
        // SAFETY: the structure is plain integers, for which zero is a valid value.
        let mut answer: Answer = unsafe { mem::zeroed() };
        // SAFETY: the pointer and the size are those of one live, writable structure.
        let received = unsafe { libc::recv(socket, (&raw mut answer).cast(), mem::size_of::<Answer>(), 0) };
        if received == -1 {
            return Err(io::Error::last_os_error());
        }
        match answer.error {
            _ if i32::from(answer.header.nlmsg_type) != libc::NLMSG_ERROR => Err(io::ErrorKind::InvalidData.into()),
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

fn header(length: usize, kind: u16, flags: libc::c_int) -> libc::nlmsghdr {
    libc::nlmsghdr {
        nlmsg_len: length as u32,
        nlmsg_type: kind,
        nlmsg_flags: (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16,
        nlmsg_seq: 1,
        nlmsg_pid: 0,
    }
}

pub fn has_family(family: libc::c_int) -> bool {
    socket(family, libc::SOCK_DGRAM, 0).is_ok()
}

/// Connections that wait for the proxy; the kernel cuts this to its own limit.
const BACKLOG: libc::c_int = 128;

/// Listens at every address of IPv6 and IPv4 together.
pub fn listen_tcp(port: u16, has_v6: bool) -> io::Result<OwnedFd> {
    let listener = bound(libc::SOCK_STREAM, port, has_v6)?;
    // SAFETY: listen takes two integers.
    check(unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) })?;
    Ok(listener)
}

/// Receives at every address, and tells at which one, so that answers can come from there.
pub fn receive_udp(port: u16, has_v6: bool) -> io::Result<OwnedFd> {
    let receiver = bound(libc::SOCK_DGRAM, port, has_v6)?;
    if has_v6 {
        set_option(&receiver, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        // An answer comes from the address that was asked, which no device has.
        set_option(&receiver, libc::IPPROTO_IPV6, libc::IPV6_FREEBIND, 1)?;
    } else {
        // Not in addition: a socket of both families tells mapped addresses in the form of IPv6, and whoever reads it has
        // room for one form.
        set_option(&receiver, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
    }
    Ok(receiver)
}

fn bound(kind: libc::c_int, port: u16, has_v6: bool) -> io::Result<OwnedFd> {
    if has_v6 {
        let socket = socket(libc::AF_INET6, kind, 0)?;
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
        set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        // SAFETY: the address is plain integers, for which zero is a valid value: every address.
        let mut address: libc::sockaddr_in6 = unsafe { mem::zeroed() };
        address.sin6_family = libc::AF_INET6 as _;
        address.sin6_port = port.to_be();
        let length = mem::size_of_val(&address) as libc::socklen_t;
        // SAFETY: the pointer is to a live local, and the length is its size.
        check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
        return Ok(socket);
    }
    let socket = socket(libc::AF_INET, kind, 0)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    // SAFETY: the address is plain integers, for which zero is a valid value: every address.
    let mut address: libc::sockaddr_in = unsafe { mem::zeroed() };
    address.sin_family = libc::AF_INET as _;
    address.sin_port = port.to_be();
    let length = mem::size_of_val(&address) as libc::socklen_t;
    // SAFETY: the pointer is to a live local, and the length is its size.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(socket)
}

fn set_option(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointer is to a live local, and the length is its size.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) }).map(drop)
}

pub fn set_hostname(name: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of one live slice.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}
