use proptest::prelude::*;

use super::*;
use crate::Rule;

mod policies;

const NOW: Timestamp = Timestamp(1_795_000_000_000_000);

pub(super) fn candidate(target: &str) -> Candidate {
    Candidate {
        target: target.to_owned(),
        weight: 1,
        excluded: None,
        lanes: vec![Lane { group: "g".to_owned(), key: "k".to_owned(), state: LaneState::Ready }],
        first_byte_us: None,
        errors_permille: 0,
        in_flight: 0,
        calls: 0,
        worst_nano_usd: None,
        context: None,
        can_prefill: false,
        may_retry: true,
        may_hedge: true,
    }
}

pub(super) fn situation(candidates: Vec<Candidate>) -> Situation {
    let deadline = NOW.after(Duration::from_secs(60));
    Situation { now: NOW, deadline, attempts: 0, tried: vec![], under_way: vec![], candidates }
}

fn after(mut situation: Situation, tried: &[(usize, Class)]) -> Situation {
    situation.tried = tried
        .iter()
        .map(|(target, class)| Tried { target: *target, lane: 0, class: *class, retry_after_ms: None })
        .collect();
    situation.attempts = tried.len();
    situation
}

fn target_of(act: Act) -> Result<usize, Stop> {
    match act {
        Act::Ask { target, .. } => Ok(target),
        Act::Stop(stop) => Err(stop),
    }
}

#[test]
fn a_larger_window_is_asked_after_an_overflow_and_nothing_else() {
    let with = |context| Candidate { context, ..candidate("p/m") };
    let decide = |contexts: [Option<u64>; 3]| {
        let situation = situation(contexts.into_iter().map(with).collect());
        target_of(decide(&Rules::default(), 1, &after(situation, &[(0, Class::ContextOverflow)])))
    };
    assert_eq!(decide([Some(8_000), Some(4_000), Some(128_000)]), Ok(2));
    assert_eq!(decide([Some(8_000), Some(8_000), None]), Err(Stop::Exhausted));
    assert_eq!(decide([None, Some(128_000), None]), Err(Stop::Exhausted), "larger than what nobody knows");
}

#[test]
fn opt_ins_and_rules_of_the_route_are_kept() {
    let two = || situation(vec![candidate("a/m"), Candidate { can_prefill: true, ..candidate("b/m") }]);
    let decide = |rules: &Rules, class| decide(rules, 1, &after(two(), &[(0, class)]));
    let rules = Rules { content_filter_fallback: true, continuation: true, ..Rules::default() };
    assert_eq!(target_of(decide(&rules, Class::ContentFilter)), Ok(1));
    assert!(matches!(decide(&rules, Class::StreamBroken), Act::Ask { target: 1, continuation: true, .. }));
    assert_eq!(target_of(decide(&Rules::default(), Class::ContentFilter)), Err(Stop::Final));
    assert_eq!(target_of(decide(&Rules::default(), Class::StreamBroken)), Err(Stop::Final));
    let with = |class, rule| Rules { fallback: [(FailureClass(class), rule)].into(), ..Rules::default() };
    assert_eq!(target_of(decide(&with(Class::Server, Rule::Stop), Class::Server)), Err(Stop::Final));
    assert_eq!(target_of(decide(&with(Class::Server, Rule::Next), Class::Server)), Ok(1));
    assert_eq!(target_of(decide(&with(Class::Timeout, Rule::Retry), Class::Timeout)), Ok(0));
    assert_eq!(target_of(decide(&with(Class::Timeout, Rule::Retry), Class::Connect)), Ok(1));
}

