//! Lives of the proxy: it is started, told, replaced, and ends with the server.

use std::time::Duration;

use agentos_protocol::{
    egress::{EGRESS_VERSION, FromProxy, ToProxy},
    sandbox::Listener,
};
use agentos_types::Timestamp;

use super::fake::{QUICK, Stage, caller, within};
use crate::control::{Care, Guest, Standing};

#[tokio::test]
async fn every_new_proxy_gets_every_sandbox_with_its_listeners() {
    let mut stage = Stage::open(Care::default());
    assert_eq!(stage.egress.standing(), Standing::Starting);
    let (one, two) = (stage.attach("one"), stage.attach("two"));
    let mut proxy = stage.proxy().await.ready();
    for restarts in 0..3 {
        let told = proxy.attachments(2).await;
        assert!(told.values().all(|(attachment, sockets)| {
            *sockets == 2 && attachment.listeners == [Listener::Tcp(443), Listener::Udp(53)]
        }));
        within("the control", stage.egress.settled()).await;
        assert_eq!(stage.egress.standing(), Standing::Up(7));
        assert_eq!((stage.egress.counts().restarts, stage.egress.counts().sandboxes), (restarts, 2));
        proxy.die();
        proxy = stage.proxy().await;
        assert!(matches!(stage.egress.standing(), Standing::Down(_)), "until the next one has spoken");
        proxy = proxy.ready();
    }
    proxy.attachments(2).await;
    let three = stage.attach("three");
    assert_eq!(proxy.attachments(1).await.len(), 1, "one that comes later is told alone");
    drop(two);
    let (message, _) = proxy.hear().await;
    assert!(matches!(message, ToProxy::Detach { sandbox: 2 }), "{message:?}");
    stage.notes.has("two ended").await;
    drop((one, three));
    assert_eq!(stage.egress.counts().sandboxes, 0);
}

#[tokio::test]
async fn a_proxy_that_does_not_answer_is_killed_and_replaced() {
    let mut stage = Stage::open(QUICK);
    let _attached = stage.attach("one");
    let mut silent = stage.proxy().await;
    silent.was_killed().await;
    let mut stopped = stage.proxy().await.ready();
    stopped.attachments(1).await;
    // From here on it reads nothing and says nothing, as after SIGSTOP.
    stopped.was_killed().await;
    let alive = stage.proxy().await.ready();
    alive.attachments(1).await;
    within("the control", stage.egress.settled()).await;
    let Standing::Up(_) = stage.egress.standing() else { panic!("{:?}", stage.egress.standing()) };
}

#[tokio::test]
async fn a_proxy_that_answers_is_left_alone() {
    let mut stage = Stage::open(QUICK);
    let proxy = stage.proxy().await.ready();
    let mut answered = 0;
    let begun = tokio::time::Instant::now();
    // Longer than its patience, and the answers are what keeps it.
    while begun.elapsed() < QUICK.patience * 2 {
        let (message, _) = proxy.next_with_pings().await;
        let ToProxy::Ping { n } = message else { panic!("{message:?}") };
        answered += 1;
        assert_eq!(n, answered);
        proxy.say(&FromProxy::Pong { n });
    }
    assert_eq!(stage.egress.counts().restarts, 0);
}

/// As after SIGSTOP and SIGCONT of the server: what the proxy has said meanwhile lies in the socket.
#[tokio::test]
async fn a_server_that_was_stopped_does_not_blame_its_proxy() {
    let mut stage = Stage::open(Care::default());
    let _attached = stage.attach("one");
    let proxy = stage.proxy().await.ready();
    proxy.attachments(1).await;
    within("the control", stage.egress.settled()).await;
    let ToProxy::Ping { n } = proxy.next_with_pings().await.0 else { panic!("no ping") };
    tokio::time::pause();
    tokio::time::advance(Care::default().patience * 10).await;
    tokio::time::resume();
    proxy.say(&FromProxy::Pong { n });
    proxy.ask(1, 1, "a.example");
    assert!(proxy.is_allowed(1).await);
    let ToProxy::Ping { n: next } = proxy.next_with_pings().await.0 else { panic!("no further ping") };
    assert!(next > n);
    assert_eq!((stage.egress.counts().restarts, stage.egress.standing()), (0, Standing::Up(7)));
}

