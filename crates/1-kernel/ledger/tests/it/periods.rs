//! Counting begins anew at the end of a minute, a day, a month.

use std::time::Duration;

use agentos_types::{
    Code,
    budget::{BudgetUnit::*, Period::*},
};

use super::house::{House, payer, set, stands, usd};

#[tokio::test]
async fn each_period_begins_with_nothing_used() {
    for (period, until_next) in [(Minute, 30), (Day, 14 * 3_600 - 30), (Month, 7 * 86_400 + 14 * 3_600 - 30)] {
        let house = House::new();
        let ledger = house.ledger().await;
        set(&ledger, "agent:a", period, Requests, 2).await;
        for _ in 0..2 {
            ledger.reserve(&payer(), usd(1)).await.unwrap().settle(usd(1));
        }
        house.clock.advance(Duration::from_secs(until_next) - Duration::from_micros(1));
        assert_eq!(ledger.reserve(&payer(), usd(1)).await.unwrap_err().code, Code::BUDGET_EXCEEDED, "{period:?}");
        house.clock.advance(Duration::from_micros(1));
        ledger.reserve(&payer(), usd(1)).await.unwrap().settle(usd(1));
        assert_eq!(stands(&ledger).await, (1, 0), "{period:?}");
    }
}

#[tokio::test]
async fn a_call_is_settled_in_the_period_that_it_was_reserved_in() {
    let house = House::new();
    let ledger = house.ledger().await;
    set(&ledger, "agent:a", Minute, NanoUsd, 100).await;
    let late = ledger.reserve(&payer(), usd(100)).await.unwrap();
    house.clock.advance(Duration::from_secs(60));
    ledger.reserve(&payer(), usd(100)).await.unwrap().release();
    late.settle(usd(100));
    ledger.reserve(&payer(), usd(100)).await.unwrap().settle(usd(40));
    assert_eq!(stands(&ledger).await, (40, 0));
}
