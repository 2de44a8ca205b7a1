//! The journal on real databases, with a clock and randomness that the tests own.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a broken expectation is how a test fails")]

mod clocks;
mod file;
mod others;
mod partitions;

#[path = "."]
mod on_sqlite {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Sqlite;

    pub(super) mod bench;
    mod claiming;
    mod clock;
    mod intake;
    pub(super) mod machine;
    mod operations;
    mod outcomes;
    mod reading;
    mod recovery;
    mod retention;
    pub(super) mod room;
    mod scheduling;
    mod steps;
    mod timing;
    mod traces;
}

#[path = "."]
mod on_postgres {
    pub(super) const BACKEND: agentos_scratch::Backend = agentos_scratch::Backend::Postgres;

    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    pub(super) mod bench;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod claiming;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod clock;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod intake;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    pub(super) mod machine;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod operations;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod outcomes;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod reading;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod recovery;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod retention;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod room;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod scheduling;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod steps;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod timing;
    #[expect(clippy::duplicate_mod, reason = "the same promises on the other database")]
    mod traces;
}

/// Seeds of the random stories; a statement on Postgres takes ten times as long.
const SEEDS: u64 = 20;
const SEEDS_ON_POSTGRES: u64 = 6;

#[tokio::test]
async fn random_work_agrees_with_the_model_on_sqlite() {
    let mut told = Vec::new();
    for seed in 0..SEEDS {
        told.extend(on_sqlite::machine::story(seed).await);
    }
    // Stories in which nothing happens agree with everything.
    for (kind, end) in [
        ("submit: ", " again"),
        ("complete: ", " true"),
        ("complete: ", " false"),
        ("fail: ", " stale"),
        ("redrive: ", " refused"),
        ("cancel: ", " canceled"),
        ("cancel: ", " working"),
        ("recover: ", "2"),
        ("hand back: ", "1"),
        ("renew: lost ", "[]"),
    ] {
        let times = told.iter().filter(|line| line.starts_with(kind) && line.ends_with(end)).count();
        assert!(times >= 5, "{kind}…{end} happened {times} times");
    }
}

#[tokio::test]
async fn random_work_on_postgres_tells_the_same_story() {
    for seed in 0..SEEDS_ON_POSTGRES {
        let (one, other) = (on_sqlite::machine::story(seed).await, on_postgres::machine::story(seed).await);
        assert_eq!(one, other, "seed {seed}");
    }
}
