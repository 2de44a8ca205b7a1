//! The kernel's series in Prometheus text, in the names and with the labels of `agentos_base::names`.
//!
//! The number of series has a bound that no caller can move: a label is a state, a fixed word, a witness of the settings, a
//! registered log, or the name of one of the first agents; all other agents together are one more. No task id, token, URL or free text is ever a label.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::atomic::Ordering,
};

use agentos_base::names::{self, AGENTS_LABELLED_MAX, Metric, OTHER_AGENTS};
use agentos_egress::control::Counts;
use agentos_types::{
    Fault, Result,
    agent::Agent,
    witness::{WitnessTarget, WitnessedLog},
};

mod budgets;
mod models;

use super::ServerKernel;

pub(super) async fn render(kernel: &ServerKernel) -> Result<String> {
    let schema = kernel.store.schema();
    let (tasks, audit_size) = kernel
        .store
        .read(|conn| {
            let tasks = conn.query("SELECT agent, state, count(*) FROM task GROUP BY agent, state", &[], |row| {
                Ok((row.text(0)?, row.text(1)?, row.integer(2)?))
            })?;
            let size =
                conn.query_one("SELECT coalesce(max(size), 0) FROM audit_frontier", &[], |row| row.integer(0))?;
            Ok((tasks, size.unwrap_or(0)))
        })
        .await?;
    let agents = kernel.supervisor.list().await?;
    let targets = kernel.witnesses.publisher.status().await?;
    let witnessed = kernel.witnesses.witness.list().await?;
    let labelled =
        Labelled::of(agents.iter().map(|agent| agent.name.as_str()).chain(tasks.iter().map(|row| row.0.as_str())));
    let mut page = Page::default();
    page.family(
        &names::TASKS,
        labelled.sum(tasks.iter().map(|(agent, state, count)| (agent.as_str(), state.as_str(), *count as f64))),
    );
    render_agents(&mut page, &labelled, &agents);
    budgets::render(kernel, &mut page).await?;
    models::render(&kernel.models.router, kernel.ambient.now(), &mut page);
    let ends = kernel.supervisor.ends();
    page.family(&names::AGENT_ENDS, ends.map(|(reason, count)| (vec![reason.to_owned()], count as f64)));
    page.family(&names::AUDIT_RECORDS, [(Vec::new(), audit_size as f64)]);
    render_witnesses(&mut page, &targets, &witnessed);
    let retention = kernel.retention.status().await?;
    page.family(
        &names::RETENTION_ROWS,
        retention.counts.iter().map(|count| (vec![count.kind.to_string()], count.rows_total as f64)),
    );
    if let Some(at) = retention.last_run.as_ref().and_then(|run| run.finished_at) {
        page.family(&names::RETENTION_LAST_RUN, [(Vec::new(), (at.as_millis() / 1_000) as f64)]);
    }
    page.family(&names::SCHEMA_VERSION, [(Vec::new(), schema as f64)]);
    if let Some(egress) = &kernel.egress {
        render_egress(&mut page, &egress.counts());
    }
    if let Some(stats) = kernel.ambient.tracer().stats() {
        let outcomes = [("exported", &stats.exported), ("dropped", &stats.dropped), ("failed", &stats.failed)];
        let series = outcomes.map(|(outcome, count)| (vec![outcome.to_owned()], count.load(Ordering::Relaxed) as f64));
        page.family(&names::TRACE_SPANS, series);
    }
    page.text()
}

/// One figure of an agent.
type Reading = fn(&Agent) -> f64;

fn render_agents(page: &mut Page, labelled: &Labelled, agents: &[Agent]) {
    let states = labelled.sum(agents.iter().map(|agent| (agent.name.as_str(), agent.state.as_str(), 1.0)));
    page.family(&names::AGENT_STATE, states);
    let figures: [(&Metric, Reading); 11] = [
        (&names::AGENT_RESTARTS, |agent| agent.restarts as f64),
        (&names::AGENT_CPU, |agent| agent.usage.cpu_ms as f64 / 1_000.0),
        (&names::AGENT_MEMORY, |agent| agent.usage.memory_bytes as f64),
        (&names::AGENT_PROCESSES, |agent| agent.usage.processes as f64),
        (&names::AGENT_OOM_KILLS, |agent| agent.usage.oom_kills as f64),
        (&names::AGENT_THROTTLED, |agent| agent.usage.throttled_ms as f64 / 1_000.0),
        (&names::AGENT_WORKSPACE, |agent| agent.usage.workspace_bytes as f64),
        (&names::AGENT_DISK_READ, |agent| agent.usage.disk_read_bytes as f64),
        (&names::AGENT_DISK_WRITTEN, |agent| agent.usage.disk_write_bytes as f64),
        (&names::AGENT_EGRESS_IN, |agent| agent.usage.egress_in_bytes as f64),
        (&names::AGENT_EGRESS_OUT, |agent| agent.usage.egress_out_bytes as f64),
    ];
    for (metric, of) in figures {
        let summed = labelled.sum(agents.iter().map(|agent| (agent.name.as_str(), "", of(agent))));
        page.family(
            metric,
            summed.map(|(mut labels, value)| {
                labels.truncate(1);
                (labels, value)
            }),
        );
    }
}

