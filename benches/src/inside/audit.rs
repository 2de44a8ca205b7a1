//! The audit log: events a second, time until an event is durable, and how fast the whole log is verified.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use agentos_store::Store;
use agentos_types::audit::{AuditEvent, Decision, Phase};
use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};
use tokio::task::{JoinSet, block_in_place};

use super::Kernel;
use crate::{
    figure::{Figure, Goal, number},
    pace::Pace,
    place::Place,
    probe::{Syncs, millis},
    progress::Progress,
    sample::{Rounds, median},
};

const ROUNDS: usize = 5;
const PRODUCERS: [usize; 3] = [1, 16, 64];
const ROUND: Duration = Duration::from_millis(1_000);
const HOWS: [How; 2] = [How::InWrite, How::Alone];
const APPEND_P95_MAX_MS: f64 = 20.0;
/// The pace at which the goal holds.
const PACE_PER_SECOND: u32 = 5_000;
/// Events that are due at the same tick; a timer that fires 5,000 times a second would be the load.
const PACE_TOGETHER: u32 = 10;
const PACED_PER_ROUND: u32 = 7_500;
/// Below this share of the pace the log did not keep up, whatever the times say.
const PACE_KEPT: f64 = 0.95;
const VERIFY_ROUNDS: usize = 5;
const VERIFY_ROWS_PER_SECOND_MIN: f64 = 100_000.0;

pub async fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let directory = place.fresh("audit-")?;
    let kernel = Arc::new(Kernel::open(directory.path()).await?);
    let kinds: Vec<(How, usize)> =
        HOWS.into_iter().flat_map(|how| PRODUCERS.map(|producers| (how, producers))).collect();
    let mut closed: Vec<Appends> = kinds.iter().map(|_| Appends::on(directory.path())).collect();
    let mut paced = Appends::on(directory.path());
    // The log grows from round to round, so the kinds take turns instead of following each other.
    for round in 1..=ROUNDS {
        for ((how, producers), appends) in kinds.iter().copied().zip(&mut closed) {
            progress.say(&format!("audit {}, {producers} producers, round {round} of {ROUNDS}", how.name()));
            appends.syncs.before_round()?;
            append_closed(&kernel, how, producers, appends).await?;
            appends.syncs.after_round()?;
        }
        progress.say(&format!("audit at {PACE_PER_SECOND}/s, round {round} of {ROUNDS}"));
        paced.syncs.before_round()?;
        append_paced(&kernel, &mut paced).await?;
        paced.syncs.after_round()?;
    }
    let mut figures: Vec<Figure> = kinds
        .into_iter()
        .zip(closed)
        .map(|((how, producers), appends)| {
            let rate = median(appends.rates.iter().copied());
            let plural = if producers == 1 { "" } else { "s" };
            appends
                .figure(format!("audit {}, {producers} producer{plural}", how.name()))
                .note(format!("{} events/s", number(rate)))
        })
        .collect();
    figures.push(judge_paced(paced));
    figures.push(verify(&kernel, directory.path(), progress).await?);
    Ok(figures)
}

/// What an event is recorded with.
#[derive(Clone, Copy)]
enum How {
    /// A write that changes something, as most are.
    InWrite,
    /// Nothing else, as a call of a model.
    Alone,
}

impl How {
    fn name(self) -> &'static str {
        match self {
            How::InWrite => "append",
            How::Alone => "record by itself",
        }
    }
}

/// The rounds of one kind of load.
struct Appends {
    syncs: Syncs,
    times: Rounds,
    rates: Vec<f64>,
}

impl Appends {
    fn on(directory: &Path) -> Self {
        Self { syncs: Syncs::on(directory), times: Rounds::default(), rates: Vec::new() }
    }

    fn figure(&self, name: String) -> Figure {
        Figure::times(name, &self.times, 0.95).beside("fsync p95", self.syncs.p95())
    }
}

/// Each producer appends the next event when the last one is durable.
async fn append_closed(kernel: &Arc<Kernel>, how: How, producers: usize, appends: &mut Appends) -> Result<()> {
    let began = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..producers {
        let kernel = kernel.clone();
        running.spawn(async move {
            let mut taken = Vec::new();
            while began.elapsed() < ROUND {
                let appended = Instant::now();
                append_one(&kernel, how).await?;
                taken.push(millis(appended));
            }
            anyhow::Ok(taken)
        });
    }
    let mut taken = Vec::new();
    while let Some(produced) = running.join_next().await {
        taken.extend(produced??);
    }
    appends.rates.push(taken.len() as f64 / began.elapsed().as_secs_f64());
    appends.times.push(taken);
    Ok(())
}

