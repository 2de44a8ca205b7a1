//! The file of the embedded database: room that pruning frees is used again, and a surplus leaves it. Postgres does this by
//! its own vacuum; the soak looks at its sizes.

use agentos_store::Store;
use agentos_tasks::retention::{self, Retention};

use super::on_sqlite::{
    bench::*,
    room::{DAY, POLICY, fill, run},
};

const PAGE_BYTES: i64 = 4_096;
/// What the log of changes may have: its bound, and the commit that reaches it.
const LOG_BYTES_MAX: u64 = 40 << 20;

/// The size of the file once all of its log is carried over.
async fn size(bench: &Bench) -> i64 {
    let log = bench.directory.path().join(format!("{}-wal", Store::FILE_NAME));
    assert!(std::fs::metadata(log).unwrap().len() < LOG_BYTES_MAX);
    bench.count("PRAGMA page_count").await * PAGE_BYTES
}

#[tokio::test]
async fn freed_room_is_used_again_and_a_surplus_is_given_back() {
    let bench = bench().await;
    let mut pruners = retention::pruners(&POLICY);
    pruners.push(retention::last());
    // With a clock that stands still a run makes no pauses.
    let retention = Retention::new(bench.store.clone(), bench.ambient.clone(), POLICY, pruners);
    let mut sizes = Vec::new();
    for _ in 0..8 {
        fill(&bench, 1_000).await;
        bench.clock.advance(DAY * 31);
        assert_eq!(run(&retention).await, 1_000);
        sizes.push(size(&bench).await);
    }
    println!("size after each month of 1,000 tasks: {sizes:?}");
    let (first, last) = (sizes[1], sizes[7]);
    assert!(last <= first + first / 10, "the file grows: {sizes:?}");
    // A month of five times the work, and then a quiet one.
    fill(&bench, 5_000).await;
    let busy = size(&bench).await;
    bench.clock.advance(DAY * 31);
    run(&retention).await;
    // What a reader still sees of the old pages leaves the file with the next checkpoint.
    bench.submit().await;
    let free = bench.count("PRAGMA freelist_count").await;
    let all = bench.count("PRAGMA page_count").await;
    println!("after a month of 5,000 tasks {busy} bytes, pruned {} pages of which {free} are free", all);
    assert!(free <= all / 4 + 1_500, "{free} of {all} pages are free and were kept");
    assert!(all * PAGE_BYTES < busy / 2, "{all} pages of a file that had {busy} bytes");
}
