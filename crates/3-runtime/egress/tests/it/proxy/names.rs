//! Names inside a sandbox: an address of the pool for what is allowed, nothing for the rest, and nothing ever leaves.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, UdpSocket},
};

use agentos_protocol::egress::{FromProxy, ToProxy, Verdict, Wish};

use super::{
    network::inside,
    servers::{connect, say, serve},
    stage::{PATIENCE, SANDBOX, Stage, allowed, denied, limits},
};

pub const A: u16 = 1;
pub const AAAA: u16 = 28;

pub fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![(id >> 8) as u8, id as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, (kind >> 8) as u8, kind as u8, 0, 1]);
    message
}

/// Asks like a resolver: from a connected socket, so that an answer from another address never arrives.
pub fn ask(server: &str, message: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind(if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send(message).unwrap();
    let mut buffer = [0; 1500];
    let count = socket.recv(&mut buffer).unwrap();
    buffer[..count].to_vec()
}

/// Code of the answer, and its address if it has one.
pub fn read(answer: &[u8]) -> (u8, Option<Ipv4Addr>) {
    let code = answer[3] & 15;
    let has_address = answer[7] == 1;
    let end = answer.len() - if answer[11] == 1 { 11 } else { 0 };
    let octets: [u8; 4] = answer[end - 4..end].try_into().unwrap();
    (code, has_address.then(|| octets.into()))
}

pub fn lookup(server: &str, name: &str) -> Option<Ipv4Addr> {
    read(&ask(server, &question(77, name, A))).1
}

fn only(allowed_name: &'static str) -> Stage {
    let stage = Stage::new(move |wish| match wish {
        Wish::Name { host } if host == allowed_name => allowed(),
        _ => denied(),
    });
    stage.attach(SANDBOX, &[], limits(), &[], None);
    stage
}

inside! {
    fn an_allowed_name_has_an_address_of_the_pool_at_every_server() {
        let stage = only("target.example");
        let first = lookup("8.8.8.8:53", "target.example").unwrap();
        assert_eq!(first.to_string(), "198.18.0.1");
        for server in ["127.0.0.1:53", "10.1.2.3:53", "[2001:db8::53]:53", "[::1]:53"] {
            assert_eq!(lookup(server, "TARGET.Example."), Some(first), "{server}");
        }
        assert_eq!(read(&ask("8.8.8.8:53", &question(1, "target.example", AAAA))), (0, None));
        assert_eq!(read(&ask("8.8.8.8:53", &question(1, "target.example", 16))), (0, None), "TXT of what is known");
        assert_eq!(read(&ask("8.8.8.8:53", &question(1, "other.example", 65))), (0, None), "HTTPS");
        assert_eq!(stage.names.asked(), 0, "nothing is looked up before something is dialed");
    }

    fn an_address_means_the_same_name_after_the_proxy_was_replaced() {
        let first = Stage::new(|_| allowed());
        first.attach(SANDBOX, &[5432], limits(), &[], None);
        let [db, mail] = ["db.example", "mail.example"].map(|name| lookup("8.8.8.8:53", name).unwrap());
        let given = first.given.lock().unwrap().clone();
        first.abandon();
        let stage = Stage::new(|_| allowed());
        *stage.given.lock().unwrap() = given;
        stage.attach(SANDBOX, &[5432], limits(), &[], None);
        for (name, place) in [("db.example", "127.88.0.1"), ("mail.example", "127.88.0.2"), ("new.example", "127.88.0.3")] {
            stage.names.set(name, &[place]);
            serve(place, 5432, move |mut stream| {
                let _ = stream.write_all(name.as_bytes());
            });
        }
        // Somebody else asks first in the new life; who remembers his answers does not notice.
        let new = lookup("8.8.8.8:53", "new.example").unwrap();
        for (address, name) in [(mail, "mail.example"), (db, "db.example"), (new, "new.example")] {
            assert_eq!(say(&format!("{address}:5432"), ""), name, "{address}");
            assert_eq!(lookup("8.8.8.8:53", name), Some(address));
        }
        assert_eq!(say("198.18.0.4:5432", ""), "", "an address that was given to nobody");
    }

    fn a_sandbox_that_has_had_all_its_names_is_told_of_no_other() {
        let stage = Stage::new(|wish| match wish {
            Wish::Name { host } if host == "one-more.example" => Some(Verdict::Named { number: None }),
            Wish::Name { host } if host == "liar.example" => Some(Verdict::Named { number: Some(0) }),
            _ => allowed(),
        });
        stage.attach(SANDBOX, &[], limits(), &[], None);
        assert!(lookup("8.8.8.8:53", "a.example").is_some());
        for name in ["one-more.example", "liar.example"] {
            assert_eq!(read(&ask("8.8.8.8:53", &question(1, name, A))), (2, None), "{name}");
        }
        assert!(lookup("8.8.8.8:53", "b.example").is_some());
    }

    fn other_names_do_not_exist() {
        let stage = only("target.example");
        assert_eq!(read(&ask("8.8.8.8:53", &question(1, "secret.data.evil.example", A))), (3, None));
        // MX, TXT and a pointer.
        for kind in [15, 16, 12] {
            assert_eq!(read(&ask("8.8.8.8:53", &question(1, "other.example", kind))), (3, None), "{kind}");
        }
        assert_eq!(stage.wishes(), [Wish::Name { host: "secret.data.evil.example".to_owned() }]);
        assert_eq!(stage.names.asked(), 0);
    }

    fn names_are_answered_by_stream_too() {
        let _stage = only("target.example");
        let mut stream = connect("9.9.9.9:53");
        for _ in 0..2 {
            let question = question(5, "target.example", A);
            stream.write_all(&(question.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&question).unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(read(&answer).1.unwrap().to_string(), "198.18.0.1");
        }
    }
}

/// Sends it, and a question that is answered for sure behind it: whatever comes first is the answer to the first, if any.
fn answer_to(message: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("8.8.8.8:53").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send(message).unwrap();
    let mut buffer = [0; 1500];
    let mut first = None;
    loop {
        // Datagrams can be lost where many are; this one is repeated until it is answered.
        socket.send(&question(0xbeef, "last.example", AAAA)).unwrap();
        let count = socket.recv(&mut buffer).unwrap();
        if buffer[..2] == [0xbe, 0xef] {
            return first;
        }
        first = Some(buffer[..count].to_vec());
    }
}

inside! {
    fn questions_that_are_none_are_answered_as_such_or_not_at_all() {
        let stage = only("target.example");
        let plain = question(9, "target.example", A);
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut message = plain.clone();
            change(&mut message);
            message
        };
        let set = |at: usize, value: u8| with(&move |message| message[at] = value);
        let mut long = question(9, &vec!["x".repeat(60); 4].join("."), A);
        assert_eq!(read(&ask("8.8.8.8:53", &long)).0, 3, "243 bytes are a name");
        long = question(9, &vec!["x".repeat(60); 5].join("."), A);
        let name_error = answer_to(&question(9, "exa mple.example", A)).unwrap();
        for (what, message) in [
            ("two questions", set(5, 2)),
            ("no question", set(5, 0)),
            ("an answer section", set(7, 1)),
            ("an authority section", set(9, 1)),
            ("options that are not there", set(11, 1)),
            ("truncated", set(2, 3)),
            ("a pointer", set(12, 0xc0)),
            ("a label of 64", set(12, 64)),
            ("bytes behind it", with(&|message| message.push(0))),
            ("cut off", with(&|message| message.truncate(message.len() - 1))),
            ("nothing but a header", plain[..12].to_vec()),
            ("a name that is too long", long),
            ("a large one", with(&|message| message.resize(2_000, 0))),
        ] {
            assert_eq!(answer_to(&message).expect(what)[3] & 15, 1, "{what}");
        }
        assert_eq!(name_error[3] & 15, 1);
        assert_eq!(answer_to(&set(2, 0x29)).unwrap()[3] & 15, 4, "another operation");
        assert!(answer_to(&set(2, 0x81)).is_none(), "an answer is not answered");
        assert!(answer_to(&plain[..11]).is_none());
        assert_eq!(answer_to(&set(plain.len() - 1, 3)).unwrap()[3] & 15, 5, "the chaos class");
        assert!(stage.wishes().iter().all(|wish| matches!(wish, Wish::Name { host } if host.starts_with('x'))));
    }

    fn options_are_answered_with_options() {
        let stage = only("target.example");
        let mut message = question(9, "target.example", A);
        message[11] = 1;
        message.extend_from_slice(&[0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 4, 0, 10, 0, 0]);
        let answer = ask("8.8.8.8:53", &message);
        assert_eq!(read(&answer).1.unwrap().to_string(), "198.18.0.1");
        assert_eq!(answer[11], 1);
        // A version that nobody knows.
        let at = message.len() - 9;
        message[at] = 1;
        let answer = ask("8.8.8.8:53", &message);
        let options = &answer[answer.len() - 11..];
        assert_eq!((answer[3] & 15, answer[7], options[5]), (0, 0, 1), "BADVERS");
        assert_eq!(stage.wishes().len(), 1);
    }

    fn a_flood_of_questions_is_bounded() {
        // A server that never answers: what waits is bounded, and the rest is dropped.
        let stage = Stage::new(|_| None);
        stage.attach(SANDBOX, &[], limits(), &[], None);
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("8.8.8.8:53").unwrap();
        for number in 0..2_000_u16 {
            let _ = socket.send(&question(number, &format!("{number}.example"), A));
        }
        stage.wait_until(|| stage.wishes().len() == 64);
        stage.send(&ToProxy::Ping { n: 1 }, &[]);
        stage.wait_for(|message| matches!(message, FromProxy::Pong { .. }).then_some(()));
        assert_eq!(stage.wishes().len(), 64);
    }
}
