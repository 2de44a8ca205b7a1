//! Many calls at once, at the limit.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::SeqCst},
};

use agentos_base::Ambient;
use agentos_types::{
    Code,
    budget::{BudgetUnit::*, Period::*},
};

use super::house::{House, NOON, payer, set, stands, usd};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_calls_at_the_limit_never_use_more_than_there_is() {
    let house = House::new();
    let ledger = house.ledger().await;
    set(&ledger, "agent:a", Day, NanoUsd, 1_000).await;
    set(&ledger, "team:blue", Month, Requests, 40).await;
    let (spent, refused) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let calls: Vec<_> = (0..50)
        .map(|call: i64| {
            let (ledger, spent, refused) = (ledger.clone(), spent.clone(), refused.clone());
            tokio::spawn(async move {
                match ledger.reserve(&payer(), usd(60)).await {
                    Ok(reservation) => {
                        assert!(spent.fetch_add(60, SeqCst) + 60 <= 1_000, "more was let in than there is");
                        tokio::task::yield_now().await;
                        spent.fetch_sub(call % 60, SeqCst);
                        reservation.settle(usd(60 - call % 60));
                    }
                    Err(fault) => {
                        assert_eq!(fault.code, Code::BUDGET_EXCEEDED, "{fault}");
                        refused.fetch_add(1, SeqCst);
                    }
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert!(refused.load(SeqCst) > 0, "the limit was never reached");
    assert_eq!(ledger.reserved_in_all(), 0);
    let standing = ledger.standing(None).await.unwrap();
    let used = standing.iter().find(|one| one.budget.unit == NanoUsd).unwrap().used;
    assert_eq!(used, spent.load(SeqCst));
    assert!(used <= 1_000);
}

/// Random acts of several callers, with bookings and changes of the budget in between, against a model that only adds.
#[tokio::test]
async fn random_acts_agree_with_a_model_that_only_adds() {
    for seed in 0..12 {
        let house = House::new();
        let ledger = house.ledger().await;
        let (random, _) = Ambient::fake(seed, NOON);
        let draw = |below: i64| i64::try_from(random.random_up_to(below.unsigned_abs() - 1)).unwrap();
        let limit = 500 + draw(5_000);
        set(&ledger, "agent:a", Total, NanoUsd, limit).await;
        let (mut used, mut held) = (0_i64, Vec::new());
        for _ in 0..200 {
            match draw(6) {
                0..=2 => {
                    let asked = 1 + draw(limit / 5);
                    let reserved: i64 = held.iter().map(|(amount, _)| *amount).sum();
                    match ledger.reserve(&payer(), usd(asked)).await {
                        Ok(reservation) => {
                            assert!(
                                used + reserved + asked <= limit,
                                "seed {seed}: {used} + {reserved} + {asked} of {limit}"
                            );
                            held.push((asked, reservation));
                        }
                        Err(_) => assert!(used + reserved + asked > limit, "seed {seed}: refused although it fits"),
                    }
                }
                3 | 4 if !held.is_empty() => {
                    let at = usize::try_from(draw(i64::try_from(held.len()).unwrap())).unwrap();
                    let (amount, reservation) = held.swap_remove(at);
                    let actual = draw(amount + 1);
                    used += actual;
                    reservation.settle(usd(actual));
                }
                _ => ledger.book(std::time::Duration::from_secs(10)).await.unwrap(),
            }
            let reserved: i64 = held.iter().map(|(amount, _)| *amount).sum();
            assert_eq!(stands(&ledger).await, (used, reserved), "seed {seed}");
        }
    }
}