fn render_egress(page: &mut Page, counts: &Counts) {
    let decisions = [("allowed", counts.allowed), ("denied", counts.denied), ("refused", counts.refused)];
    let labelled = |(label, value): (&str, u64)| (vec![label.to_owned()], value as f64);
    page.family(&names::EGRESS_DECISIONS, decisions.map(labelled));
    page.family(&names::EGRESS_BYTES, [("out", counts.out_bytes), ("in", counts.in_bytes)].map(labelled));
    for (metric, value) in [
        (&names::EGRESS_OPEN, counts.open),
        (&names::EGRESS_SANDBOXES, counts.sandboxes),
        (&names::EGRESS_RESTARTS, counts.restarts),
        (&names::EGRESS_UP, u64::from(counts.is_up)),
    ] {
        page.family(metric, [(Vec::new(), value as f64)]);
    }
}

/// One figure of a target.
type TargetReading = fn(&WitnessTarget) -> f64;

/// Targets are those of the settings, logs those that the operator has registered.
fn render_witnesses(page: &mut Page, targets: &[WitnessTarget], witnessed: &[WitnessedLog]) {
    let figures: [(&Metric, TargetReading); 3] = [
        (&names::WITNESS_RECORDS, |target| target.size.unwrap_or(0) as f64),
        (&names::WITNESS_FAILURES, |target| target.failures_total as f64),
        (&names::WITNESS_REFUSES, |target| f64::from(u8::from(target.refused.is_some()))),
    ];
    for (metric, of) in figures {
        page.family(metric, targets.iter().map(|target| (vec![target.target.clone()], of(target))));
    }
    let refused = |log: &WitnessedLog| f64::from(u8::from(log.refused_code.is_some()));
    page.family(&names::WITNESSED_LOG_REFUSED, witnessed.iter().map(|log| (vec![log.name.to_string()], refused(log))));
}

/// The agents that have series of their own.
struct Labelled(BTreeSet<String>);

impl Labelled {
    fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let all: BTreeSet<&str> = names.collect();
        Self(all.into_iter().take(AGENTS_LABELLED_MAX).map(str::to_owned).collect())
    }

    /// One value for each pair of labels.
    fn sum<'a>(&self, rows: impl Iterator<Item = (&'a str, &'a str, f64)>) -> impl Iterator<Item = (Vec<String>, f64)> {
        let mut sums: BTreeMap<Vec<String>, f64> = BTreeMap::new();
        for (agent, second, value) in rows {
            let agent = if self.0.contains(agent) { agent } else { OTHER_AGENTS };
            *sums.entry(vec![agent.to_owned(), second.to_owned()]).or_default() += value;
        }
        sums.into_iter()
    }
}

#[derive(Default)]
struct Page {
    text: String,
    failed: bool,
}

impl Page {
    fn family(&mut self, metric: &Metric, series: impl IntoIterator<Item = (Vec<String>, f64)>) {
        self.failed |= self.write(metric, series).is_err();
    }

    fn write(&mut self, metric: &Metric, series: impl IntoIterator<Item = (Vec<String>, f64)>) -> std::fmt::Result {
        let Metric { name, kind, help, labels } = metric;
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
        for (values, value) in series {
            let pairs: Vec<String> =
                labels.iter().zip(values).map(|(label, value)| format!("{label}=\"{value}\"")).collect();
            match pairs.is_empty() {
                true => writeln!(self.text, "{name} {value}")?,
                false => writeln!(self.text, "{name}{{{}}} {value}", pairs.join(","))?,
            }
        }
        Ok(())
    }

    fn text(self) -> Result<String> {
        if self.failed { Err(Fault::internal("the metrics could not be written")) } else { Ok(self.text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_agents_than_the_bound_share_one_series_and_lose_no_count() {
        let names: Vec<String> = (0..AGENTS_LABELLED_MAX + 50).map(|number| format!("agent-{number:04}")).collect();
        let labelled = Labelled::of(names.iter().map(String::as_str));
        let rows = names.iter().flat_map(|name| [(name.as_str(), "completed", 1.0), (name.as_str(), "failed", 2.0)]);
        let series: Vec<(Vec<String>, f64)> = labelled.sum(rows).collect();
        assert_eq!(series.len(), 2 * (AGENTS_LABELLED_MAX + 1));
        let others = series.iter().find(|(labels, _)| *labels == [OTHER_AGENTS, "failed"]).unwrap();
        assert_eq!(others.1, 100.0);
        assert_eq!(series.iter().map(|(_, value)| value).sum::<f64>(), 750.0);
        assert!(OTHER_AGENTS.parse::<agentos_types::AgentName>().is_err(), "no agent can have the name of the others");
    }
}
