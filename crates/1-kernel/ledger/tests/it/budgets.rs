//! Setting, holding, settling, refusing.

use std::time::Duration;

use agentos_ledger::{Amount, Origin, Payer};
use agentos_types::{
    Actor, Code,
    budget::{AMOUNT_MAX, BudgetUnit::*, Period::*},
};

use super::house::{House, budget, payer, set, stands, usd};

#[tokio::test]
async fn what_is_reserved_cannot_be_taken_twice_and_what_is_left_comes_back() {
    let house = House::new();
    let ledger = house.ledger().await;
    set(&ledger, "agent:a", Day, NanoUsd, 1_000).await;
    let first = ledger.reserve(&payer(), usd(600)).await.unwrap();
    let refused = ledger.reserve(&payer(), usd(600)).await.unwrap_err();
    assert_eq!(refused.code, Code::BUDGET_EXCEEDED);
    let fact = |name: &str| refused.facts.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    assert_eq!(fact("scope"), Some("agent:a"));
    assert_eq!(fact("remaining"), Some("400"));
    assert_eq!(fact("needed"), Some("600"));
    assert_eq!(fact("limit"), Some("1000"));
    assert_eq!(fact("resets_at"), Some("2026-11-24T00:00:00.000Z"));
    assert_eq!(refused.retry_after, Some(Duration::from_secs(14 * 3_600 - 30)));
    assert_eq!(stands(&ledger).await, (0, 600));
    first.settle(usd(150));
    assert_eq!(stands(&ledger).await, (150, 0));
    ledger.reserve(&payer(), usd(850)).await.unwrap().settle(usd(850));
    assert_eq!(ledger.reserve(&payer(), usd(1)).await.unwrap_err().code, Code::BUDGET_EXCEEDED);
    assert_eq!(ledger.reserved_in_all(), 0);
}

#[tokio::test]
async fn an_explicit_zero_is_zero_and_what_was_never_settled_counts() {
    let house = House::new();
    let ledger = house.ledger().await;
    set(&ledger, "agent:a", Total, NanoUsd, 1_000).await;
    ledger.reserve(&payer(), usd(1_000)).await.unwrap().settle(Amount::default());
    assert_eq!(stands(&ledger).await, (0, 0));
    drop(ledger.reserve(&payer(), usd(300)).await.unwrap());
    assert_eq!(stands(&ledger).await, (300, 0), "nobody knows what became of it");
    ledger.reserve(&payer(), usd(700)).await.unwrap().release();
    assert_eq!(stands(&ledger).await, (300, 0));
}

#[tokio::test]
async fn every_account_of_the_payer_has_to_have_room_and_a_refusal_holds_nothing() {
    let house = House::new();
    let ledger = house.ledger().await;
    set(&ledger, "runs-of:a", Total, NanoUsd, 500).await;
    set(&ledger, "team:blue", Month, Tokens, 25).await;
    set(&ledger, "tenant:acme", Day, Requests, 1_000).await;
    ledger.reserve(&payer(), usd(400)).await.unwrap().settle(usd(400));
    let of_run = ledger.reserve(&payer(), usd(101)).await.unwrap_err();
    assert!(of_run.message.contains("run:task_"), "{of_run}");
    let other_run = Payer { run: Some("task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2F".parse().unwrap()), ..payer() };
    ledger.reserve(&other_run, usd(500)).await.unwrap().settle(usd(1));
    let of_team = ledger.reserve(&other_run, usd(1)).await.unwrap_err();
    assert!(of_team.message.contains("team:blue"), "{of_team}");
    assert_eq!(ledger.reserved_in_all(), 0);
    let stranger = Payer { agent: Some("b".parse().unwrap()), ..Payer::default() };
    ledger.reserve(&stranger, usd(AMOUNT_MAX)).await.unwrap().settle(usd(1));
}

#[tokio::test]
async fn a_provider_that_reports_more_than_was_reserved_is_booked_as_it_says() {
    let house = House::new();
    let ledger = house.ledger().await;
    set(&ledger, "agent:a", Day, NanoUsd, 1_000).await;
    ledger.reserve(&payer(), usd(100)).await.unwrap().settle(usd(1_200));
    assert_eq!(stands(&ledger).await.0, 1_200);
    assert_eq!(ledger.reserve(&payer(), usd(1)).await.unwrap_err().code, Code::BUDGET_EXCEEDED);
    ledger.book(Duration::ZERO).await.unwrap();
    assert_eq!(stands(&ledger).await.0, 1_200, "booking changes no sum");
}

