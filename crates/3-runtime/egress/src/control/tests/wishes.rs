//! What a proxy asks, and what becomes of what it was granted.

use agentos_protocol::egress::{FromProxy, Refusal, Verdict, WishEnd};

use super::fake::{Fake, Stage, within};
use crate::control::Care;

fn closed(ask: u64, sandbox: u64) -> FromProxy {
    FromProxy::Closed { ask, sandbox, bytes_out: 3, bytes_in: 4, duration_ms: 5, end: WishEnd::Done { status: None } }
}

/// One sandbox, and a proxy that knows it.
async fn begun(stage: &mut Stage) -> Fake {
    let proxy = stage.proxy().await.ready();
    proxy.attachments(1).await;
    proxy
}

#[tokio::test]
async fn what_is_granted_is_closed_once() {
    let mut stage = Stage::open(Care::default());
    let attached = stage.attach("one");
    let proxy = begun(&mut stage).await;
    proxy.ask(1, 1, "a.example");
    proxy.ask(2, 1, "evil.example");
    let verdicts = [proxy.hear().await.0, proxy.hear().await.0];
    let allowed = verdicts.iter().filter(|message| format!("{message:?}").contains("Allowed"));
    assert_eq!(allowed.count(), 1);
    stage.notes.has("one denied evil.example").await;
    assert_eq!(stage.egress.counts().open, 1);
    // Of another sandbox, never granted, of a refusal, and then the right one, twice.
    for message in [closed(1, 2), closed(9, 1), closed(2, 1), closed(1, 1), closed(1, 1)] {
        proxy.say(&message);
    }
    stage.notes.has("a.example closed 3/4").await;
    proxy.ask(3, 1, "evil.again");
    proxy.verdict(3).await;
    let closings = stage.notes.lines().iter().filter(|line| line.contains("closed")).count();
    assert_eq!((closings, stage.egress.counts().open), (1, 0));
    assert_eq!((attached.bytes().out, attached.bytes().r#in), (3, 4));
    let counts = stage.egress.counts();
    assert_eq!((counts.allowed, counts.denied), (1, 2));
}

#[tokio::test]
async fn a_connection_to_models_has_its_other_end_in_the_proxy_alone() {
    let mut stage = Stage::open(Care::default());
    let _attached = stage.attach("one");
    let proxy = begun(&mut stage).await;
    proxy.ask(1, 1, "models.example");
    let (message, descriptors) = proxy.hear().await;
    assert!(format!("{message:?}").contains("Models"), "{message:?}");
    // The socket that came with it was closed by who read it.
    assert_eq!(descriptors, 1);
    let is_closed = |end: std::os::fd::OwnedFd| async {
        let read = tokio::task::spawn_blocking(move || rustix::io::read(&end, &mut [0; 1]));
        within("the end of a connection to models", read).await.unwrap().unwrap() == 0
    };
    let end = stage.notes.ends.lock().unwrap().pop().unwrap();
    assert!(is_closed(end).await);
    // One that no proxy has read.
    proxy.ask(2, 1, "models.example");
    while stage.notes.ends.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    proxy.die();
    let end = stage.notes.ends.lock().unwrap().pop().unwrap();
    assert!(is_closed(end).await, "it ends with its proxy");
    assert_eq!(stage.egress.counts().open, 0, "nothing of it is granted to the outside");
}

#[tokio::test]
async fn what_is_open_when_the_proxy_dies_is_lost_with_it() {
    let mut stage = Stage::open(Care::default());
    let _attached = stage.attach("one");
    let proxy = begun(&mut stage).await;
    proxy.ask(1, 1, "a.example");
    assert!(proxy.is_allowed(1).await);
    proxy.ask(2, 1, "slow.example");
    stage.notes.has("thinking about slow.example").await;
    proxy.die();
    stage.notes.has("a.example lost").await;
    let proxy = begun(&mut stage).await;
    // Decided when nobody can carry it out any more: it is recorded and lost, and the next proxy hears nothing of it.
    stage.notes.gate.add_permits(1);
    stage.notes.has("slow.example lost").await;
    proxy.ask(2, 1, "evil.example");
    assert!(!proxy.is_allowed(2).await);
    proxy.say(&closed(1, 1));
    proxy.ask(3, 1, "b.example");
    assert!(proxy.is_allowed(3).await);
    assert!(!stage.notes.lines().iter().any(|line| line.contains("closed")), "{:?}", stage.notes.lines());
}

#[tokio::test]
async fn a_slow_decision_holds_up_no_other_and_outlives_its_sandbox() {
    let mut stage = Stage::open(Care::default());
    let attached = stage.attach("one");
    let proxy = begun(&mut stage).await;
    proxy.ask(1, 1, "slow.example");
    proxy.ask(2, 1, "a.example");
    assert!(proxy.is_allowed(2).await);
    drop(attached);
    let (message, _) = proxy.hear().await;
    assert!(format!("{message:?}").contains("Detach"), "{message:?}");
    stage.notes.gate.add_permits(1);
    assert!(proxy.is_allowed(1).await, "its intent is recorded, so its end has to come");
    proxy.say(&closed(1, 1));
    proxy.say(&closed(2, 1));
    stage.notes.has("slow.example closed 3/4").await;
    stage.notes.has("a.example closed 3/4").await;
}

#[tokio::test]
async fn who_is_not_attached_gets_nothing() {
    let mut stage = Stage::open(Care::default());
    let attached = stage.attach("one");
    let proxy = begun(&mut stage).await;
    proxy.ask(1, 7, "a.example");
    let Verdict::Denied { code, .. } = proxy.verdict(1).await else { panic!("a stranger was let out") };
    assert_eq!(code, "AOS-1103");
    drop(attached);
    proxy.hear().await;
    proxy.ask(2, 1, "a.example");
    assert!(!proxy.is_allowed(2).await);
    proxy.say(&FromProxy::Refused { sandbox: 1, target: None, reason: Refusal::NoServerName });
    proxy.ask(3, 1, "a.example");
    assert!(!proxy.is_allowed(3).await);
    assert_eq!(stage.notes.lines(), ["one ended"], "nobody is asked about strangers");
}

#[tokio::test]
async fn refusals_of_the_proxy_reach_the_judge() {
    let mut stage = Stage::open(Care::default());
    let _attached = stage.attach("one");
    let proxy = begun(&mut stage).await;
    let target = Some("a.example".to_owned());
    proxy.say(&FromProxy::Refused { sandbox: 1, target, reason: Refusal::NamesDiffer });
    proxy.say(&FromProxy::Refused { sandbox: 1, target: None, reason: Refusal::Smuggling });
    stage.notes.has("one refused a.example NamesDiffer").await;
    stage.notes.has("one refused - Smuggling").await;
    assert_eq!(stage.egress.counts().refused, 2);
}

/// A proxy that has been taken over cannot make the server remember without end.
#[tokio::test]
async fn the_same_question_twice_is_granted_once() {
    let mut stage = Stage::open(Care::default());
    let _attached = stage.attach("one");
    let proxy = begun(&mut stage).await;
    proxy.ask(1, 1, "a.example");
    assert!(proxy.is_allowed(1).await);
    proxy.ask(1, 1, "b.example");
    assert!(!proxy.is_allowed(1).await);
    stage.notes.has("b.example lost").await;
    assert_eq!(stage.egress.counts().open, 1);
}

/// One wish whose answer is too large is denied; the proxy, and everybody else's connections, stay.
#[tokio::test]
async fn an_answer_that_fits_into_no_message_denies_that_one_wish() {
    let mut stage = Stage::open(Care::default());
    let _attached = stage.attach("one");
    let proxy = begun(&mut stage).await;
    proxy.ask(1, 1, "a.example");
    assert!(proxy.is_allowed(1).await);
    for (ask, host) in [(2, "huge.example"), (3, "evil.huge")] {
        proxy.ask(ask, 1, host);
        let Verdict::Denied { code, message } = proxy.verdict(ask).await else { panic!("{host} was let out") };
        assert_eq!(code, "AOS-1501", "{host}");
        assert!(message.contains("262144 bytes"), "{message}");
    }
    stage.notes.has("huge.example unreachable AOS-1501").await;
    proxy.ask(4, 1, "b.example");
    assert!(proxy.is_allowed(4).await);
    let counts = stage.egress.counts();
    assert_eq!((counts.restarts, counts.open, counts.allowed, counts.denied), (0, 2, 2, 2));
}

/// Programs remember addresses for longer than a proxy lives.
#[tokio::test]
async fn the_number_of_a_name_means_nothing_else_in_any_life_of_the_proxy() {
    let mut stage = Stage::open(Care::default());
    let (_one, _two) = (stage.attach("one"), stage.attach("two"));
    let proxy = stage.proxy().await.ready();
    assert!(proxy.attachments(2).await.values().all(|(attachment, _)| attachment.names.is_empty()));
    assert_eq!(proxy.number_of(1, 1, "db.example").await, Some(0));
    assert_eq!(proxy.number_of(2, 1, "mail.example").await, Some(1));
    assert_eq!(proxy.number_of(3, 1, "db.example").await, Some(0));
    assert_eq!(proxy.number_of(4, 2, "mail.example").await, Some(0), "each sandbox has its own");
    proxy.die();
    let proxy = stage.proxy().await.ready();
    let told = proxy.attachments(2).await;
    assert_eq!(told[&1].0.names, ["db.example", "mail.example"]);
    assert_eq!(told[&2].0.names, ["mail.example"]);
    assert_eq!(proxy.number_of(1, 1, "other.example").await, Some(2));
    assert_eq!(proxy.number_of(2, 1, "mail.example").await, Some(1));
}
