//! Hedges: after which time, who pays for them, and what is left of one that lost.

use super::*;

fn in_flight(router: &Router) -> Vec<(String, u32)> {
    let view = router.health(at(9)).into_iter();
    view.map(|view| (view.target, view.in_flight)).filter(|(_, count)| *count > 0).collect()
}

#[test]
fn a_fixed_time_is_a_wish_by_itself_and_needs_no_figures() {
    let router = router(&format!("{TWO}hedge_after_ms = 250"));
    let mut plan = router.plan(&asked("best")).unwrap();
    let slow = plan.next(None, START).unwrap();
    assert_eq!(slow.hedge_after, Some(Duration::from_millis(250)));
    assert!(plan.hedge(at(250)).is_some());
    for none in ["", "hedge = true"] {
        let router = self::router(&format!("{TWO}{none}"));
        let mut plan = router.plan(&asked("best")).unwrap();
        assert_eq!(plan.next(None, START).unwrap().hedge_after, None, "off, or nobody knows its times yet");
    }
}

#[test]
fn who_lost_holds_nothing_and_a_break_of_the_winner_is_the_winners() {
    let router = router(&format!("{TWO}hedge_after_ms = 1\ncontinuation = true"));
    let mut plan = router.plan(&asked("best")).unwrap();
    let slow = plan.next(None, START).unwrap();
    let other = plan.hedge(at(1)).unwrap();
    assert_eq!(in_flight(&router).len(), 2);
    plan.report(&other, Observed::Nothing, at(2));
    plan.report(&slow, good(), at(2));
    assert_eq!(in_flight(&router).len(), 1, "while the winner streams, the loser is free");
    plan.next(Some(&failure(Class::StreamBroken)), at(3));
    let tried: Vec<_> = plan.record().steps.last().unwrap().situation.tried.iter().map(|tried| tried.target).collect();
    assert_eq!(tried, [0], "and not of the one that was asked last");
    replay(plan.record()).unwrap();
}

#[test]
fn beside_a_target_of_the_same_provider_it_is_a_retry_too() {
    let document = "[providers.one]\nkind = \"ollama\"\n[routes.best]\nhedge_after_ms = 1\n\
        targets = [{ model = \"one/a\" }, { model = \"one/b\" }]";
    let router = router(document);
    let hedged = |now| {
        let mut plan = router.plan(&Asked { now, ..asked("best") }).unwrap();
        plan.next(None, now).unwrap();
        plan.hedge(now).is_some()
    };
    let count = (0..40).filter(|ms| hedged(at(*ms))).count();
    assert_eq!(count, 10, "a burst, then a fiftieth");
    // Its retries are used up by them, but for the tenth part that forty requests have earned.
    let buckets = router.healths().buckets("one");
    let left = (0..20).filter(|_| buckets.retries.spend()).count();
    assert!((2..=5).contains(&left), "{left}");
}
