//! Who is first, by each policy, over many seeds.

use super::*;

/// How often each candidate is asked first.
fn shares(rules: &Rules, situation: &Situation) -> Vec<u32> {
    let mut shares = vec![0; situation.candidates.len()];
    for seed in 0..10_000_u64 {
        if let Act::Ask { target, .. } = decide(rules, draw(seed, 99), situation) {
            shares[target] += 1;
        }
    }
    shares
}

fn by(policy: Policy) -> Rules {
    Rules { policy, ..Rules::default() }
}

#[test]
fn weights_are_proportions() {
    let weighted = |weight| Candidate { weight, ..candidate("p/m") };
    let shares = shares(&by(Policy::Weight), &situation(vec![weighted(1), weighted(3), weighted(6), weighted(0)]));
    for (share, wanted) in shares.iter().zip([1_000, 3_000, 6_000, 0_u32]) {
        assert!(share.abs_diff(wanted) < 200, "{shares:?}");
    }
}

#[test]
fn of_two_that_were_drawn_the_quicker_is_asked() {
    let timed = |ms: u64| Candidate { first_byte_us: Some(ms * 1_000), ..candidate("p/m") };
    let shares = shares(&by(Policy::Latency), &situation(vec![timed(30), timed(10), timed(20)]));
    // The best wins each pair that it is in, the worst none.
    for (share, wanted) in shares.iter().zip([0, 6_667, 3_333_u32]) {
        assert!(share.abs_diff(wanted) < 200, "{shares:?}");
    }
    let equal = situation(vec![timed(10), timed(10)]);
    let even = super::policies::shares(&by(Policy::Latency), &equal);
    assert!(even[0].abs_diff(5_000) < 300, "{even:?}");
}

#[test]
fn errors_queues_and_prices_count_against_a_target() {
    let base = || Candidate { first_byte_us: Some(10_000), worst_nano_usd: Some(100), ..candidate("p/m") };
    let first = |rules: &Rules, worse: Candidate| shares(rules, &situation(vec![worse, base()]))[0];
    let latency = by(Policy::Latency);
    assert_eq!(first(&latency, Candidate { errors_permille: 100, ..base() }), 0);
    assert_eq!(first(&latency, Candidate { in_flight: 3, ..base() }), 0);
    assert!(first(&latency, Candidate { worst_nano_usd: Some(1_000), ..base() }) > 4_000, "no weight, no matter");
    let priced = Rules { price_weight: 50, ..by(Policy::Latency) };
    assert_eq!(first(&priced, Candidate { worst_nano_usd: Some(200), ..base() }), 0);
    // A third quicker makes up for a price that is a half higher at weight 50 (1.25), and not for one that is thrice as high (2).
    let quick = |price| Candidate { first_byte_us: Some(7_000), worst_nano_usd: Some(price), ..base() };
    assert_eq!(first(&priced, quick(150)), 10_000);
    assert_eq!(first(&priced, quick(300)), 0);
    assert_eq!(first(&latency, Candidate { first_byte_us: None, in_flight: 1, ..base() }), 0, "one unknown at a time");
}

#[test]
fn the_cheapest_is_asked_and_what_has_no_price_last() {
    let priced = |price| Candidate { worst_nano_usd: price, ..candidate("p/m") };
    let by_price = by(Policy::Price);
    let four = situation(vec![priced(None), priced(Some(300)), priced(Some(100)), priced(Some(100))]);
    let found = shares(&by_price, &four);
    assert_eq!((found[0], found[1]), (0, 0));
    assert!(found[2].abs_diff(5_000) < 300, "{found:?}");
    assert_eq!(rank::ranking(&by_price, 1, &four.candidates, |_| true)[2..], [1, 0]);
}

/// A target with 400 calls in ten seconds died so many milliseconds ago.
fn dying(age_ms: u64, calls: u32, heirs_calls: u32) -> Situation {
    let since = NOW.before(Duration::from_millis(age_ms));
    let state = LaneState::Open { until: NOW.after(Duration::from_secs(5)), since, calls };
    let lanes = vec![Lane { group: "g".to_owned(), key: "k".to_owned(), state }];
    situation(vec![Candidate { lanes, ..candidate("a/m") }, Candidate { calls: heirs_calls, ..candidate("b/m") }])
}

#[test]
fn the_traffic_of_a_large_target_goes_on_by_and_by() {
    let ramp = Rules { ramp: true, ..Rules::default() };
    for (age_ms, percent) in [(0, 10), (1_999, 10), (2_000, 25), (4_000, 50), (6_000, 100)] {
        let share = shares(&ramp, &dying(age_ms, 400, 10))[1];
        assert!(share.abs_diff(percent * 100) < 200, "{age_ms} ms: {share}");
    }
    assert_eq!(shares(&ramp, &dying(0, 40, 0))[1], 10_000, "a small one needs none");
    assert_eq!(shares(&ramp, &dying(0, 400, 300))[1], 10_000, "nor does one whose heir is as large");
    assert_eq!(shares(&Rules::default(), &dying(0, 400, 0))[1], 10_000, "nor a route that wants none");
    let held = (0..100).find_map(|seed| match decide(&ramp, seed, &dying(1_500, 400, 10)) {
        Act::Stop(Stop::Ramp { until }) => Some(until),
        _ => None,
    });
    assert_eq!(held, Some(NOW.after(Duration::from_millis(500))), "until the next share goes on");
}

#[test]
fn keys_share_the_load() {
    let mut one = candidate("a/m");
    one.lanes = (0..4).map(|key| Lane { key: format!("k{key}"), ..one.lanes[0].clone() }).collect();
    one.lanes[2].state = LaneState::Cooling { until: NOW.after(Duration::from_secs(9)) };
    let situation = situation(vec![one]);
    let mut lanes = [0_u32; 4];
    for seed in 0..9_000 {
        let Act::Ask { lane, .. } = decide(&Rules::default(), seed, &situation) else { unreachable!() };
        lanes[lane] += 1;
    }
    assert_eq!(lanes[2], 0);
    assert!(lanes.iter().filter(|count| **count > 2_700).count() == 3, "{lanes:?}");
}