#[tokio::test]
async fn a_proxy_that_says_what_it_must_not_is_replaced() {
    let mut stage = Stage::open(Care::default());
    let wrong: [&[u8]; 5] = [
        b"not json",
        br#"{"type":"surprise"}"#,
        br#"{"type":"ready","version":99}"#,
        br#"{"type":"pong","n":1}"#,
        br#"{"type":"ask","ask":1,"sandbox":1,"wish":{"kind":"name","host":"a"}}"#,
    ];
    for bytes in wrong {
        let mut proxy = stage.proxy().await;
        proxy.say_bytes(bytes);
        proxy.was_killed().await;
    }
    let mut twice = stage.proxy().await.ready();
    twice.say(&FromProxy::Ready { version: EGRESS_VERSION });
    twice.was_killed().await;
    let mut sender = stage.proxy().await.ready();
    sender.say_with_descriptor();
    sender.was_killed().await;
    assert!(stage.notes.lines().is_empty());
}

#[tokio::test]
async fn the_proxy_ends_with_the_server() {
    let mut stage = Stage::open(Care::default());
    let mut proxy = stage.proxy().await.ready();
    assert!(stage.background.stop(Duration::from_secs(30)).await);
    proxy.was_dropped().await;
}

#[tokio::test]
async fn bytes_are_counted_over_restarts_and_count_against_the_limit() {
    let mut stage = Stage::open(Care::default());
    let attached = stage.attach("one");
    let proxy = stage.proxy().await.ready();
    let first = proxy.attachments(1).await;
    assert_eq!(first[&1].0.limits.bytes, 1_000);
    proxy.say(&FromProxy::Moved { sandbox: 1, bytes_out: 100, bytes_in: 200 });
    proxy.ask(1, 1, "a.example");
    assert!(proxy.is_allowed(1).await);
    assert_eq!((attached.bytes().out, attached.bytes().r#in), (100, 200));
    proxy.die();
    let proxy = stage.proxy().await.ready();
    assert_eq!(proxy.attachments(1).await[&1].0.limits.bytes, 700);
    proxy.say(&FromProxy::Moved { sandbox: 1, bytes_out: 900, bytes_in: 0 });
    proxy.say(&FromProxy::Moved { sandbox: 99, bytes_out: 900, bytes_in: 0 });
    proxy.ask(1, 1, "a.example");
    assert!(proxy.is_allowed(1).await);
    assert_eq!((attached.bytes().out, attached.bytes().r#in), (1_000, 200));
    let counts = stage.egress.counts();
    assert_eq!((counts.out_bytes, counts.in_bytes, counts.allowed), (1_000, 200, 2));
    proxy.die();
    let proxy = stage.proxy().await.ready();
    assert_eq!(proxy.attachments(1).await[&1].0.limits.bytes, 1, "what is used up is not without limit");
}

/// The last bytes come after the end, and are waited for.
#[tokio::test]
async fn the_count_of_a_sandbox_is_complete_when_it_has_ended() {
    let mut stage = Stage::open(Care::default());
    let (one, two) = (stage.attach("one"), stage.attach("two"));
    let proxy = stage.proxy().await.ready();
    proxy.attachments(2).await;
    within("the control", stage.egress.settled()).await;
    let ending = tokio::spawn(async move { one.end().await });
    assert!(matches!(proxy.hear().await.0, ToProxy::Detach { sandbox: 1 }));
    let ToProxy::Ping { n } = proxy.next_with_pings().await.0 else { panic!("no farewell") };
    // Another sandbox comes and goes in between.
    drop(stage.attach("three"));
    proxy.say(&FromProxy::Moved { sandbox: 1, bytes_out: 5, bytes_in: 6 });
    proxy.say(&FromProxy::Pong { n });
    let bytes = within("the last count", ending).await.unwrap();
    assert_eq!((bytes.out, bytes.r#in), (5, 6));
    // Without a proxy nothing more can come.
    proxy.die();
    let next = stage.proxy().await;
    within("an end without a proxy", two.end()).await;
    let next = next.ready();
    assert_eq!(stage.egress.counts().sandboxes, 0);
    stage.attach("four").end().await;
    drop(next);
}

#[test]
fn a_guest_listens_where_it_may_connect_and_nowhere_without_a_grant() {
    let guest = |resources: &[&str]| Guest::new(caller("a", resources), Vec::new(), None, Timestamp::ZERO).unwrap();
    assert!(guest(&[]).is_none());
    let web = [3_128, 80, 443].map(Listener::Tcp);
    let names = [Listener::Udp(53), Listener::Tcp(53)];
    let listeners = guest(&["tcp://a.example:443", "tcp://a.example:53", "tcp://a.example:3128"]).unwrap().listeners();
    assert_eq!(listeners, [web.as_slice(), &names].concat(), "a port that is taken is reached through the proxy's");
    let listeners = guest(&["tcp://db.example:5432", "tcp://*.a.example:22"]).unwrap().listeners();
    assert_eq!(listeners[5..], [Listener::Tcp(22), Listener::Tcp(5_432)]);
    assert_eq!(
        guest(&["tcp://a.example:443"]).unwrap().certificate(),
        None,
        "without a credential nothing is terminated"
    );
}
