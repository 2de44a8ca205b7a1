//! The kernel's series in Prometheus text. Labels are states and agent names only, so cardinality is bounded by what is
//! deployed; no task id and no free text is ever a label.

use std::fmt::Write;

use agentos_types::{Fault, Result};

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
    let mut text = String::new();
    let mut write = || -> std::fmt::Result {
        family(&mut text, "agentos_tasks", "gauge", "Tasks by agent and state.")?;
        for (agent, state, count) in &tasks {
            writeln!(text, "agentos_tasks{{agent=\"{agent}\",state=\"{state}\"}} {count}")?;
        }
        family(&mut text, "agentos_agent_state", "gauge", "1 for the state that an agent is in.")?;
        for agent in &agents {
            writeln!(text, "agentos_agent_state{{agent=\"{}\",state=\"{}\"}} 1", agent.name, agent.state)?;
        }
        family(&mut text, "agentos_agent_restarts_total", "counter", "Restarts of an agent's process.")?;
        for agent in &agents {
            writeln!(text, "agentos_agent_restarts_total{{agent=\"{}\"}} {}", agent.name, agent.restarts)?;
        }
        family(&mut text, "agentos_agent_cpu_seconds_total", "counter", "CPU time of an agent's processes.")?;
        for agent in &agents {
            let seconds = agent.usage.cpu_ms as f64 / 1_000.0;
            writeln!(text, "agentos_agent_cpu_seconds_total{{agent=\"{}\"}} {seconds}", agent.name)?;
        }
        family(&mut text, "agentos_agent_memory_bytes", "gauge", "Resident memory of an agent's process.")?;
        for agent in &agents {
            writeln!(text, "agentos_agent_memory_bytes{{agent=\"{}\"}} {}", agent.name, agent.usage.memory_bytes)?;
        }
        family(&mut text, "agentos_audit_records_total", "counter", "Records in the audit log.")?;
        writeln!(text, "agentos_audit_records_total {audit_size}")?;
        family(
            &mut text,
            "agentos_witness_records",
            "gauge",
            "Records of the own log under the newest checkpoint at a witness.",
        )?;
        for target in &targets {
            writeln!(text, "agentos_witness_records{{target=\"{}\"}} {}", target.target, target.size.unwrap_or(0))?;
        }
        family(&mut text, "agentos_witness_failures_total", "counter", "Attempts to reach a witness that failed.")?;
        for target in &targets {
            writeln!(text, "agentos_witness_failures_total{{target=\"{}\"}} {}", target.target, target.failures_total)?;
        }
        family(&mut text, "agentos_witness_refuses", "gauge", "1 while a witness refuses the own log.")?;
        for target in &targets {
            let refuses = i32::from(target.refused.is_some());
            writeln!(text, "agentos_witness_refuses{{target=\"{}\"}} {refuses}", target.target)?;
        }
        family(
            &mut text,
            "agentos_witnessed_log_refused",
            "gauge",
            "1 for another node's log that contradicts what is held.",
        )?;
        for log in &witnessed {
            let refused = i32::from(log.refused_code.is_some());
            writeln!(text, "agentos_witnessed_log_refused{{log=\"{}\"}} {refused}", log.name)?;
        }
        family(&mut text, "agentos_schema_version", "gauge", "Newest applied migration.")?;
        writeln!(text, "agentos_schema_version {schema}")
    };
    write().map_err(Fault::internal)?;
    Ok(text)
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}
