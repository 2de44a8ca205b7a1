//! A node that dies forfeits what it held, and nothing more is ever used than a budget has.

use std::time::Duration;

use agentos_types::{
    Code,
    budget::{BudgetUnit::*, Period::*},
};

use super::house::{House, payer, set, stands, usd};

#[tokio::test]
async fn what_a_dead_node_held_counts_and_what_an_orderly_stop_gave_back_does_not() {
    let house = House::new();
    {
        let ledger = house.ledger().await;
        set(&ledger, "agent:a", Day, NanoUsd, 10_000).await;
        ledger.reserve(&payer(), usd(50)).await.unwrap().settle(usd(20));
        // Dies here: nothing is booked. It had leased a fiftieth.
    }
    {
        let ledger = house.ledger().await;
        let standing = ledger.standing(None).await.unwrap();
        assert_eq!((standing[0].used, standing[0].forfeited), (200, 200));
        assert_eq!(house.recorded("budget.forfeit"), 1);
        ledger.reserve(&payer(), usd(9_800)).await.unwrap().settle(usd(100));
        ledger.book(Duration::ZERO).await.unwrap();
    }
    let ledger = house.ledger().await;
    assert_eq!(stands(&ledger).await, (300, 0), "an orderly stop forfeits nothing");
    assert_eq!(ledger.reserve(&payer(), usd(9_701)).await.unwrap_err().code, Code::BUDGET_EXCEEDED);
    ledger.reserve(&payer(), usd(9_700)).await.unwrap().release();
}

#[tokio::test]
async fn deaths_at_any_moment_never_let_more_be_used_than_there_is() {
    let house = House::new();
    let mut spent = 0;
    for life in 0..12 {
        let ledger = house.ledger().await;
        if life == 0 {
            set(&ledger, "agent:a", Total, NanoUsd, 1_000).await;
        }
        // Each life spends until it dies at another place: with something reserved, settled, or booked.
        for call in 0..=life {
            let Ok(reservation) = ledger.reserve(&payer(), usd(37)).await else { break };
            if call == life && life % 3 == 0 {
                spent += 37;
                drop(reservation);
                break;
            }
            spent += 31;
            reservation.settle(usd(31));
            if life % 4 == 1 {
                ledger.book(Duration::from_secs(10)).await.unwrap();
            }
        }
        assert!(spent <= 1_000, "{spent} were spent of 1,000 after life {life}");
    }
    let ledger = house.ledger().await;
    let (used, reserved) = stands(&ledger).await;
    assert!(spent <= used && used <= 1_000 && reserved == 0, "spent {spent}, counted {used}");
}

/// What the guide says to those who set budgets.
#[tokio::test]
async fn a_crash_loses_the_part_that_the_guide_says_and_it_comes_back_as_it_says() {
    let guide = include_str!("../../../../../docs/src/guides/budgets.md");
    for (period, next) in [
        (Minute, Some(Duration::from_secs(60))),
        (Day, Some(Duration::from_secs(86_400))),
        (Month, Some(Duration::from_secs(31 * 86_400))),
        (Total, None),
    ] {
        let row = guide.lines().find(|line| line.starts_with(&format!("| `{}` |", period.as_str()))).unwrap();
        let percent: i64 = row.split(['|', '%']).nth(2).unwrap().trim().parse().unwrap();
        let house = House::new();
        {
            let ledger = house.ledger().await;
            set(&ledger, "agent:a", period, NanoUsd, 100_000).await;
            ledger.reserve(&payer(), usd(50)).await.unwrap().settle(usd(20));
            // Dies here.
        }
        let ledger = house.ledger().await;
        let lost = ledger.standing(None).await.unwrap().remove(0).forfeited;
        assert_eq!(lost, 1_000 * percent, "{row}");
        let refused = async |amount: i64| ledger.reserve(&payer(), usd(amount)).await.err().map(|fault| fault.code);
        assert_eq!(refused(100_001 - lost).await, Some(Code::BUDGET_EXCEEDED), "{row}");
        match next {
            Some(next) => house.clock.advance(next),
            None => {
                house.clock.advance(Duration::from_secs(400 * 86_400));
                assert_eq!(refused(100_001 - lost).await, Some(Code::BUDGET_EXCEEDED), "a total has no next period");
                assert!(row.contains("never"), "{row}");
                set(&ledger, "agent:a", period, NanoUsd, 100_000 + lost).await;
            }
        }
        assert_eq!(refused(100_000).await, None, "{row}");
    }
}
