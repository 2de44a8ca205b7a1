use super::*;

const START: Timestamp = Timestamp(1_795_000_000_000_000);

fn at(ms: u64) -> Timestamp {
    START.after(Duration::from_millis(ms))
}

/// What happens at which millisecond, and in which state the breaker is then.
#[derive(Clone, Copy, Debug)]
enum Event {
    Good,
    Bad,
    Probe,
    ProbeGood,
    ProbeBad,
    Look,
}

use BreakerState::{Closed, HalfOpen, Open};
use Event::{Bad, Good, Look, Probe, ProbeBad, ProbeGood};

fn check(name: &str, events: &[(u64, Event, BreakerState)]) {
    let mut breaker = Breaker::default();
    for (index, (ms, event, wanted)) in events.iter().enumerate() {
        let now = at(*ms);
        match event {
            Good => drop(breaker.succeeded(now, false)),
            Bad => drop(breaker.failed(now, false)),
            Probe => assert!(breaker.pass(now), "{name}: event {index}"),
            ProbeGood => {
                breaker.succeeded(now, true);
                breaker.release();
            }
            ProbeBad => {
                breaker.failed(now, true);
                breaker.release();
            }
            Look => {}
        }
        assert_eq!(breaker.look(now).0, *wanted, "{name}: event {index} {event:?} at {ms} ms");
    }
}

#[test]
fn a_breaker_opens_by_a_row_or_by_a_share_and_closes_after_three_probes() {
    check("five in a row", &[(0, Bad, Closed), (1, Bad, Closed), (2, Bad, Closed), (3, Bad, Closed), (4, Bad, Open)]);
    check(
        "a row is interrupted",
        &[(0, Bad, Closed), (1, Bad, Closed), (2, Bad, Closed), (3, Bad, Closed), (4, Good, Closed), (5, Bad, Closed)],
    );
    let mut half = vec![];
    for ms in 0..5 {
        half.push((ms * 2, Good, Closed));
        half.push((ms * 2 + 1, Bad, if ms == 4 { Open } else { Closed }));
    }
    check("half of ten", &half);
    check("nine are too few", &half[..9]);
    let mut old = half[..9].to_vec();
    old.push((11_000, Bad, Closed));
    check("what is older than ten seconds does not count", &old);

    let row: Vec<_> = (0..5).map(|ms| (ms, Bad, if ms == 4 { Open } else { Closed })).collect();
    let then = |more: &[(u64, Event, BreakerState)]| [row.as_slice(), more].concat();
    check("open for five seconds", &then(&[(5_003, Look, Open), (5_004, Look, HalfOpen)]));
    check(
        "three probes close it",
        &then(&[
            (5_004, Probe, HalfOpen),
            (5_010, ProbeGood, HalfOpen),
            (5_011, Probe, HalfOpen),
            (5_012, ProbeGood, HalfOpen),
            (5_013, Probe, HalfOpen),
            (5_014, ProbeGood, Closed),
            (5_015, Bad, Closed),
        ]),
    );
    check(
        "a failed probe doubles the wait, and others say nothing",
        &then(&[
            (5_004, Probe, HalfOpen),
            (5_005, Good, HalfOpen),
            (5_005, Good, HalfOpen),
            (5_006, Good, HalfOpen),
            (5_007, Bad, HalfOpen),
            (5_010, ProbeBad, Open),
            (15_009, Look, Open),
            (15_010, Look, HalfOpen),
        ]),
    );
}

#[test]
fn the_wait_doubles_to_a_minute_and_begins_anew_after_closing() {
    let mut breaker = Breaker::default();
    let mut now = START;
    for _ in 0..5 {
        breaker.failed(now, false);
    }
    for seconds in [5, 10, 20, 40, 60, 60] {
        let (state, until) = breaker.look(now);
        assert_eq!((state, until), (Open, Some(now.after(Duration::from_secs(seconds)))));
        now = until.unwrap();
        assert!(breaker.pass(now));
        assert!(!breaker.pass(now), "one probe at a time");
        breaker.failed(now, true);
    }
    now = breaker.look(now).1.unwrap();
    for probe in 1..=3 {
        assert!(breaker.pass(now), "probe {probe}");
        assert_eq!(breaker.succeeded(now, true), probe == 3);
        breaker.release();
    }
    for _ in 0..5 {
        breaker.failed(now, false);
    }
    assert_eq!(breaker.look(now), (Open, Some(now.after(Duration::from_secs(5)))));
}

#[test]
fn a_clock_that_goes_back_lengthens_nothing_beyond_its_length() {
    let mut breaker = Breaker::default();
    for _ in 0..5 {
        breaker.failed(START, false);
    }
    let earlier = START.before(Duration::from_secs(86_400));
    assert_eq!(breaker.look(earlier), (Open, Some(earlier.after(Duration::from_secs(5)))));
    assert_eq!(breaker.look(earlier.after(Duration::from_secs(5))).0, HalfOpen);

    let shut = Shut::new(START, Duration::from_secs(30));
    assert_eq!(shut.until(earlier), Some(earlier.after(Duration::from_secs(30))));

    let mut window = Window::default();
    (0..4).for_each(|_| window.count(START, true));
    window.count(START.before(Duration::from_secs(3)), false);
    assert_eq!(window.sums(START), (5, 1), "a small step counts into the newest part");
    window.count(earlier, false);
    assert_eq!(window.sums(earlier), (1, 1), "a large one begins anew");
}

fn way(key: &str) -> Way<'_> {
    Way { group: "g", key, is_stream: true, is_probe: false }
}

