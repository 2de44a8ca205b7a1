//! From the cells of all rounds to the lines of the table, and to the goals, which are multiples of the floors of the same run.

use std::collections::BTreeMap;

use super::{
    Who,
    load::{Cell, EVENTS, Load},
};
use crate::{
    figure::{Figure, Goal},
    probe::Syncs,
    sample::{Rounds, median},
};

/// Of what the bare pass-through adds.
const ADDED_P50_TIMES: f64 = 2.0;
const ADDED_P99_TIMES: f64 = 3.0;
/// Of the requests a second of the proxy that parses and rewrites.
const SHARE_OF_REWRITE: f64 = 0.25;
/// Of the requests a second without budgets.
const SHARE_WITH_BUDGETS: f64 = 0.9;
const PER_EVENT_MAX_US: f64 = 20.0;
const RESIDENT_MAX_MB: f64 = 50.0;
const US_PER_MS: f64 = 1_000.0;
const ALL: [Who; 7] =
    [Who::Direct, Who::PassThrough, Who::Rewrite, Who::Memory, Who::MemoryBudget, Who::Disk, Who::LiteLlm];
const OURS: [Who; 3] = [Who::Memory, Who::MemoryBudget, Who::Disk];
/// The load at which requests a second are judged.
const SATURATED: Load = Load::Whole(64);
const LARGEST: Load = Load::Whole(1_024);

/// All rounds of one target under one load.
#[derive(Debug, Default)]
pub struct Measured {
    /// Microseconds up to the last byte.
    times: Rounds,
    rates: Vec<f64>,
    errors: usize,
    /// Rounds with an error, and which.
    discarded: Vec<String>,
}

struct Results<'a> {
    cells: &'a BTreeMap<(Load, Who), Measured>,
    syncs: &'a Syncs,
}

impl Measured {
    /// A cell with an error is no figure: what failed was fast.
    pub fn take(&mut self, cell: Cell) {
        let errors = cell.errors();
        if errors == 0 {
            self.times.push(cell.times);
            self.rates.push(cell.per_second);
            return;
        }
        self.errors += errors;
        let classes: Vec<String> = cell.errors.iter().map(|(class, count)| format!("{count} × {class}")).collect();
        self.discarded.push(classes.join(", "));
    }
}

impl Load {
    pub fn name(self) -> String {
        match self {
            Self::Whole(1) => "1 at once".into(),
            Self::Whole(count) => format!("{count} at once"),
            Self::Stream(count) => format!("streams, {count} at once"),
            Self::Paced(rate) => format!("{rate}/s by the clock"),
        }
    }
}

/// `left_out` is why LiteLLM was not measured.
pub fn all(
    cells: &BTreeMap<(Load, Who), Measured>,
    syncs: &Syncs,
    resident: &[(Who, f64)],
    left_out: Option<&str>,
) -> Vec<Figure> {
    let results = Results { cells, syncs };
    let mut figures = Vec::new();
    for load in super::LOADS {
        let measured = || ALL.into_iter().filter(|who| cells.contains_key(&(load, *who)));
        if matches!(load, Load::Paced(_)) {
            figures.extend(measured().filter_map(|who| results.whole(load, who)));
        } else {
            figures.extend(measured().filter_map(|who| results.added(load, who)));
            figures.extend(measured().filter_map(|who| results.rate(load, who)));
        }
    }
    figures.extend(OURS.into_iter().filter_map(|who| results.tail(who)));
    figures.extend(ALL.into_iter().filter_map(|who| results.per_event(who)));
    figures.extend(OURS.into_iter().filter_map(|who| results.errors(who)));
    figures.extend(resident.iter().map(|(who, megabytes)| memory(*who, *megabytes)));
    match (left_out, figures.pop()) {
        (Some(reason), Some(last)) => figures.push(last.note(format!("LiteLLM is left out: {reason}"))),
        (None, Some(last)) => figures.push(last),
        (_, None) => {}
    }
    figures
}

