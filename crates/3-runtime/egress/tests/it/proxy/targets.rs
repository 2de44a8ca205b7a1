//! Names that lead where nobody may go: every answer of the name server is checked, and the checked one is dialed.

use agentos_protocol::egress::{FromProxy, Refusal, Verdict, WishEnd};

use super::{
    network::inside,
    servers::{OK, OUTSIDE, PROXY, http, next, none, say, tunnel},
    stage::{Stage, allowed},
};

fn plainly_allowed() -> Option<Verdict> {
    Some(Verdict::Allowed { headers: Vec::new(), private_allowed: false })
}

fn get(host: &str) -> String {
    say(PROXY, format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
}

inside! {
    fn a_granted_name_does_not_open_a_private_address() {
        let stage = Stage::with_sandbox(|_| plainly_allowed());
        let requests = http(OUTSIDE, 80, OK);
        let answers = [
            "127.88.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
            "240.0.0.1", "198.18.0.1", "192.0.2.1", "::1", "::", "fe80::1", "fc00::1", "fec0::1", "ff02::1",
            "::ffff:127.88.0.1", "::127.88.0.1", "64:ff9b::7f58:1", "2002:7f58:1::1", "2001:0:7f58:1::1", "2001:db8::1",
            "fd00:ec2::254", "100.100.100.200", "168.63.129.16",
            // One bad answer among good ones, at either end.
            "93.184.216.34 127.88.0.1", "127.88.0.1 93.184.216.34", "93.184.216.34 ::ffff:10.0.0.1",
        ];
        for (number, answer) in answers.iter().enumerate() {
            stage.names.set("rebound.example", &[answer]);
            let text = get("rebound.example");
            assert!(text.starts_with("HTTP/1.1 403 ") && text.contains("AOS-1601"), "{answer}: {text}");
            assert!(!text.contains("127.88.0.1"), "the address is for the record alone: {text}");
            let (end, bytes_out, bytes_in) = stage.ending(number);
            assert!(matches!(&end, WishEnd::Unreachable { code, address: Some(_) } if code == "AOS-1601"), "{end:?}");
            assert_eq!((bytes_out, bytes_in), (0, 0), "{answer}");
        }
        let (_, text) = tunnel("rebound.example:80");
        assert!(text.starts_with("HTTP/1.1 403 "), "{text}");
        assert!(none(&requests));
    }

    fn an_answer_that_changes_is_looked_up_once_for_each_dial() {
        // First the target of the test, then something else: each connection is checked by what it dials itself.
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("rebound.example", &[OUTSIDE, "169.254.169.254"]);
        let requests = http(OUTSIDE, 80, OK);
        assert!(get("rebound.example").starts_with("HTTP/1.1 200 "));
        next(&requests);
        assert_eq!(stage.names.asked(), 1);
        // What an operator has opened is opened for private addresses, never for those that give identities away.
        let text = get("rebound.example");
        assert!(text.starts_with("HTTP/1.1 403 ") && text.contains("metadata"), "{text}");
        assert_eq!(stage.names.asked(), 2);
        let end = stage.ending(1).0;
        assert!(matches!(&end, WishEnd::Unreachable { address: Some(address), .. } if address.to_string() == "169.254.169.254"));
    }

    fn a_redirect_is_followed_by_the_program_and_asked_for_like_anything_else() {
        let stage = Stage::with_sandbox(|_| allowed());
        stage.names.set("a.example", &[OUTSIDE]);
        stage.names.set("metadata.example", &["169.254.169.254"]);
        let moved = "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/\r\nContent-Length: 0\r\n\r\n";
        let requests = http(OUTSIDE, 80, moved);
        assert!(get("a.example").starts_with("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/\r\n"));
        next(&requests);
        let answer = say(PROXY, "GET http://169.254.169.254/latest/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("no-name"), "{answer}");
        let answer = get("metadata.example");
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("AOS-1601"), "{answer}");
        assert_eq!(stage.wishes().len(), 2);
    }

    fn a_name_without_an_address_or_a_server_is_told() {
        let stage = Stage::with_sandbox(|_| allowed());
        let text = get("nowhere.example");
        assert!(text.starts_with("HTTP/1.1 502 ") && text.contains("AOS-1602"), "{text}");
        stage.names.set("closed.example", &["127.88.0.9"]);
        let text = get("closed.example:81");
        assert!(text.starts_with("HTTP/1.1 502 ") && text.contains("AOS-1603"), "{text}");
        let (_, text) = tunnel("closed.example:81");
        assert!(text.starts_with("HTTP/1.1 502 "), "{text}");
        assert!(matches!(stage.ending(2).0, WishEnd::Unreachable { code, .. } if code == "AOS-1603"));
    }

    fn addresses_are_not_asked_for_in_any_spelling() {
        let stage = Stage::with_sandbox(|_| allowed());
        let requests = http(OUTSIDE, 80, OK);
        for host in [
            "127.88.0.1", "0x7f580001", "2136473601", "0177.0130.0.1", "127.88.1", "127.88.0.1.", "[::ffff:127.88.0.1]",
            "[::1]", "[::ffff:7f58:1]",
        ] {
            let text = get(host);
            assert!(text.starts_with("HTTP/1.1 403 ") && text.contains("no-name"), "{host}: {text}");
            let text = tunnel(&format!("{host}:80")).1;
            assert!(text.starts_with("HTTP/1.1 403 "), "{host}: {text}");
            let text = say("8.8.8.8:80", format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert!(text.starts_with("HTTP/1.1 403 "), "{host}: {text}");
        }
        assert!(stage.wishes().is_empty() && none(&requests));
        assert_eq!(stage.names.asked(), 0);
        let refused = |message: &FromProxy| {
            matches!(message, FromProxy::Refused { reason: Refusal::NoName, target: Some(_), .. })
        };
        stage.wait_until(|| stage.heard().iter().filter(|message| refused(message)).count() == 27);
    }
}