fn failed(class: Class, retry_after: Option<u64>) -> Failure {
    Failure { class, retry_after: retry_after.map(Duration::from_secs), code: None, message: String::new() }
}

#[test]
fn each_class_moves_what_it_should() {
    for class in Class::ALL {
        let mut state = State::default();
        let failure = failed(class, None);
        let changes: Vec<_> = (0..5).map(|ms| state.observe(way("k"), Observed::Failed(&failure), at(ms))).collect();
        let breaker = state.breaker("g").look(at(5)).0;
        let key = state.keys.get("k").and_then(|key| key.shut(at(5)));
        match class {
            Class::Overloaded
            | Class::Server
            | Class::Connect
            | Class::Timeout
            | Class::Malformed
            | Class::StreamBroken => {
                assert_eq!((breaker, key), (Open, None), "{class}");
                assert_eq!(changes, [None, None, None, None, Some(Change::Opened)], "{class}");
                assert!(state.errors.permille() > 400, "{class}");
            }
            Class::RateLimited => {
                assert_eq!((breaker, key), (Closed, Some((at(5_004), false))), "{class}");
                assert_eq!(changes, [Some(Change::KeyCooling); 5]);
            }
            Class::Auth | Class::QuotaExhausted => {
                assert_eq!(breaker, Closed, "{class}");
                assert!(
                    key.is_some_and(|(until, refused)| refused && until == at(4).after(REFUSED_MAX)),
                    "{class}: {key:?}"
                );
                assert_eq!(changes, [Some(Change::KeyRefused); 5]);
            }
            Class::BadRequest | Class::ContextOverflow | Class::ContentFilter | Class::NotCapable => {
                assert_eq!((breaker, key, changes), (Closed, None, vec![None; 5]), "{class}");
                assert_eq!(state.errors.permille(), 0, "{class}");
            }
        }
    }
}

#[test]
fn a_key_is_shut_as_long_as_its_provider_says_within_reason() {
    let mut state = State::default();
    let mut limit = |seconds, ms| {
        state.observe(way("k"), Observed::Failed(&failed(Class::RateLimited, Some(seconds))), at(ms));
        state.keys.get("k").unwrap().shut(at(ms))
    };
    assert_eq!(limit(30, 0), Some((at(30_000), false)));
    assert_eq!(limit(1, 1), Some((at(30_000), false)), "a shorter time does not shorten it");
    assert_eq!(limit(86_400, 2), Some((at(600_002), false)), "nor does a long one close it for a day");
    let answered = Observed::Answered { first_byte: Duration::from_millis(3) };
    state.observe(way("k"), answered, at(3));
    assert!(state.keys.get("k").unwrap().shut(at(3)).is_some(), "an answer to an older request does not open it");

    let mut state = State::default();
    state.observe(way("k"), Observed::Failed(&failed(Class::Auth, None)), START);
    assert_eq!(state.keys.get("k").unwrap().shut(START), Some((START.after(REFUSED_MIN), true)));
    let later = START.after(REFUSED_MIN);
    assert_eq!(state.keys.get("k").unwrap().shut(later), None, "it is tried again");
    state.observe(way("k"), answered, later);
    assert!(state.keys.is_empty(), "and forgotten once it is accepted");
}

#[test]
fn times_are_smoothed_apart_for_streams_and_whole_answers() {
    let mut state = State::default();
    let answered = |ms| Observed::Answered { first_byte: Duration::from_millis(ms) };
    state.observe(way("k"), answered(100), START);
    state.observe(way("k"), answered(200), START);
    state.observe(Way { is_stream: false, ..way("k") }, answered(9_000), START);
    assert_eq!(state.streamed.first_byte_us(), Some(120_000));
    assert_eq!(state.whole.first_byte_us(), Some(9_000_000));
    assert_eq!(state.streamed.p95(), None, "two say nothing");
    (1..=100).for_each(|ms| state.streamed.answered(Duration::from_millis(ms)));
    assert_eq!(state.streamed.p95(), Some(Duration::from_millis(97)), "of the last 64");
    state.streamed.answered(Duration::MAX);
}

#[test]
fn what_is_remembered_has_a_limit() {
    let healths = Healths::default();
    let key = |index: usize| HealthKey { provider: "p".into(), base_url: "u".into(), model: format!("m{index}") };
    let kept = healths.of(key(0));
    kept.state().streamed.answered(Duration::from_millis(1));
    drop(kept);
    for index in 1..=TARGETS_MAX + 10 {
        healths.of(key(index));
    }
    assert!(healths.view(START).len() <= TARGETS_MAX);
    assert!(healths.of(key(0)).state().has_answered(), "what answered is kept");
    let mut state = State::default();
    for index in 0..1_000 {
        let (group, key) = (format!("g{index}"), format!("k{index}"));
        state.breaker(&group);
        state.refuse(&key, None, at(index * 1_000_000));
    }
    assert!(state.keys.len() <= LANES_MAX && state.breakers.len() <= LANES_MAX);
}

#[test]
fn retries_are_a_tenth_and_hedges_a_fiftieth() {
    for (bucket, share) in [(Bucket::retries(), 10), (Bucket::hedges(), 50)] {
        let spent = |bucket: &Bucket| (0..100).filter(|_| bucket.spend()).count();
        assert_eq!(spent(&bucket), 10, "a burst");
        assert!(!bucket.has());
        (0..share * 3).for_each(|_| bucket.earn());
        assert_eq!(spent(&bucket), 3);
        (0..share * 1_000).for_each(|_| bucket.earn());
        assert_eq!(spent(&bucket), 10, "no more is saved up");
    }
}
