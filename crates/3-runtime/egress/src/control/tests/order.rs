//! Sandboxes that begin and end at every instant of the life of a proxy, in orders that a seed decides. In the end the proxy
//! knows those that live, and no other: one that it was not told the end of would keep its listeners for ever.

use std::collections::BTreeSet;

use agentos_base::Ambient;
use agentos_protocol::egress::{FromProxy, ToProxy};
use agentos_types::Timestamp;
use tokio::task::yield_now;

use super::fake::{Fake, Stage, within};
use crate::control::{Attached, Care};

const SEEDS: u64 = 30;
const STEPS: usize = 16;
/// Sandboxes that are there before the proxy, with so many bytes of names: more than its socket takes at once, so that the
/// server waits in the middle of telling, and everything else goes on.
const CROWD: usize = 16;
const NAMES: usize = 400;
/// Messages that are surely there, once the proxy is ready.
const READ_EARLY_MAX: usize = 4;
/// Of a sandbox that nobody has: its answer comes after everything that the proxy is told.
const STRANGER: u64 = 1 << 40;

#[test]
fn in_any_order_the_proxy_knows_those_that_live() {
    for seed in 0..SEEDS {
        // One thread: the order of what happens is the seed's.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(seed));
    }
}

async fn run(seed: u64) {
    let (ambient, _) = Ambient::fake(seed, Timestamp::ZERO);
    let below = |count: usize| usize::try_from(ambient.random_up_to(count as u64 - 1)).unwrap();
    let mut stage = Stage::open(Care::default());
    let mut living: Vec<Attached> = (0..CROWD).map(|_| attach_large(&stage)).collect();
    let mut proxy = stage.proxy().await;
    let (mut is_ready, mut has_died, mut early) = (false, false, 0);
    let mut known = BTreeSet::new();
    for _ in 0..STEPS {
        match below(7) {
            0 => living.push(stage.attach("one")),
            1 | 2 => drop(living.swap_remove(below(living.len()))),
            3 | 4 if !is_ready => {
                proxy = proxy.ready();
                is_ready = true;
            }
            5 if is_ready && early < READ_EARLY_MAX => {
                follow(&proxy, &mut known).await;
                early += 1;
            }
            6 if !has_died => {
                proxy.die();
                proxy = stage.proxy().await;
                (is_ready, has_died, early) = (false, true, 0);
                known.clear();
            }
            _ => {}
        }
        for _ in 0..below(5) {
            yield_now().await;
        }
    }
    if !is_ready {
        proxy = proxy.ready();
    }
    hear_all(&stage, &proxy, &mut known, 1).await;
    let expected: BTreeSet<u64> = living.iter().map(|attached| attached.sandbox).collect();
    assert_eq!(known, expected, "seed {seed}");
    assert_eq!(stage.egress.counts().sandboxes, expected.len() as u64, "seed {seed}");
    drop(living);
    hear_all(&stage, &proxy, &mut known, 2).await;
    assert!(known.is_empty(), "seed {seed}: {known:?}");
    // The farewells were answered, so nothing is kept for them.
    proxy.ask(3, STRANGER, "a.example");
    proxy.verdict(3).await;
    assert!(stage.egress.shared.table.all().is_empty(), "seed {seed}");
}

fn attach_large(stage: &Stage) -> Attached {
    let attached = stage.attach("one");
    let entry = stage.egress.shared.table.get(attached.sandbox).unwrap();
    for number in 0..NAMES {
        assert!(entry.names.number(&format!("{number:0>240}.example")).is_some());
    }
    attached
}

/// Everything that the proxy is told up to now.
async fn hear_all(stage: &Stage, proxy: &Fake, known: &mut BTreeSet<u64>, ask: u64) {
    let settled = async {
        within("the control", stage.egress.settled()).await;
        proxy.ask(ask, STRANGER, "a.example");
    };
    let heard = async { while follow(proxy, known).await != Some(ask) {} };
    tokio::join!(settled, heard);
}

/// The next thing that the proxy is told; the number of the question if it is an answer.
async fn follow(proxy: &Fake, known: &mut BTreeSet<u64>) -> Option<u64> {
    match proxy.next_with_pings().await.0 {
        ToProxy::Attach(attachment) => assert!(known.insert(attachment.sandbox), "told twice"),
        ToProxy::Detach { sandbox } => assert!(known.remove(&sandbox), "{sandbox} was not known"),
        ToProxy::Ping { n } => proxy.say(&FromProxy::Pong { n }),
        ToProxy::Verdict { ask, .. } => return Some(ask),
    }
    None
}