#[test]
fn a_retry_that_stays_with_its_provider_needs_its_budget_and_one_that_leaves_does_not() {
    let poor = |target: &str| Candidate { may_retry: false, ..candidate(target) };
    let decide = |targets: [&str; 2], class| {
        let situation = situation(targets.into_iter().map(poor).collect());
        target_of(decide(&Rules::default(), 1, &after(situation, &[(0, class)])))
    };
    assert_eq!(decide(["a/m", "b/m"], Class::Server), Ok(1));
    assert_eq!(decide(["a/m", "a/n"], Class::Server), Err(Stop::RetryBudget));
    assert_eq!(decide(["a/m", "a/n"], Class::Timeout), Err(Stop::RetryBudget));
    assert_eq!(decide(["a/m", "a/n"], Class::Connect), Err(Stop::RetryBudget), "another model of a dead host is dead");
    assert_eq!(decide(["a/m", "a/n"], Class::Auth), Err(Stop::Exhausted), "its key is as good there");
}

#[test]
fn with_one_target_a_failed_connection_is_tried_once_more() {
    for class in [Class::Connect, Class::Timeout] {
        let one = || situation(vec![candidate("a/m")]);
        assert_eq!(target_of(decide(&Rules::default(), 1, &after(one(), &[(0, class)]))), Ok(0));
        let twice = after(one(), &[(0, class), (0, class)]);
        assert_eq!(target_of(decide(&Rules::default(), 1, &twice)), Err(Stop::Exhausted));
    }
}

#[test]
fn no_pause_reaches_beyond_the_deadline() {
    let mut situation = after(situation(vec![candidate("a/m")]), &[(0, Class::RateLimited)]);
    situation.tried[0].retry_after_ms = Some(3_000);
    situation.candidates[0].lanes[0].state = LaneState::Cooling { until: NOW.after(Duration::from_secs(3)) };
    assert!(matches!(decide(&Rules::default(), 1, &situation), Act::Ask { pause_ms: 3_000, .. }));
    situation.deadline = NOW.after(Duration::from_secs(3));
    assert_eq!(decide(&Rules::default(), 1, &situation), Act::Stop(Stop::Deadline));
    situation.deadline = NOW;
    assert_eq!(decide(&Rules::default(), 1, &situation), Act::Stop(Stop::Deadline));
}

#[test]
fn when_all_are_shut_the_earliest_reopening_is_told() {
    let shut = |seconds, excluded| {
        let until = NOW.after(Duration::from_secs(seconds));
        let lanes = vec![Lane { group: String::new(), key: String::new(), state: LaneState::Refused { until } }];
        Candidate { lanes, excluded, ..candidate("a/m") }
    };
    let candidates = vec![shut(30, None), shut(20, None), shut(10, Some(Exclusion::Disabled))];
    let until = NOW.after(Duration::from_secs(20));
    assert_eq!(decide(&Rules::default(), 1, &situation(candidates)), Act::Stop(Stop::Shut { until }));
    let excluded = vec![shut(10, Some(Exclusion::Disabled))];
    assert_eq!(decide(&Rules::default(), 1, &situation(excluded)), Act::Stop(Stop::NotCapable));
    assert_eq!(decide(&Rules::default(), 1, &situation(vec![])), Act::Stop(Stop::NotCapable));
}

fn lane_state() -> impl Strategy<Value = LaneState> {
    let until = || (0_u64..20).prop_map(|seconds| NOW.after(Duration::from_secs(seconds)));
    prop_oneof![
        3 => Just(LaneState::Ready),
        1 => (until(), 0_u64..10, 0_u32..500).prop_map(|(until, age, calls)| LaneState::Open {
            until, since: NOW.before(Duration::from_secs(age)), calls
        }),
        1 => Just(LaneState::Probing),
        1 => until().prop_map(|until| LaneState::Cooling { until }),
        1 => until().prop_map(|until| LaneState::Refused { until }),
    ]
}

