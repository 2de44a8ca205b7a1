//! Attempts to reach what only this machine or its network may reach.

use agentos_types::Code;

use super::{
    server::{Server, ok, redirect},
    stage::{PUBLIC, PUBLIC_TOO, Stage, get},
};
use crate::{Dialer, DialerOptions};

fn excepted(targets: &[String]) -> DialerOptions {
    let private_exceptions = targets.iter().map(|target| target.parse().unwrap()).collect();
    DialerOptions { private_exceptions, ..DialerOptions::default() }
}

/// Spellings of inner addresses, as a URL and as a redirect target.
const INNER: &[&str] = &[
    "http://127.0.0.1/",
    "http://127.0.0.1./",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://%31%32%37.0.0.1/",
    "http://0.0.0.0/",
    "http://0/",
    "http://[::]/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://[::ffff:169.254.169.254]/",
    "http://168.63.129.16/",
    "http://100.100.100.200/",
    "http://10.0.0.1/",
    "http://192.168.0.1:8443/",
    "http://255.255.255.255/",
];

#[tokio::test]
async fn literal_inner_addresses_are_refused() {
    let stage = Stage::new();
    for url in INNER {
        assert_eq!(stage.get(url).await, Err(Code::ADDRESS_DENIED), "{url}");
    }
    assert_eq!(stage.asked(), [""; 0], "an address needs no lookup");
    assert_eq!(stage.dialed(), [""; 0]);
}

#[tokio::test]
async fn redirects_to_inner_addresses_are_refused() {
    let server = Server::start(|request| {
        let index: usize = request.split_whitespace().nth(1).unwrap().trim_start_matches('/').parse().unwrap();
        redirect(302, INNER[index])
    })
    .await;
    let stage = Stage::new().name("a.test", &[PUBLIC]).route(PUBLIC, server.address);
    for (index, inner) in INNER.iter().enumerate() {
        assert_eq!(stage.get(&format!("http://a.test/{index}")).await, Err(Code::ADDRESS_DENIED), "{inner}");
    }
    assert!(stage.dialed().iter().all(|address| *address == format!("{PUBLIC}:80")), "{:?}", stage.dialed());
}

#[tokio::test]
async fn names_with_inner_addresses_are_refused() {
    for answer in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fd00::1", "64:ff9b::a00:1"] {
        let stage = Stage::new().name("a.test", &[answer]);
        let fault = stage.send(get("http://a.test/")).await.unwrap_err();
        assert_eq!(fault.code, Code::ADDRESS_DENIED, "{answer}");
        assert!(fault.message.starts_with("a.test:80 leads to a refused address ("), "{fault}");
        assert!(!fault.message.contains(answer), "the answer itself is for the log alone: {fault}");
        assert_eq!(stage.dialed(), [""; 0]);
    }
}

#[tokio::test]
async fn mixed_answers_are_refused_in_any_order() {
    for answer in [
        format!("{PUBLIC} 127.0.0.1"),
        format!("127.0.0.1 {PUBLIC}"),
        format!("{PUBLIC} {PUBLIC} {PUBLIC} {PUBLIC} ::1"),
    ] {
        let stage = Stage::new().name("a.test", &[&answer]);
        assert_eq!(stage.get("http://a.test/").await, Err(Code::ADDRESS_DENIED), "{answer}");
        assert_eq!(stage.dialed(), [""; 0]);
    }
}

#[tokio::test]
async fn a_rebound_name_is_dialed_at_the_checked_address() {
    let server = Server::start(|_| ok("public")).await;
    let stage = Stage::new().name("a.test", &[PUBLIC, "127.0.0.1"]).route(PUBLIC, server.address);
    assert_eq!(stage.get("http://a.test/").await.as_deref(), Ok("public"));
    assert_eq!(stage.asked(), ["a.test"], "one lookup: there is no second answer to be fooled by");
    assert_eq!(stage.dialed(), [format!("{PUBLIC}:80")]);
    assert_eq!(stage.get("http://a.test/").await, Err(Code::ADDRESS_DENIED), "the next request sees the new answer");
}

