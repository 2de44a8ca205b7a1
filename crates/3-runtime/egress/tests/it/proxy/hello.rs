//! What programs can do to the first bytes of TLS.

use std::io::{Read, Write};

use agentos_protocol::egress::{FromProxy, Refusal, Wish};

use super::{
    network::inside,
    servers::{Authority, OUTSIDE, connect, https, next, none, read_head, read_rest, say, tunnel},
    stage::{SANDBOX, Stage, allowed, limits},
};

const SERVER_NAME: u16 = 0;
const ECH: u16 = 0xfe0d;

/// A list of one name, as in the extension.
pub fn name_list(name: &str) -> Vec<u8> {
    let mut list = ((name.len() + 3) as u16).to_be_bytes().to_vec();
    list.push(0);
    list.extend_from_slice(&(name.len() as u16).to_be_bytes());
    list.extend_from_slice(name.as_bytes());
    list
}

/// The handshake message, without records.
pub fn message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0x13, 0x01, 1, 0]);
    let mut fields = Vec::new();
    for (kind, content) in extensions {
        fields.extend_from_slice(&kind.to_be_bytes());
        fields.extend_from_slice(&(content.len() as u16).to_be_bytes());
        fields.extend_from_slice(content);
    }
    body.extend_from_slice(&(fields.len() as u16).to_be_bytes());
    body.extend_from_slice(&fields);
    let mut message = vec![1, 0, (body.len() >> 8) as u8, body.len() as u8];
    message.extend_from_slice(&body);
    message
}

/// In records of at most `size` bytes.
pub fn records(message: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for fragment in message.chunks(size) {
        bytes.extend_from_slice(&[22, 3, 1, (fragment.len() >> 8) as u8, fragment.len() as u8]);
        bytes.extend_from_slice(fragment);
    }
    bytes
}

const DENIED: &[u8] = &[21, 3, 3, 0, 2, 2, 49];

fn refused(stage: &Stage, bytes: &[u8], reason: Refusal) {
    let before = stage.heard().len();
    let mut stream = connect("8.8.8.8:443");
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer, DENIED, "{reason:?}");
    stage.wait_until(|| stage.heard().len() > before);
    let last = stage.heard().pop().unwrap();
    assert!(
        matches!(&last, FromProxy::Refused { reason: found, .. } if *found == reason),
        "{last:?} is not {reason:?}"
    );
}

