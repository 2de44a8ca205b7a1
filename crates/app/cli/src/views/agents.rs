//! Agents, their log lines and what they publish.

use agentos_api::body::{LogLine, Notification};
use agentos_types::{
    AgentName, Grant,
    agent::{Agent, Control},
    budget::BudgetScope,
    manifest::ModelBudget,
};

use super::{View, bytes, compact, time, word};

impl View for Agent {
    const COLUMNS: &'static [&'static str] = &["name", "version", "state", "pid", "restarts", "memory", "since"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            self.version.clone(),
            self.state.to_string(),
            self.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            self.restarts.to_string(),
            self.pid.map(|_| bytes(self.usage.memory_bytes)).unwrap_or_default(),
            time(self.state_since),
        ]
    }

    fn key(&self) -> String {
        self.name.to_string()
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let limits = &self.limits;
        vec![
            ("name", self.name.to_string()),
            ("version", self.version.clone()),
            ("description", self.description.clone()),
            ("state", self.state.to_string()),
            ("since", time(self.state_since)),
            ("reason", self.reason.clone().unwrap_or_default()),
            ("pid", self.pid.map(|pid| pid.to_string()).unwrap_or_default()),
            ("instance", self.instance.as_ref().map(ToString::to_string).unwrap_or_default()),
            ("restarts", self.restarts.to_string()),
            ("trust level", word(&self.trust_level)),
            ("grants", lines(&self.grants, grant)),
            ("memory", format!("{} of {}", bytes(self.usage.memory_bytes), bytes(limits.memory_bytes))),
            ("memory peak", bytes(self.usage.memory_peak_bytes)),
            ("memory kills", self.usage.oom_kills.to_string()),
            ("cpu", cpu(self.usage.cpu_ms, limits.cpu_seconds)),
            ("cpu held up", format!("{} ms at {}", self.usage.throttled_ms, percent(limits.cpu_percent))),
            (
                "processes",
                format!("{} of {}, at most {}", self.usage.processes, limits.processes, self.usage.processes_peak),
            ),
            ("workspace", format!("{} of {}", bytes(self.usage.workspace_bytes), bytes(limits.workspace_bytes))),
            (
                "disk",
                format!("{} read, {} written", bytes(self.usage.disk_read_bytes), bytes(self.usage.disk_write_bytes)),
            ),
            ("egress", format!("{} in, {} out", bytes(self.usage.egress_in_bytes), bytes(self.usage.egress_out_bytes))),
            ("tasks at once", limits.concurrent_tasks.to_string()),
            ("calls a minute", limits.calls_per_minute.to_string()),
            ("budget", self.budget.as_ref().map(|budget| models_budget(&self.name, budget)).unwrap_or_default()),
            ("controls", lines(&self.controls, control)),
            ("deployed", time(self.deployed_at)),
            ("manifest", self.manifest_sha256.clone()),
            ("signed by", self.signed_by.clone()),
        ]
    }
}

fn lines<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(|item| text(item).replace('\n', " ")).collect::<Vec<_>>().join("\n")
}

fn grant(grant: &Grant) -> String {
    format!("{}:{} on {}", grant.category, grant.actions.join(","), grant.resources.join(", "))
}

/// Also in the reports of `status` and `doctor`.
pub(super) fn control(control: &Control) -> String {
    let held = word(&control.enforcement);
    if control.reason.is_empty() {
        format!("{}: {held}", control.name)
    } else {
        format!("{}: {held} ({})", control.name, control.reason)
    }
}

/// What the manifest says; what an operator has set is in `budget show`.
fn models_budget(agent: &AgentName, budget: &ModelBudget) -> String {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(budget.team.as_ref().map(|team| format!("team {team}")));
    lines.extend(budget.tenant.as_ref().map(|tenant| format!("tenant {tenant}")));
    lines.extend(budget.limits(agent).into_iter().map(|(scope, period, unit, amount)| match scope {
        BudgetScope::RunsOf(_) => format!("{} a run", unit.shown(amount)),
        _ => format!("{} a {}", unit.shown(amount), period.as_str()),
    }));
    lines.join("\n")
}

fn percent(limit: u64) -> String {
    match limit {
        0 => "no limit".to_owned(),
        limit => format!("{limit} %"),
    }
}

fn cpu(used_ms: u64, limit_s: u64) -> String {
    match limit_s {
        0 => format!("{used_ms} ms"),
        limit_s => format!("{used_ms} ms of {limit_s} s"),
    }
}

impl View for LogLine {
    const COLUMNS: &'static [&'static str] = &["time", "stream", "text"];
    const CELL_CHARS_MAX: usize = usize::MAX;

    fn cells(&self) -> Vec<String> {
        vec![time(self.at), format!("{:6}", self.stream), self.text.clone()]
    }

    fn key(&self) -> String {
        self.text.clone()
    }
}

impl View for Notification {
    const COLUMNS: &'static [&'static str] = &["id", "time", "agent", "kind", "data"];

    fn cells(&self) -> Vec<String> {
        vec![self.id.to_string(), time(self.at), self.agent.to_string(), self.kind.clone(), compact(&self.data)]
    }

    fn key(&self) -> String {
        self.id.to_string()
    }
}
