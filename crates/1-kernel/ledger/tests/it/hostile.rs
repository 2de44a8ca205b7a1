//! Numbers that a provider makes up, writes that fail, and more budgets than there may be.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use agentos_ledger::{BUDGETS_MAX, Payer, Spend, SpendRow};
use agentos_types::{
    Actor, Code,
    budget::{AMOUNT_MAX, BudgetUnit::*, Period::*},
};

use super::house::{House, NOON, budget, payer, set, stands, usd};

#[tokio::test]
async fn no_number_of_a_provider_stops_the_counting() {
    let house = House::new();
    let store = house.store();
    let ledger = house.ledger_on(store.clone(), "a").await;
    set(&ledger, "agent:a", Day, NanoUsd, AMOUNT_MAX).await;
    let mut calls = Vec::new();
    for _ in 0..12 {
        calls.push(ledger.reserve(&payer(), usd(1)).await.unwrap());
    }
    for call in calls {
        call.settle(usd(i64::MAX));
        ledger.spend().add(NOON, SpendRow { nano_usd: i64::MAX, tokens_input: -1, requests: 1, ..SpendRow::default() });
        ledger.book(Duration::from_secs(10)).await.unwrap();
    }
    assert!(stands(&ledger).await.0 >= AMOUNT_MAX);
    assert_eq!(ledger.reserve(&payer(), usd(1)).await.unwrap_err().code, Code::BUDGET_EXCEEDED);
    let top = store.read(|conn| Spend::top(conn, NOON, 10)).await.unwrap();
    assert_eq!((top[0].requests, top[0].tokens_input), (12, 0));
}

#[tokio::test]
async fn a_call_that_needs_nothing_of_a_budget_is_not_held_up_by_it() {
    let house = House::new();
    let ledger = house.ledger().await;
    set(&ledger, "agent:a", Day, NanoUsd, 100).await;
    ledger.reserve(&payer(), usd(100)).await.unwrap().settle(usd(150));
    ledger.reserve(&payer(), usd(0)).await.unwrap().settle(usd(0));
    ledger.book(Duration::ZERO).await.unwrap();
    ledger.reserve(&payer(), usd(0)).await.unwrap().settle(usd(0));
    assert_eq!(stands(&ledger).await, (150, 0));
}

#[tokio::test]
async fn a_smaller_budget_for_runs_holds_at_once_for_those_under_way() {
    let house = House::new();
    let ledger = house.ledger().await;
    set(&ledger, "runs-of:a", Total, NanoUsd, 100_000).await;
    // The run now has a slice of 5,000.
    ledger.reserve(&payer(), usd(10)).await.unwrap().settle(usd(10));
    set(&ledger, "runs-of:a", Total, NanoUsd, 100).await;
    assert_eq!(ledger.reserve(&payer(), usd(91)).await.unwrap_err().code, Code::BUDGET_EXCEEDED);
    ledger.reserve(&payer(), usd(90)).await.unwrap().settle(usd(90));
    ledger.book(Duration::from_secs(10)).await.unwrap();
    assert_eq!(house.recorded("budget.warn"), 1, "a run warns as every scope does");
}

#[tokio::test]
async fn a_write_that_fails_neither_loses_nor_makes_anything() {
    let house = House::new();
    let ledger = house.ledger().await;
    set(&ledger, "agent:a", Total, NanoUsd, 1_000).await;
    ledger.reserve(&payer(), usd(900)).await.unwrap().settle(usd(900));
    house.refuses.store(true, SeqCst);
    // The warning is a record, so that the whole booking fails, once of counts that stay and once of idle ones.
    assert!(ledger.book(Duration::from_secs(10)).await.is_err());
    assert!(ledger.book(Duration::ZERO).await.is_err());
    assert!(ledger.set(&Actor::System, budget("agent:a", Total, NanoUsd, 5_000)).await.is_err());
    assert!(ledger.reserve(&payer(), usd(60)).await.is_err(), "a larger slice needs a write");
    house.refuses.store(false, SeqCst);
    assert_eq!(stands(&ledger).await, (900, 0));
    assert_eq!(ledger.reserve(&payer(), usd(101)).await.unwrap_err().code, Code::BUDGET_EXCEEDED);
    ledger.reserve(&payer(), usd(100)).await.unwrap().settle(usd(40));
    ledger.book(Duration::ZERO).await.unwrap();
    assert_eq!(stands(&ledger).await, (940, 0));
    ledger.reserve(&payer(), usd(60)).await.unwrap().release();
}

#[tokio::test]
async fn a_budget_more_than_there_may_be_is_refused_and_none_is_left_out() {
    let house = House::new();
    let store = house.store();
    let ledger = house.ledger_on(store.clone(), "a").await;
    store
        .write(|tx| {
            for number in 0..BUDGETS_MAX {
                let scope = format!("team:z{number}");
                tx.execute(
                    "INSERT INTO budget (scope, period, unit, origin, amount, set_by, set_at)
                     VALUES ($1, 'day', 'tokens', 'operator', 5, 'test', 0)",
                    &[scope.as_str().into()],
                )?;
            }
            Ok(())
        })
        .await
        .unwrap();
    ledger.refresh().await.unwrap();
    let last = Payer { team: Some(format!("z{}", BUDGETS_MAX - 1)), ..Payer::default() };
    assert_eq!(ledger.reserve(&last, usd(1)).await.unwrap_err().code, Code::BUDGET_EXCEEDED);
    let refused = ledger.set(&Actor::System, budget("agent:a", Day, NanoUsd, 1)).await.unwrap_err();
    assert_eq!(refused.code, Code::BUDGET_INVALID);
    ledger.reserve(&payer(), usd(1_000)).await.unwrap().release();
}
