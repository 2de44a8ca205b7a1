//! What is seen from inside of a sandbox: the effect of each stage.

use std::{
    io::{Read, Write},
    net::{TcpListener, UdpSocket},
};

use agentos_protocol::sandbox::*;

use crate::server::{NOBODY, Server, null, order, serve};

/// As root and as a user without any rights, by both back ends that put up walls.
fn everywhere(check: impl Fn(&mut Server)) {
    for backend in ["native", "bwrap"] {
        for user in [None, Some(NOBODY)] {
            check(&mut serve("agent", backend, user));
        }
    }
}

#[test]
fn a_shell_runs_inside_and_its_end_is_told() {
    everywhere(|server| {
        assert_eq!(
            server.shell("echo hello; echo $ONLY; id -u; hostname; echo $$"),
            "hello\nthis one\n1000\ninside\n2\n"
        );
        assert_eq!(server.run(order("exit 7")).0, End::Exited(7));
        assert_eq!(server.run(order("kill -9 $$")).0, End::Signaled(9));
    });
}

#[test]
fn every_address_leads_to_the_listeners() {
    everywhere(|server| {
        let script = "exec /usr/bin/python3 -c '
import socket
for host, port in ((\"8.8.8.8\", 80), (\"2001:4860:4860::8888\", 443)):
    s = socket.create_connection((host, port), 5); s.sendall(b\"hi\"); print(s.recv(9), flush=True)
for host in (\"9.9.9.9\",):
    family = socket.AF_INET6 if \":\" in host else socket.AF_INET
    u = socket.socket(family, socket.SOCK_DGRAM); u.settimeout(5); u.connect((host, 53)); u.send(b\"q\"); print(u.recv(9), flush=True)
'";
        let mut order = order(script);
        let listeners = vec![Listener::Tcp(80), Listener::Tcp(443), Listener::Udp(53)];
        order.network = Network::Own { listeners, loopback: false };
        let (mut reader, writer) = std::io::pipe().unwrap();
        order.descriptors = vec![Descriptor::Stdout, Descriptor::Stderr, Descriptor::Stdin];
        let writer = std::os::fd::OwnedFd::from(writer);
        server.send(order, &[writer.try_clone().unwrap(), writer, null()]);
        let (_, _, mut listeners) = server.spawned();
        let udp = UdpSocket::from(listeners.pop().unwrap());
        let [https, http] = [listeners.pop(), listeners.pop()].map(|fd| TcpListener::from(fd.unwrap()));
        for (listener, wanted) in [(http, "[::ffff:8.8.8.8]:80"), (https, "[2001:4860:4860::8888]:443")] {
            let (mut stream, _) = listener.accept().unwrap();
            assert_eq!(stream.local_addr().unwrap().to_string(), wanted, "the address that the program wanted");
            let mut bytes = [0; 2];
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(b"ok").unwrap();
        }
        // A plain answer has the right source only if the kernel picks the address that was asked.
        for _ in 0..1 {
            let mut bytes = [0; 16];
            let (length, from) = udp.recv_from(&mut bytes).unwrap();
            assert_eq!(length, 1);
            udp.send_to(b"a", from).unwrap();
        }
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "b'ok'\nb'ok'\nb'a'\n");
        assert_eq!(server.ended().0, End::Exited(0));
    });
}