inside! {
    fn a_name_that_is_missing_hidden_or_double_is_refused() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        let named = || (SERVER_NAME, name_list("a.example"));
        refused(&stage, &records(&message(&[]), 9_000), Refusal::NoServerName);
        refused(&stage, &records(&message(&[named(), (ECH, vec![0; 9])]), 9_000), Refusal::HiddenServerName);
        refused(&stage, &records(&message(&[(0xffce, vec![0; 9]), named()]), 9_000), Refusal::HiddenServerName);
        refused(&stage, &records(&message(&[(SERVER_NAME, name_list("127.0.0.1"))]), 9_000), Refusal::NoName);
        refused(&stage, &records(&message(&[(SERVER_NAME, name_list("0x7f.1"))]), 9_000), Refusal::NoName);
        let mut two = name_list("a.example");
        two.extend_from_slice(&name_list("b.example")[2..]);
        let length = (two.len() - 2) as u16;
        two[..2].copy_from_slice(&length.to_be_bytes());
        for extensions in [
            vec![named(), (SERVER_NAME, name_list("b.example"))],
            vec![(SERVER_NAME, two)],
            vec![(SERVER_NAME, name_list(""))],
            vec![(SERVER_NAME, name_list("a.example\0.b.example"))],
            vec![(SERVER_NAME, name_list("a example"))],
            vec![(SERVER_NAME, vec![0, 0])],
            vec![(SERVER_NAME, Vec::new())],
            vec![(10, vec![]), (10, vec![])],
        ] {
            refused(&stage, &records(&message(&extensions), 9_000), Refusal::NotUnderstood);
        }
        assert!(stage.wishes().is_empty());
        assert_eq!(stage.names.asked(), 0);
    }

    fn what_is_no_hello_is_refused() {
        let stage = Stage::with_sandbox(|_| allowed());
        let hello = message(&[(SERVER_NAME, name_list("a.example"))]);
        let whole = records(&hello, 9_000);
        // Cut off, with something behind it in its record, and in far too many pieces.
        refused(&stage, &whole[..whole.len() - 1], Refusal::NotUnderstood);
        let mut more = hello.clone();
        more.push(0);
        refused(&stage, &records(&more, 9_000), Refusal::NotUnderstood);
        refused(&stage, &records(&hello, 2), Refusal::NotUnderstood);
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"[..],
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\xff\xff",
            b"\x16\x02\x00\x00\x05hello",
            b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
            b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
            // As SSL 2 began.
            b"\x80\x2e\x01\x00\x02",
        ] {
            refused(&stage, bytes, Refusal::NotUnderstood);
        }
        assert!(stage.wishes().is_empty());
    }

    fn a_hello_in_pieces_is_read_whole_and_passed_on_as_it_came() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        let (told, arrived) = std::sync::mpsc::channel();
        super::servers::serve(OUTSIDE, 443, move |mut stream| {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            told.send(bytes).unwrap();
        });
        let hello = message(&[(10, vec![0; 40]), (SERVER_NAME, name_list("A.Example"))]);
        for size in [10, 60, 9_000] {
            let bytes = records(&hello, size);
            let mut stream = connect("8.8.8.8:443");
            for piece in bytes.chunks(7) {
                stream.write_all(piece).unwrap();
            }
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(arrived.recv().unwrap(), bytes, "{size}");
            assert_eq!(read_rest(&mut stream), "");
        }
        assert_eq!(stage.wishes().len(), 3);
        assert!(stage.wishes().iter().all(|wish| *wish == Wish::Connect { host: "a.example".to_owned(), port: 443 }));
    }

    fn the_address_of_one_name_is_not_for_another() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        let authority = Authority::new();
        let requests = https(&authority, "a.example", OUTSIDE, 443);
        let address = super::names::lookup("8.8.8.8:53", "a.example").unwrap();
        let mut stream = authority.client("a.example", connect(&format!("{address}:443")));
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200 "));
        next(&requests);
        let hello = records(&message(&[(SERVER_NAME, name_list("b.example"))]), 9_000);
        let mut stream = connect(&format!("{address}:443"));
        stream.write_all(&hello).unwrap();
        read_rest(&mut stream);
        assert_eq!(stage.expect_refused(Refusal::NamesDiffer).as_deref(), Some("a.example:443"));
        assert!(none(&requests));
    }

    fn a_tunnel_to_443_is_tls_for_its_host() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        let (told, arrived) = std::sync::mpsc::channel();
        super::servers::serve(OUTSIDE, 443, move |mut stream| {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            let _ = told.send(bytes);
        });
        let other = records(&message(&[(SERVER_NAME, name_list("b.example"))]), 9_000);
        let nobody = records(&message(&[]), 9_000);
        let hidden = records(&message(&[(SERVER_NAME, name_list("a.example")), (ECH, vec![0; 9])]), 9_000);
        for (number, (bytes, reason)) in [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Refusal::NotUnderstood),
            (other, Refusal::NamesDiffer),
            (nobody, Refusal::NoServerName),
            (hidden, Refusal::HiddenServerName),
        ]
        .into_iter()
        .enumerate()
        {
            let (mut stream, answer) = tunnel("a.example:443");
            assert!(answer.starts_with("HTTP/1.1 200 "));
            stream.write_all(&bytes).unwrap();
            assert_eq!(read_rest(&mut stream), "");
            stage.expect_refused(reason);
            assert_eq!(arrived.recv().unwrap(), b"", "{reason:?}");
            assert_eq!(stage.ending(number).1, 0, "{reason:?}");
        }
    }

    fn on_a_granted_port_a_hello_may_name_nobody_but_no_other() {
        let stage = Stage::new(|_| allowed());
        stage.attach(SANDBOX, &[6379], limits(), &[], None);
        stage.names.set("db.example", &[OUTSIDE]);
        super::servers::echo(OUTSIDE, 6379);
        let address = format!("{}:6379", super::names::lookup("8.8.8.8:53", "db.example").unwrap());
        let nobody = records(&message(&[]), 9_000);
        let mut stream = connect(&address);
        stream.write_all(&nobody).unwrap();
        let mut back = vec![0; nobody.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, nobody);
        let other = records(&message(&[(SERVER_NAME, name_list("b.example"))]), 9_000);
        assert_eq!(say(&address, &other), "");
        stage.expect_refused(Refusal::NamesDiffer);
    }
}
