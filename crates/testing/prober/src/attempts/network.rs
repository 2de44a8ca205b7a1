//! Ways out that an agent would try first. There is no route: what is not caught by a listener ends here.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddress, UnixStream},
    },
    time::Duration,
};

use crate::{Attempt, Facts, Outcome, Wall::*, kernel, kernel::Errno};

const WAIT: Duration = Duration::from_millis(300);

pub const ATTEMPTS: &[Attempt] = &[
    Attempt {
        name: "host-tcp-service",
        what: "connect to a service on the host's loopback",
        walls: &[Network, Landlock],
        run: |f| connect(Ipv4Addr::LOCALHOST.into(), f.tcp_port),
    },
    Attempt {
        name: "host-tcp-service-by-ipv6",
        what: "the same by IPv6",
        walls: &[Network, Landlock],
        run: |f| connect(std::net::Ipv6Addr::LOCALHOST.into(), f.tcp_port),
    },
    Attempt {
        name: "host-tcp-service-mapped",
        what: "the same by an IPv4 address within IPv6",
        walls: &[Network, Landlock],
        run: |f| connect(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), f.tcp_port),
    },
    Attempt {
        name: "host-udp-service",
        what: "talk to a UDP service on the host's loopback",
        walls: &[Network],
        run: |f| talk(Ipv4Addr::LOCALHOST, f.udp_port),
    },
    Attempt {
        name: "metadata-service",
        what: "the metadata service of a cloud",
        walls: &[Network, Kernel],
        run: |f| far(f, |_| connect(Ipv4Addr::new(169, 254, 169, 254).into(), 80)),
    },
    Attempt {
        name: "public-address",
        what: "a public address",
        walls: &[Network, Kernel],
        run: |f| far(f, |_| connect(Ipv4Addr::new(8, 8, 8, 8).into(), 443)),
    },
    Attempt {
        name: "private-address",
        what: "a private address",
        walls: &[Network, Kernel],
        run: |f| far(f, |_| connect(Ipv4Addr::new(10, 0, 0, 1).into(), 22)),
    },
    Attempt {
        name: "public-name-server",
        what: "ask a public name server",
        walls: &[Network, Kernel],
        run: |f| far(f, |_| talk(Ipv4Addr::new(8, 8, 8, 8), 53)),
    },
    Attempt {
        name: "quic",
        what: "QUIC to a public address",
        walls: &[Network, Kernel],
        run: |f| far(f, |_| talk(Ipv4Addr::new(8, 8, 8, 8), 443)),
    },
    Attempt {
        name: "connect-while-sending",
        what: "TCP fast open, which no rule about ports sees",
        walls: &[Network, Seccomp],
        run: |f| send_fast(f, libc::SYS_sendto),
    },
    Attempt {
        name: "connect-while-sending-message",
        what: "the same by sendmsg",
        walls: &[Network, Seccomp],
        run: |f| send_fast(f, libc::SYS_sendmsg),
    },
    Attempt {
        name: "connect-later",
        what: "the same by an option of the socket",
        walls: &[Network, Seccomp, Landlock],
        run: connect_later,
    },
    Attempt {
        name: "bind-port",
        what: "listen on a port",
        walls: &[Landlock],
        run: |_| Outcome::of_io(TcpListener::bind("127.0.0.1:0")),
    },
    Attempt {
        name: "listen-without-bind",
        what: "serve on a port that is not named",
        walls: &[Landlock],
        run: listen_without_bind,
    },
    Attempt { name: "interface-requests", what: "change a network interface", walls: &[Capabilities], run: interface },
    Attempt {
        name: "host-abstract-socket",
        what: "an abstract unix socket of the host",
        walls: &[Network, Landlock],
        run: abstract_socket,
    },
    Attempt {
        name: "host-path-socket",
        what: "a unix socket of another agent, by its path",
        walls: &[Mounts],
        run: |f| Outcome::of_io(UnixStream::connect(&f.socket_path)),
    },
    Attempt {
        name: "docker-socket",
        what: "the socket of Docker",
        walls: &[Mounts, Kernel],
        run: |_| {
            any_socket(&[
                "/var/run/docker.sock",
                "/run/docker.sock",
                "/run/containerd/containerd.sock",
                "/run/podman/podman.sock",
            ])
        },
    },
    Attempt {
        name: "bus-socket",
        what: "the system bus, systemd, the name service",
        walls: &[Mounts, Kernel],
        run: |_| {
            any_socket(&[
                "/run/dbus/system_bus_socket",
                "/run/systemd/private",
                "/run/nscd/socket",
                "/run/systemd/journal/socket",
            ])
        },
    },
];