#[tokio::test]
async fn a_name_rebound_between_hops_is_refused() {
    let server = Server::start(|_| redirect(302, "/again")).await;
    let stage = Stage::new().name("a.test", &[PUBLIC, "127.0.0.1"]).route(PUBLIC, server.address);
    assert_eq!(stage.get("http://a.test/").await, Err(Code::ADDRESS_DENIED));
    assert_eq!(stage.asked(), ["a.test", "a.test"]);
    assert_eq!(stage.dialed(), [format!("{PUBLIC}:80")]);
}

#[tokio::test]
async fn a_refused_address_gives_way_to_the_next_one() {
    let server = Server::start(|_| ok("second")).await;
    let stage = Stage::new().name("a.test", &[&format!("{PUBLIC} {PUBLIC_TOO}")]).route(PUBLIC_TOO, server.address);
    assert_eq!(stage.get("http://a.test/").await.as_deref(), Ok("second"));
    assert_eq!(stage.dialed(), [format!("{PUBLIC}:80"), format!("{PUBLIC_TOO}:80")]);
}

#[tokio::test]
async fn only_so_many_addresses_are_tried() {
    let addresses: Vec<String> = (1..=20).map(|last| format!("93.184.216.{last}")).collect();
    let stage = Stage::new().name("a.test", &[&addresses.join(" ")]);
    assert_eq!(stage.get("http://a.test/").await, Err(Code::CONNECT_FAILED));
    assert_eq!(stage.dialed().len(), 4);
}

#[tokio::test]
async fn mapped_public_addresses_are_dialed_as_v4() {
    let server = Server::start(|_| ok("mapped")).await;
    let stage = Stage::new().route(PUBLIC, server.address);
    assert_eq!(stage.get(&format!("http://[::ffff:{PUBLIC}]/")).await.as_deref(), Ok("mapped"));
}

#[tokio::test]
async fn unknown_and_empty_names() {
    let stage = Stage::new().name("empty.test", &[""]);
    assert_eq!(stage.get("http://nowhere.test/").await, Err(Code::NAME_UNRESOLVED));
    assert_eq!(stage.get("http://empty.test/").await, Err(Code::NAME_UNRESOLVED));
}

#[tokio::test]
async fn an_exception_opens_one_port_of_one_host() {
    let open = Server::start(|_| ok("open")).await;
    let closed = Server::start(|_| ok("closed")).await;
    // The real resolver and connector: this is how an operator watches a page on the same machine.
    let dialer = Dialer::new(excepted(&[open.address.to_string()])).unwrap();
    let response = dialer.send(get(&format!("http://{}/", open.address)), &|_| true).await.unwrap();
    assert_eq!((response.status, response.body.as_slice()), (200, &b"open"[..]));
    for url in [
        format!("http://{}/", closed.address),
        format!("http://localhost:{}/", open.address.port()),
        format!("http://[::ffff:127.0.0.1]:{}/", open.address.port()),
        format!("http://127.0.0.2:{}/", open.address.port()),
    ] {
        let fault = dialer.send(get(&url), &|_| true).await.unwrap_err();
        assert_eq!(fault.code, Code::ADDRESS_DENIED, "{url}");
    }
    assert_eq!(closed.requests().len(), 0);
}

#[tokio::test]
async fn a_named_exception_is_resolved_by_the_machine() {
    let server = Server::start(|_| ok("named")).await;
    let target = format!("localhost:{}", server.address.port());
    let dialer = Dialer::new(excepted(std::slice::from_ref(&target))).unwrap();
    let response = dialer.send(get(&format!("http://{target}/")), &|_| true).await.unwrap();
    assert_eq!(response.body, b"named");
    assert!(server.requests()[0].contains(&format!("\r\nhost: {target}\r\n")), "{:?}", server.requests());
}

#[tokio::test]
async fn an_excepted_name_does_not_open_metadata() {
    let options = excepted(&["a.test:80".to_owned()]);
    for answer in
        ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "168.63.129.16", "10.0.0.1 100.100.100.200"]
    {
        let stage = Stage::with(options.clone()).name("a.test", &[answer]);
        assert_eq!(stage.get("http://a.test/").await, Err(Code::ADDRESS_DENIED), "{answer}");
        assert_eq!(stage.dialed(), [""; 0]);
    }
    let stage = Stage::with(excepted(&["169.254.169.254:80".to_owned()]));
    assert_eq!(stage.get("http://169.254.169.254/").await, Err(Code::CONNECT_FAILED), "the operator named it");
    assert_eq!(stage.dialed(), ["169.254.169.254:80"]);
}