/// Events fall due at a fixed pace; each is timed from when it was due, so that a stall counts for all that it delays.
async fn append_paced(kernel: &Arc<Kernel>, appends: &mut Appends) -> Result<()> {
    let ticks = (PACED_PER_ROUND / PACE_TOGETHER) as usize;
    let mut pace = Pace::every(Duration::from_secs(1) * PACE_TOGETHER / PACE_PER_SECOND, ticks);
    let began = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..ticks {
        let due = pace.next().await?;
        for _ in 0..PACE_TOGETHER {
            let kernel = kernel.clone();
            running.spawn(async move {
                append_one(&kernel, How::InWrite).await?;
                anyhow::Ok(millis(due))
            });
        }
    }
    let mut taken = Vec::new();
    while let Some(appended) = running.join_next().await {
        taken.push(appended??);
    }
    appends.rates.push(f64::from(PACED_PER_ROUND) / began.elapsed().as_secs_f64());
    appends.times.push(taken);
    Ok(())
}

/// A pace that was not kept is not met by any time: the goal speaks of 5,000 events a second.
fn judge_paced(appends: Appends) -> Figure {
    let rate = median(appends.rates.iter().copied());
    let is_kept = rate >= PACE_KEPT * f64::from(PACE_PER_SECOND);
    let figure = appends.figure(format!("audit append, {} events/s", number(f64::from(PACE_PER_SECOND))));
    if is_kept {
        figure.goal(Goal::at_most(APPEND_P95_MAX_MS)).note(format!("the pace was kept: {} events/s", number(rate)))
    } else {
        let kept = number(rate);
        figure
            .goal(Goal::at_most(0.0))
            .note(format!("the pace was NOT kept ({kept} events/s), so no time meets the goal"))
    }
}

/// An outcome as the monitor writes it.
async fn append_one(kernel: &Kernel, how: How) -> Result<()> {
    let ambient = &kernel.ambient;
    let event =
        AuditEvent::new(ambient.event_id(), ambient.now(), kernel.person(), "net.fetch", "https://example.com/page")
            .phase(Phase::Outcome, Decision::Succeeded)
            .correlation("fetch-1")
            .fact("bytes", 4_096)
            .fact("request_sha256", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    match how {
        How::Alone => kernel.store.record(event).await?,
        How::InWrite => {
            let write = kernel.store.write(move |tx| {
                tx.record(event);
                Ok(())
            });
            write.await?;
        }
    }
    Ok(())
}

async fn verify(kernel: &Kernel, directory: &Path, progress: Progress) -> Result<Figure> {
    let (mut verified, mut read) = (Vec::new(), Vec::new());
    let (mut records, mut checkpoints) = (0, 0);
    for round in 1..=VERIFY_ROUNDS {
        progress.say(&format!("verify, round {round} of {VERIFY_ROUNDS}"));
        read.push(block_in_place(|| read_all(&directory.join(Store::FILE_NAME)))?);
        let began = Instant::now();
        let seen = kernel.log.verify().await?;
        let elapsed = began.elapsed();
        anyhow::ensure!(seen.finding.is_none(), "the log does not verify: {:?}", seen.finding);
        (records, checkpoints) = (seen.records, seen.checkpoints);
        verified.push(records as f64 / elapsed.as_secs_f64());
    }
    let rate = median(verified.iter().copied());
    let rounds = Rounds::from_iter(verified.into_iter().map(|rate| vec![rate]));
    Ok(Figure::values("audit verify", "rows/s", vec![("", rate)], &rounds)
        .goal(Goal::at_least(VERIFY_ROWS_PER_SECOND_MIN))
        .beside("reading the rows only", median(read))
        .note(format!(
            "the log of the lines above: {} records, {} signed checkpoints, {} records a checkpoint",
            number(records as f64),
            number(checkpoints as f64),
            number(records as f64 / checkpoints as f64)
        )))
}

/// Rows a second that SQLite hands out when nothing is done with them.
fn read_all(database: &Path) -> Result<f64> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let began = Instant::now();
    let mut records =
        connection.prepare("SELECT seq, body, prev_hash, leaf_hash FROM audit_record ORDER BY log, seq")?;
    let mut rows = records.query([])?;
    let (mut count, mut bytes) = (0_u64, 0_usize);
    while let Some(row) = rows.next()? {
        for column in 1..=3 {
            bytes += row.get_ref(column)?.as_bytes().context("a column of the log has another type")?.len();
        }
        count += 1;
    }
    anyhow::ensure!(bytes > 0, "the log is empty");
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