fn far(facts: &Facts, attempt: impl Fn(&Facts) -> Outcome) -> Outcome {
    match facts.is_network_closed {
        true => attempt(facts),
        false => Outcome::absent("there may be a way to other machines"),
    }
}

fn connect(address: std::net::IpAddr, port: u16) -> Outcome {
    match TcpStream::connect_timeout(&SocketAddr::new(address, port), WAIT) {
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Outcome::blocked("no answer"),
        outcome => Outcome::of_io(outcome),
    }
}

/// Open if something answers.
fn talk(address: Ipv4Addr, port: u16) -> Outcome {
    let result = (|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(WAIT))?;
        socket.connect((address, port))?;
        socket.send(b"anybody there?")?;
        socket.recv(&mut [0; 16])
    })();
    Outcome::of_io(result)
}

fn tcp_socket() -> Result<OwnedFd, Errno> {
    let socket = kernel::call(libc::SYS_socket, &[libc::AF_INET as usize, libc::SOCK_STREAM as usize, 0])?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket as i32) })
}

fn host(port: u16) -> libc::sockaddr_in {
    let address = libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) };
    libc::sockaddr_in { sin_family: libc::AF_INET as u16, sin_port: port.to_be(), sin_addr: address, sin_zero: [0; 8] }
}

/// Refused by the peer is open too: the rule about ports was not asked.
fn send_fast(facts: &Facts, call: libc::c_long) -> Outcome {
    let socket = match tcp_socket() {
        Ok(socket) => socket,
        Err(errno) => return Outcome::broken(errno.name()),
    };
    let to = host(facts.tcp_port);
    let length = size_of::<libc::sockaddr_in>();
    let data = libc::iovec { iov_base: kernel::address(b"x") as *mut libc::c_void, iov_len: 1 };
    // SAFETY: the structure is plain data, for which zero is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = (&raw const data).cast_mut();
    message.msg_iovlen = 1;
    message.msg_name = (&raw const to).cast_mut().cast();
    message.msg_namelen = length as u32;
    let flags = libc::MSG_FASTOPEN as usize;
    let own = socket.as_raw_fd() as usize;
    let result = match call {
        libc::SYS_sendto => kernel::call(call, &[own, kernel::address(b"x"), 1, flags, kernel::address(&to), length]),
        _ => kernel::call(call, &[own, kernel::address(&message), flags]),
    };
    Outcome::of(result)
}

fn connect_later(facts: &Facts) -> Outcome {
    let result = tcp_socket().and_then(|socket| {
        let own = socket.as_raw_fd() as usize;
        let [tcp, fast_open_connect] = [libc::IPPROTO_TCP as usize, 30];
        kernel::call(libc::SYS_setsockopt, &[own, tcp, fast_open_connect, kernel::address(&1_i32), 4])?;
        let to = host(facts.tcp_port);
        kernel::call(libc::SYS_connect, &[own, kernel::address(&to), size_of::<libc::sockaddr_in>()])?;
        kernel::call(libc::SYS_sendto, &[own, kernel::address(b"x"), 1, 0, 0, 0])
    });
    Outcome::of(result)
}

fn listen_without_bind(_: &Facts) -> Outcome {
    let listener = tcp_socket().and_then(|socket| {
        kernel::call(libc::SYS_listen, &[socket.as_raw_fd() as usize, 1])?;
        Ok(TcpListener::from(socket))
    });
    match listener.map(|listener| (listener.local_addr(), listener)) {
        Ok((Ok(address), _listener)) => connect(Ipv4Addr::LOCALHOST.into(), address.port()),
        Ok((Err(error), _)) => Outcome::broken(error.to_string()),
        Err(errno) => Outcome::blocked(errno.name()),
    }
}

fn interface(_: &Facts) -> Outcome {
    let Ok(socket) = UdpSocket::bind("0.0.0.0:0") else { return Outcome::broken("no UDP socket") };
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    // SIOCSIFFLAGS: up and running, as it is.
    request[16] = 0x49;
    Outcome::of(kernel::call(libc::SYS_ioctl, &[socket.as_raw_fd() as usize, 0x8914, kernel::address(&request)]))
}

fn abstract_socket(facts: &Facts) -> Outcome {
    let address = UnixAddress::from_abstract_name(&facts.abstract_name);
    Outcome::of_io(address.and_then(|address| UnixStream::connect_addr(&address)))
}

fn any_socket(paths: &[&str]) -> Outcome {
    let reached = paths.iter().find(|path| UnixStream::connect(path).is_ok());
    Outcome::open_if(reached.is_some(), format!("{reached:?}"))
}
