//! The same model driven by generated sequences, which are shrunk to the shortest one that fails.
//! `AGENTOS_SIM_CASES` chooses how many.

use agentos_scratch::Backend;
use proptest::{
    collection::vec,
    strategy::Strategy,
    test_runner::{Config, TestCaseError, TestRunner},
};

use crate::{deed::Deed, play::Play, seeds::setting};

const CASES: u32 = 60;
const CASES_ON_POSTGRES: u32 = 6;
const DEEDS_MAX: usize = 60;

fn deeds() -> impl Strategy<Value = Vec<(u8, u16, u16)>> {
    vec((0..Deed::KINDS, 0..1_000u16, 0..1_000u16), 1..DEEDS_MAX)
}

fn check(backend: Backend, cases: u32) {
    let cases = u32::try_from(setting("AGENTOS_SIM_CASES", cases.into())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&deeds(), |numbers| {
        runtime.block_on(async {
            let mut play = Play::begin(backend, 1).await;
            for (kind, a, b) in numbers {
                play.step(Deed::of(kind, a, b)).await;
            }
            play.rest().await;
        });
        Ok::<(), TestCaseError>(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn generated_sequences_keep_every_promise_on_sqlite() {
    check(Backend::Sqlite, CASES);
}

#[test]
fn generated_sequences_keep_every_promise_on_postgres() {
    check(Backend::Postgres, CASES_ON_POSTGRES);
}
