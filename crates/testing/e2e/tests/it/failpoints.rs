//! Every point of the kernel at which a test can let it die, one after the other, under load, on the same data directory;
//! then rest, and the judge, who shares nothing with the product, reads the whole history.
//!
//! `AGENTOS_CRASH_SEED` repeats a run, `AGENTOS_CRASH_POINTS` names the points (parts of names, by commas). The armed program is
//! built by `scripts/build-for-tests.sh`; the last start of each run is that of the ordinary program.

#![expect(clippy::print_stdout, clippy::panic, reason = "a run says what it has measured, and how to repeat it")]

pub mod field;
mod init;
mod load;
mod plan;
mod poison;
mod sink;
mod thinking;

use agentos_failpoint::Point;
use agentos_scratch::Backend;

use super::chaos::chance::{Chance, setting};

/// Parts of a run, so that two processors share it.
const PARTS: usize = 2;

/// The points of a part, in the order of the seed.
fn chosen(backend: Backend, part: usize, chance: &mut Chance) -> Vec<Point> {
    let named = std::env::var("AGENTOS_CRASH_POINTS").unwrap_or_default();
    let named: Vec<&str> = named.split(',').filter(|name| !name.is_empty()).collect();
    // Those of `init` and of a change of the schema have stories of their own: this load has neither.
    let apart = |point: &Point| ["init.", "store.migration."].iter().any(|part| point.name().starts_with(part));
    // Records wait beside the embedded database alone.
    let is_passed = |point: &Point| backend == Backend::Sqlite || !point.name().starts_with("store.spool.");
    let in_server = Point::ALL.iter().copied().filter(|point| !apart(point) && is_passed(point));
    let mut points: Vec<Point> = match named.is_empty() {
        true => in_server.enumerate().filter(|(index, _)| index % PARTS == part).map(|(_, point)| point).collect(),
        false => in_server.filter(|point| named.iter().any(|name| point.name().contains(name))).collect(),
    };
    for last in (1..points.len()).rev() {
        points.swap(last, chance.below(last + 1));
    }
    points
}

async fn die_everywhere(backend: Backend, part: usize) {
    let seed = setting("AGENTOS_CRASH_SEED", 1);
    let mut chance = Chance::new(seed.wrapping_mul(1_000).wrapping_add(part as u64));
    let points = chosen(backend, part, &mut chance);
    let mut field = field::Field::prepare(backend, seed * 10 + part as u64).await;
    for point in points {
        field.strike(point, 1 + chance.below(usize::try_from(point.hits_max()).unwrap())).await;
    }
    field.judge().await;
}

/// The names of the points are what a build with them cannot hide.
#[test]
fn the_ordinary_program_has_no_failpoints() {
    let text_of = |program: &str| {
        let bytes = std::fs::read(agentos_kit::program(program)).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (armed, ordinary) = (text_of("agent-os-failpoints"), text_of("agent-os"));
    for name in ["store.commit.before", "server.stop.given-back", "AGENTOS_FAILPOINT"] {
        assert!(armed.contains(name), "{name} is not in the program for tests");
        assert!(!ordinary.contains(name), "{name} is in the program that is shipped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_half_of_all_points_on_sqlite() {
    die_everywhere(Backend::Sqlite, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_half_of_all_points_on_sqlite() {
    die_everywhere(Backend::Sqlite, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_half_of_all_points_on_postgres() {
    die_everywhere(Backend::Postgres, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_half_of_all_points_on_postgres() {
    die_everywhere(Backend::Postgres, 1).await;
}
