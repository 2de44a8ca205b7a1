//! Several nodes on one database share each budget.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use agentos_types::{
    Actor, Code,
    budget::{BudgetUnit::*, Period::*},
};

use super::house::{House, budget, payer, set, usd};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_on_one_database_never_use_more_together_than_there_is() {
    let house = House::new();
    let store = house.store();
    let nodes = [house.ledger_on(store.clone(), "a").await, house.ledger_on(store, "b").await];
    set(&nodes[0], "agent:a", Total, NanoUsd, 2_000).await;
    nodes[1].refresh().await.unwrap();
    let spent = Arc::new(AtomicI64::new(0));
    let calls: Vec<_> = (0..80)
        .map(|call: usize| {
            let (ledger, spent) = (nodes[call % 2].clone(), spent.clone());
            tokio::spawn(async move {
                let amount = 40 + i64::try_from(call).unwrap();
                match ledger.reserve(&payer(), usd(amount)).await {
                    Ok(reservation) => {
                        assert!(spent.fetch_add(amount, SeqCst) + amount <= 2_000, "more was let in than there is");
                        tokio::task::yield_now().await;
                        let actual = amount / (1 + i64::from(call.is_multiple_of(3)));
                        spent.fetch_sub(amount - actual, SeqCst);
                        reservation.settle(usd(actual));
                    }
                    Err(fault) => assert_eq!(fault.code, Code::BUDGET_EXCEEDED, "{fault}"),
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    for node in &nodes {
        node.book(Duration::ZERO).await.unwrap();
    }
    for node in &nodes {
        let used = node.standing(None).await.unwrap()[0].used;
        assert_eq!(used, spent.load(SeqCst), "both nodes count the same");
    }
    // What was given back is there for either.
    let rest = 2_000 - spent.load(SeqCst);
    nodes[1].reserve(&payer(), usd(rest)).await.unwrap().settle(usd(rest));
    assert_eq!(nodes[0].reserve(&payer(), usd(1)).await.unwrap_err().code, Code::BUDGET_EXCEEDED);
}

/// A node as a session of its own, which leases by the statement of `rows.rs` while this one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lease_of_another_session_is_never_given_twice() {
    let house = House::new();
    let ledger = house.ledger().await;
    set(&ledger, "agent:a", Total, NanoUsd, 10_000).await;
    let Some(postgres) = house.postgres() else { return };
    ledger.reserve(&payer(), usd(1)).await.unwrap().settle(usd(1));
    let leased_there = || {
        // What it writes makes the database unfit for the next test.
        postgres.run("SELECT 1");
        let changed = postgres.ask(
            "WITH changed AS (UPDATE agent_os.budget_use SET leased = leased + 333
               WHERE scope = 'agent:a' AND used + leased + 333 <= 10000 RETURNING 1)
             SELECT count(*)::text FROM changed",
        );
        changed.as_deref() == Some("1")
    };
    let (mut here, mut there) = (1, 0);
    std::thread::scope(|threads| {
        let other = threads.spawn(|| (0..40).filter(|_| leased_there()).count());
        for _ in 0..40 {
            if let Ok(reservation) = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(ledger.reserve(&payer(), usd(333)))
            }) {
                reservation.settle(usd(333));
                here += 333;
            }
        }
        there = 333 * i64::try_from(other.join().unwrap()).unwrap();
    });
    assert!(here + there <= 10_000, "{here} here and {there} there");
    assert!(here + there > 9_000 - 500, "{here} here and {there} there: what is free was refused");
}

#[tokio::test]
async fn a_budget_that_another_node_makes_smaller_holds_before_this_one_has_heard_of_it() {
    let house = House::new();
    let store = house.store();
    let (here, there) = (house.ledger_on(store.clone(), "a").await, house.ledger_on(store, "b").await);
    set(&here, "agent:a", Month, NanoUsd, 100_000).await;
    there.refresh().await.unwrap();
    // It now has a slice of 2,000.
    there.reserve(&payer(), usd(10)).await.unwrap().settle(usd(10));
    set(&here, "agent:a", Month, NanoUsd, 3_000).await;
    assert_eq!(there.reserve(&payer(), usd(3_000)).await.unwrap_err().code, Code::BUDGET_EXCEEDED);
    there.refresh().await.unwrap();
    here.reserve(&payer(), usd(2_990)).await.unwrap().release();
    assert_eq!(here.reserve(&payer(), usd(2_991)).await.unwrap_err().code, Code::BUDGET_EXCEEDED);
    here.remove(&Actor::System, budget("agent:a", Month, NanoUsd, 0)).await.unwrap();
    there.refresh().await.unwrap();
    there.reserve(&payer(), usd(5_000)).await.unwrap().release();
}

#[tokio::test]
async fn what_calls_hold_stays_theirs_when_a_provider_reports_too_much() {
    let house = House::new();
    let store = house.store();
    let (here, there) = (house.ledger_on(store.clone(), "a").await, house.ledger_on(store, "b").await);
    set(&here, "agent:a", Day, NanoUsd, 1_000).await;
    there.refresh().await.unwrap();
    let (too_much, under_way) =
        (here.reserve(&payer(), usd(100)).await.unwrap(), here.reserve(&payer(), usd(300)).await.unwrap());
    too_much.settle(usd(500));
    here.book(Duration::from_secs(10)).await.unwrap();
    assert_eq!(there.reserve(&payer(), usd(201)).await.unwrap_err().code, Code::BUDGET_EXCEEDED);
    there.reserve(&payer(), usd(200)).await.unwrap().settle(usd(200));
    under_way.settle(usd(300));
    assert_eq!(here.standing(None).await.unwrap()[0].used, 800, "the other node has not booked yet");
    there.book(Duration::ZERO).await.unwrap();
    assert_eq!(here.standing(None).await.unwrap()[0].used, 1_000);
}

#[tokio::test]
async fn what_a_deployment_announces_holds_until_it_is_stored_or_given_up() {
    let house = House::new();
    let ledger = house.ledger().await;
    let agent = "a".parse().unwrap();
    let announced = ledger.announce(vec![budget("agent:a", Day, NanoUsd, 100)]);
    drop(ledger.announce(vec![budget("agent:a", Day, NanoUsd, 5)]));
    assert_eq!(ledger.reserve(&payer(), usd(101)).await.unwrap_err().code, Code::BUDGET_EXCEEDED);
    ledger.reserve(&payer(), usd(100)).await.unwrap().release();
    drop(announced);
    ledger.reserve(&payer(), usd(101)).await.unwrap().release();
    ledger.enrol(&agent, Some("blue".into()), None);
    let payer = ledger.payer(&agent, None);
    assert_eq!((payer.team.as_deref(), payer.tenant), (Some("blue"), None));
    ledger.enrol(&agent, None, None);
    assert_eq!(ledger.payer(&agent, None).team, None);
}