#[tokio::test]
async fn of_operator_and_manifest_the_smaller_budget_decides() {
    let house = House::new();
    let ledger = house.ledger().await;
    set(&ledger, "agent:a", Day, NanoUsd, 1_000).await;
    let of_manifest =
        |amount| agentos_ledger::Budget { origin: Origin::Manifest, ..budget("agent:a", Day, NanoUsd, amount) };
    ledger.set_of_manifest(&"a".parse().unwrap(), vec![of_manifest(200)]).await.unwrap();
    assert_eq!(ledger.reserve(&payer(), usd(201)).await.unwrap_err().code, Code::BUDGET_EXCEEDED);
    ledger.set_of_manifest(&"a".parse().unwrap(), vec![of_manifest(5_000)]).await.unwrap();
    ledger.reserve(&payer(), usd(1_000)).await.unwrap().release();
    assert_eq!(ledger.reserve(&payer(), usd(1_001)).await.unwrap_err().code, Code::BUDGET_EXCEEDED);
    ledger.set_of_manifest(&"a".parse().unwrap(), vec![]).await.unwrap();
    assert_eq!(stands(&ledger).await, (0, 0), "only the operator's is left");
}

#[tokio::test]
async fn a_smaller_budget_holds_at_once_whatever_was_leased_of_the_larger_one() {
    let house = House::new();
    let ledger = house.ledger().await;
    set(&ledger, "agent:a", Month, NanoUsd, 1_000_000).await;
    let under_way = ledger.reserve(&payer(), usd(100)).await.unwrap();
    set(&ledger, "agent:a", Month, NanoUsd, 150).await;
    assert_eq!(ledger.reserve(&payer(), usd(51)).await.unwrap_err().code, Code::BUDGET_EXCEEDED);
    under_way.settle(usd(100));
    ledger.reserve(&payer(), usd(50)).await.unwrap().settle(usd(50));
    assert_eq!(stands(&ledger).await, (150, 0));
    ledger.remove(&Actor::System, budget("agent:a", Month, NanoUsd, 0)).await.unwrap();
    ledger.reserve(&payer(), usd(10_000_000)).await.unwrap().release();
    let gone = ledger.remove(&Actor::System, budget("agent:a", Month, NanoUsd, 0)).await.unwrap_err();
    assert_eq!(gone.code, Code::BUDGET_NOT_FOUND);
    assert_eq!((house.recorded("budget.set"), house.recorded("budget.remove")), (2, 1));
}

#[tokio::test]
async fn a_budget_that_cannot_be_is_refused() {
    let house = House::new();
    let ledger = house.ledger().await;
    for bad in [
        budget("agent:a", Day, NanoUsd, -1),
        budget("agent:a", Day, NanoUsd, AMOUNT_MAX + 1),
        budget("runs-of:a", Day, NanoUsd, 1),
        budget("run:task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E", Total, NanoUsd, 1),
    ] {
        assert_eq!(ledger.set(&Actor::System, bad.clone()).await.unwrap_err().code, Code::BUDGET_INVALID, "{bad:?}");
    }
}

#[tokio::test]
async fn four_fifths_are_told_once_in_a_period() {
    let house = House::new();
    let ledger = house.ledger().await;
    set(&ledger, "agent:a", Day, NanoUsd, 1_000).await;
    for expected in [0, 1, 1] {
        ledger.reserve(&payer(), usd(300)).await.unwrap().settle(usd(300));
        if expected == 0 {
            ledger.reserve(&payer(), usd(300)).await.unwrap().settle(usd(300));
            ledger.book(Duration::from_secs(10)).await.unwrap();
            assert_eq!(house.recorded("budget.warn"), 0, "600 of 1,000");
            continue;
        }
        ledger.book(Duration::from_secs(10)).await.unwrap();
        assert_eq!(house.recorded("budget.warn"), expected);
        break;
    }
    ledger.reserve(&payer(), usd(100)).await.unwrap().settle(usd(100));
    ledger.book(Duration::from_secs(10)).await.unwrap();
    assert_eq!(house.recorded("budget.warn"), 1);
}