impl Results<'_> {
    fn cell(&self, load: Load, who: Who) -> Option<&Measured> {
        self.cells.get(&(load, who))
    }

    /// Microseconds at a quantile beyond those of the provider itself.
    fn added_at(&self, load: Load, who: Who, q: f64) -> f64 {
        let at = |who| self.cell(load, who).map_or(f64::NAN, |cell| cell.times.quantile(q));
        at(who) - at(Who::Direct)
    }

    fn rate_of(&self, load: Load, who: Who) -> f64 {
        self.cell(load, who).map_or(f64::NAN, |cell| median(cell.rates.iter().copied()))
    }

    /// One sync of the disk, for who waits for one.
    fn sync_us(&self, who: Who, q: f64) -> f64 {
        if who == Who::Disk { self.syncs.rounds().quantile(q) * US_PER_MS } else { 0.0 }
    }

    fn added(&self, load: Load, who: Who) -> Option<Figure> {
        let cell = self.cell(load, who).filter(|_| who != Who::Direct)?;
        let at = |q| self.added_at(load, who, q);
        let values = vec![("p50", at(0.5)), ("p95", at(0.95)), ("p99", at(0.99))];
        let name = format!("model call, added, {}: {}", load.name(), who.name());
        let figure = Figure::values(name, "µs", values, &cell.times);
        let is_judged = load == Load::Whole(1) && OURS.contains(&who);
        Some(with_discarded(if is_judged { self.judge(figure, who, 0.5, ADDED_P50_TIMES) } else { figure }, cell))
    }

    /// The worst of a hundred, on a line of its own because each line has one goal.
    fn tail(&self, who: Who) -> Option<Figure> {
        let cell = self.cell(Load::Whole(1), who)?;
        let values = vec![("p99", self.added_at(Load::Whole(1), who, 0.99))];
        let name = format!("model call, added, worst of 100: {}", who.name());
        Some(self.judge(Figure::values(name, "µs", values, &cell.times), who, 0.99, ADDED_P99_TIMES))
    }

    fn judge(&self, figure: Figure, who: Who, q: f64, times: f64) -> Figure {
        let floor = self.added_at(Load::Whole(1), Who::PassThrough, q);
        let sync = self.sync_us(who, q);
        let from = if who == Who::Disk { " + an fsync" } else { "" };
        figure
            .goal(Goal::at_most(times * floor + sync).from(format!("{times} × pass-through{from}")))
            .beside(Who::PassThrough.name(), floor)
    }

    /// Times that count from when a request was due.
    fn whole(&self, load: Load, who: Who) -> Option<Figure> {
        let cell = self.cell(load, who)?;
        let values = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)].map(|(label, q)| (label, cell.times.quantile(q)));
        let name = format!("model call, {}: {}", load.name(), who.name());
        let figure = Figure::values(name, "µs", values.to_vec(), &cell.times);
        let figure = figure.note(format!("{:.0}/s were kept", self.rate_of(load, who)));
        let direct = self.cell(load, Who::Direct).map_or(f64::NAN, |direct| direct.times.median());
        Some(with_discarded(if who == Who::Direct { figure } else { figure.beside("direct p50", direct) }, cell))
    }

    fn rate(&self, load: Load, who: Who) -> Option<Figure> {
        let cell = self.cell(load, who)?;
        let rates: Rounds = cell.rates.iter().map(|rate| vec![*rate]).collect();
        let name = format!("model calls, {}: {}", load.name(), who.name());
        let spread = |pick: fn(f64, f64) -> f64| cell.rates.iter().copied().reduce(pick).unwrap_or(f64::NAN);
        let values = vec![("", self.rate_of(load, who)), ("least", spread(f64::min)), ("most", spread(f64::max))];
        let figure = Figure::values(name, "/s", values, &rates);
        let share_of = |figure: Figure, other: Who, share: f64| {
            let rate = self.rate_of(load, other);
            let from = format!("{:.0} % of {}", share * 100.0, other.name());
            figure.goal(Goal::at_least(share * rate).from(from)).beside(other.name(), rate)
        };
        let figure = match who {
            Who::Disk if load == SATURATED => share_of(figure, Who::Rewrite, SHARE_OF_REWRITE),
            Who::MemoryBudget if load == SATURATED => share_of(figure, Who::Memory, SHARE_WITH_BUDGETS),
            _ => figure,
        };
        Some(with_discarded(figure, cell))
    }

    fn per_event(&self, who: Who) -> Option<Figure> {
        let cell = self.cell(Load::Stream(1), who).filter(|_| who != Who::Direct)?;
        let added = self.added_at(Load::Stream(1), who, 0.5) / EVENTS as f64;
        let name = format!("stream, added for each event: {}", who.name());
        let figure = Figure::values(name, "µs", vec![("p50", added)], &cell.times);
        Some(if OURS.contains(&who) { figure.goal(Goal::at_most(PER_EVENT_MAX_US)) } else { figure })
    }

    fn errors(&self, who: Who) -> Option<Figure> {
        let cell = self.cell(LARGEST, who)?;
        let name = format!("errors, {}: {}", LARGEST.name(), who.name());
        let one: Rounds = [vec![cell.errors as f64]].into_iter().collect();
        let figure = Figure::values(name, "", vec![("", cell.errors as f64)], &one).goal(Goal::at_most(0.0));
        Some(with_discarded(figure, cell))
    }
}

fn with_discarded(figure: Figure, cell: &Measured) -> Figure {
    if cell.discarded.is_empty() {
        return figure;
    }
    let rounds = cell.discarded.join("; ");
    figure.note(format!("{} rounds discarded because requests failed: {rounds}", cell.discarded.len()))
}

fn memory(who: Who, megabytes: f64) -> Figure {
    let one: Rounds = [vec![megabytes]].into_iter().collect();
    let figure = Figure::values(format!("resident after all loads: {}", who.name()), "MB", vec![("", megabytes)], &one);
    if OURS.contains(&who) { figure.goal(Goal::at_most(RESIDENT_MAX_MB)) } else { figure }
}