fn any_candidate() -> impl Strategy<Value = Candidate> {
    let lanes = prop::collection::vec(lane_state(), 0..4);
    let numbers = (any::<u32>(), prop::option::of(any::<u64>()), any::<u32>(), any::<u32>(), any::<u32>());
    let rest =
        (prop::option::of(any::<i64>()), prop::option::of(0_u64..5), any::<bool>(), any::<bool>(), any::<bool>());
    ("[ab]/[mn]", lanes, numbers, rest, prop::option::weighted(0.2, Just(Exclusion::Disabled))).prop_map(
        |(target, states, (weight, first_byte_us, errors_permille, in_flight, calls), rest, excluded)| {
            let (worst_nano_usd, context, can_prefill, may_retry, may_hedge) = rest;
            let lane = |(index, state)| Lane { group: "g".to_owned(), key: format!("k{index}"), state };
            let lanes = states.into_iter().enumerate().map(lane).collect();
            Candidate {
                target,
                weight,
                excluded,
                lanes,
                first_byte_us,
                errors_permille,
                in_flight,
                calls,
                worst_nano_usd,
                context,
                can_prefill,
                may_retry,
                may_hedge,
            }
        },
    )
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let policy = prop_oneof![Just(Policy::Order), Just(Policy::Weight), Just(Policy::Latency), Just(Policy::Price)];
    let rule = prop_oneof![Just(Rule::Stop), Just(Rule::Next), Just(Rule::Retry)];
    let fallback =
        prop::collection::btree_map((0..Class::ALL.len()).prop_map(|i| FailureClass(Class::ALL[i])), rule, 0..4);
    (policy, fallback, any::<bool>(), any::<bool>(), any::<u8>(), any::<bool>()).prop_map(
        |(policy, fallback, content_filter_fallback, continuation, price_weight, ramp)| Rules {
            policy,
            fallback,
            content_filter_fallback,
            continuation,
            price_weight,
            ramp,
        },
    )
}

prop_compose! {
    fn any_situation()(
        candidates in prop::collection::vec(any_candidate(), 0..5),
        tried in prop::collection::vec((0_usize..5, 0_usize..4, 0..Class::ALL.len(), prop::option::of(0_u64..10_000)), 0..4),
        under_way in prop::collection::vec(0_usize..5, 0..2),
        deadline in -10_i64..60_000_000,
        more in 0_usize..2,
    ) -> Situation {
        let tried: Vec<_> = tried.into_iter().map(|(target, lane, class, retry_after_ms)| Tried {
            target, lane, class: Class::ALL[class], retry_after_ms
        }).collect();
        let deadline = Timestamp(NOW.as_micros() + deadline);
        Situation { now: NOW, deadline, attempts: tried.len() + more, tried, under_way, candidates }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn whatever_the_situation_only_an_open_way_is_asked_in_time_and_at_most_thrice(
        rules in any_rules(), seed in any::<u64>(), situation in any_situation(),
    ) {
        let act = decide(&rules, seed, &situation);
        prop_assert_eq!(act, decide(&rules, seed, &situation));
        if let Act::Ask { target, lane, pause_ms, continuation } = act {
            let candidate = &situation.candidates[target];
            prop_assert!(situation.attempts < ATTEMPTS_MAX);
            prop_assert!(NOW.after(Duration::from_millis(pause_ms)) < situation.deadline);
            prop_assert!(candidate.lanes[lane].is_ready_after(NOW, pause_ms));
            prop_assert!(candidate.excluded.is_none() || situation.tried.last().is_some_and(|tried| tried.target == target));
            prop_assert!(pause_ms <= 5_000);
            prop_assert!(!continuation || rules.continuation && candidate.can_prefill);
            if let Some(last) = situation.tried.last().filter(|_| situation.under_way.is_empty()) {
                prop_assert!(last.class != Class::BadRequest);
                let stays = situation.candidates[last.target].provider() == candidate.provider();
                prop_assert!(!stays || candidate.may_retry);
            }
        }
        let written = serde_json::to_string(&situation).unwrap();
        let read: Situation = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(decide(&rules, seed, &read), act);
    }
}
