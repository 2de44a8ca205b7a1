//! Listeners that are handed out catch whatever the program wants to reach, and answers come from there.

use std::{
    io::{Read, Write},
    mem,
    net::TcpListener,
    os::fd::{AsRawFd, OwnedFd},
};

use agentos_protocol::sandbox::*;

use crate::{
    inside::everywhere,
    server::{null, order},
};

const CLIENT: &str = "exec python3 -c '
import socket
for host, port in ((\"8.8.8.8\", 80), (\"2001:4860:4860::8888\", 443)):
    s = socket.create_connection((host, port), 20); s.sendall(b\"hi\"); print(s.recv(9), flush=True)
for host in (\"9.9.9.9\", \"2620:fe::fe\"):
    family = socket.AF_INET6 if \":\" in host else socket.AF_INET
    # A connected socket takes answers from the asked address alone.
    u = socket.socket(family, socket.SOCK_DGRAM); u.settimeout(20); u.connect((host, 53)); u.send(b\"q\"); print(u.recv(9), flush=True)
for port in (25, 8080):
    try: socket.create_connection((\"8.8.8.8\", port), 20); print(\"open\")
    except OSError as error: print(type(error).__name__, flush=True)
'";

#[test]
fn every_address_leads_to_the_listeners() {
    everywhere(|server| {
        let mut order = order(CLIENT);
        let listeners = vec![Listener::Tcp(80), Listener::Tcp(443), Listener::Udp(53)];
        order.network = Network::Own { listeners, loopback: false };
        let (mut reader, writer) = std::io::pipe().unwrap();
        order.descriptors = vec![Descriptor::Stdout, Descriptor::Stderr, Descriptor::Stdin];
        let writer = OwnedFd::from(writer);
        server.send(order, &[writer.try_clone().unwrap(), writer, null()]);
        let (_, _, mut listeners) = server.spawned();
        let udp = listeners.pop().unwrap();
        let [https, http] = [listeners.pop(), listeners.pop()].map(|fd| TcpListener::from(fd.unwrap()));
        for (listener, wanted) in [(http, "[::ffff:8.8.8.8]:80"), (https, "[2001:4860:4860::8888]:443")] {
            let (mut stream, _) = listener.accept().unwrap();
            assert_eq!(stream.local_addr().unwrap().to_string(), wanted, "the address that the program wanted");
            let mut bytes = [0; 2];
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(b"ok").unwrap();
        }
        echo_once(&udp);
        echo_once(&udp);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        // What has no listener is refused: by Landlock where it knows ports, by an empty network anyway.
        assert!(text.starts_with("b'ok'\nb'ok'\nb'q'\nb'q'\n") && !text.contains("open"), "{text}");
        assert_eq!(server.ended().0, End::Exited(0));
    });
}

/// Receives one datagram and sends it back from the address that it was sent to, as the proxy does.
fn echo_once(socket: &OwnedFd) {
    let mut bytes = [0_u8; 1];
    let mut control = [0_u64; 32];
    // SAFETY: all of these are plain integers and pointers, for which zero is a valid value; every pointer is to a live local,
    // and the lengths are those of the locals.
    unsafe {
        let mut from: libc::sockaddr_in6 = mem::zeroed();
        let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 1 };
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = mem::size_of_val(&from) as u32;
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control);
        let received = libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0);
        assert_eq!(received, 1, "{}", std::io::Error::last_os_error());
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() && (*header).cmsg_level != libc::IPPROTO_IPV6 {
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        assert!(!header.is_null(), "the address that was asked comes along");
        let information = libc::CMSG_DATA(header).cast::<libc::in6_pktinfo>();
        (*information).ipi6_ifindex = 0;
        message.msg_control = header.cast();
        message.msg_controllen = libc::CMSG_SPACE(mem::size_of::<libc::in6_pktinfo>() as u32) as usize;
        let sent = libc::sendmsg(socket.as_raw_fd(), &raw const message, 0);
        assert_eq!(sent, 1, "{}", std::io::Error::last_os_error());
    }
}
