//! A thousand idle sandboxes at once: how soon they are up, what each costs the machine, how soon all of them answer.

use std::{fs, time::Instant};

use anyhow::{Context, Result};

use super::{Inmate, Workbench, usual_limits};
use crate::{
    figure::{Figure, Goal},
    place::Place,
    probe::millis,
    progress::Progress,
    sample::Rounds,
};

const SANDBOXES: u32 = 1_000;
const STARTING_AT_ONCE: usize = 2;
const OVERHEAD_MAX_KIB: f64 = 1_024.0;

pub async fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let programs = place.sandbox_programs()?;
    let bench = Workbench::open(programs.path(), true)?;
    bench.start(&bench.plan(0, "idle"), None).await?.end().await?;
    progress.say(&format!("{SANDBOXES} sandboxes"));
    let before = Memory::read()?;
    let began = Instant::now();
    let mut inmates = Vec::with_capacity(usize::try_from(SANDBOXES)?);
    let numbers: Vec<u32> = (1..=SANDBOXES).collect();
    for some in numbers.chunks(STARTING_AT_ONCE) {
        let starts = some.iter().map(|number| start(&bench, *number));
        inmates.extend(futures_util::future::try_join_all(starts).await?);
    }
    let up_s = began.elapsed().as_secs_f64();
    let after = Memory::read()?;
    let mut pings = Vec::with_capacity(inmates.len());
    for inmate in &mut inmates {
        let began = Instant::now();
        inmate.ping().await?;
        pings.push(millis(began));
    }
    let each = |bytes: f64| bytes / f64::from(SANDBOXES);
    for inmate in inmates {
        inmate.end().await?;
    }
    let one = |value: f64| -> Rounds { [vec![value]].into_iter().collect() };
    let memory = each(before.available_kib - after.available_kib);
    let slab = each(after.slab_kib - before.slab_kib);
    let pings: Rounds = [pings].into_iter().collect();
    let count = f64::from(SANDBOXES);
    Ok(vec![
        Figure::values(format!("{SANDBOXES} idle sandboxes up"), "s", vec![("", up_s)], &one(up_s))
            .note(format!("{} a second, {STARTING_AT_ONCE} at once", crate::figure::number(count / up_s))),
        Figure::values("memory of each, machine-wide", "KiB", vec![("", memory), ("slab", slab)], &one(memory))
            .goal(Goal::at_most(OVERHEAD_MAX_KIB))
            .note("the fall of MemAvailable, program included"),
        Figure::times("a word to each of them and back", &pings, 0.95),
    ])
}

async fn start(bench: &Workbench, number: u32) -> Result<Inmate> {
    let group = bench.group(number, &usual_limits())?;
    bench.start(&bench.plan(number, "idle"), group).await.with_context(|| format!("sandbox {number}"))
}

struct Memory {
    available_kib: f64,
    slab_kib: f64,
}

impl Memory {
    fn read() -> Result<Self> {
        let text = fs::read_to_string("/proc/meminfo")?;
        let field = |name: &str| -> Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
            Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
        };
        Ok(Self { available_kib: field("MemAvailable:")?, slab_kib: field("Slab:")? })
    }
}
