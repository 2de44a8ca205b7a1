//! Agents as readers see them: the row, and the manifest out of the stored envelope.

use agentos_store::{Conn, Row};
use agentos_trust::dsse::{MANIFEST_TYPE, Unverified};
use agentos_types::{
    AgentName, Code, Fault, Manifest, Result,
    agent::{Agent, AgentState, Usage},
    manifest::ModelBudget,
};

use super::AGENTS_MAX;

macro_rules! select_agent {
    () => {
        "SELECT agent.name, agent.state, agent.reason, agent.instance, agent.pid, agent.restarts, agent.cpu_ms,
           agent.memory_peak_bytes, agent.disk_read_bytes, agent.disk_write_bytes, agent.deployed_at, agent.state_since,
           agent.manifest_sha256, agent.signed_by, agent_version.envelope, agent.processes_peak, agent.oom_kills,
           agent.throttled_ms, agent.workspace_bytes, agent.egress_in_bytes, agent.egress_out_bytes
         FROM agent JOIN agent_version
           ON agent_version.agent = agent.name AND agent_version.version = agent.version"
    };
}

/// One agent as its row says, without what only the living process knows.
pub fn get(conn: &Conn<'_>, name: &AgentName) -> Result<Agent> {
    conn.query_one(concat!(select_agent!(), " WHERE agent.name = $1"), &[name.into()], read_agent)?
        .ok_or_else(|| not_found(name))
}

/// All agents by name.
pub fn list(conn: &Conn<'_>) -> Result<Vec<Agent>> {
    conn.query(concat!(select_agent!(), " ORDER BY agent.name LIMIT $1"), &[AGENTS_MAX.into()], read_agent)
}

/// The manifest of the installed version.
pub fn manifest(conn: &Conn<'_>, name: &AgentName) -> Result<Manifest> {
    conn.query_one(concat!(select_agent!(), " WHERE agent.name = $1"), &[name.into()], |row| {
        manifest_of(&row.bytes(14)?)
    })?
    .ok_or_else(|| not_found(name))
}

pub(crate) fn not_found(name: &AgentName) -> Fault {
    Fault::new(Code::AGENT_NOT_FOUND, format!("there is no agent {name}")).hint("list agents with: agent-os agent list")
}

fn read_agent(row: &Row<'_>) -> Result<Agent> {
    let manifest = manifest_of(&row.bytes(14)?)?;
    let state = row.text(1)?;
    let number = |index| Ok(u64::try_from(row.integer(index)?).unwrap_or(0));
    Ok(Agent {
        name: row.parsed(0)?,
        version: manifest.version,
        description: manifest.description,
        state: AgentState::parse(&state).ok_or_else(|| damaged(format!("agent state '{state}'")))?,
        reason: row.text_or_null(2)?,
        trust_level: manifest.trust_level,
        grants: manifest.grants,
        limits: manifest.limits,
        budget: (manifest.budget != ModelBudget::default()).then_some(manifest.budget),
        manifest_sha256: row.text(12)?,
        signed_by: row.text(13)?,
        instance: row.parsed_or_null(3)?,
        pid: row.integer_or_null(4)?.and_then(|pid| u32::try_from(pid).ok()),
        restarts: row.integer(5)?,
        deployed_at: row.time(10)?,
        state_since: row.time(11)?,
        usage: Usage {
            cpu_ms: number(6)?,
            memory_bytes: 0,
            memory_peak_bytes: number(7)?,
            disk_read_bytes: number(8)?,
            disk_write_bytes: number(9)?,
            processes: 0,
            processes_peak: number(15)?,
            oom_kills: number(16)?,
            throttled_ms: number(17)?,
            workspace_bytes: number(18)?,
            egress_in_bytes: number(19)?,
            egress_out_bytes: number(20)?,
        },
        // The supervisor knows the machine.
        controls: Vec::new(),
    })
}

/// The envelope was verified before it was stored; here it is only opened.
fn manifest_of(envelope: &[u8]) -> Result<Manifest> {
    let payload = Unverified::parse(envelope, MANIFEST_TYPE).map_err(|fault| damaged(fault.to_string()))?;
    serde_json::from_slice(payload.unverified_payload()).map_err(|source| damaged(source.to_string()))
}

fn damaged(detail: String) -> Fault {
    Fault::new(Code::STORE_CORRUPT, "a stored agent cannot be read").detail(detail)
}
