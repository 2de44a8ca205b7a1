//! The rows of agents: what is installed, in which state, and how much it has used. Synchronous functions over one
//! transaction, so that a change and its audit record are one commit.

mod read;

use agentos_base::Ambient;
use agentos_store::{Arg, Conn, Tx};
use agentos_types::{
    Actor, AgentName, Code, Fault, InstanceId, Manifest, Result, Timestamp,
    agent::{AgentState, Usage},
    audit::AuditEvent,
    notify::Notice,
};

use crate::lifecycle::Event;

pub use read::{get, list, manifest};

/// Agents of one installation. A listing returns all of them, so there is a bound.
pub const AGENTS_MAX: i64 = 10_000;
/// Text of a reason; a worker's message may be part of it.
const REASON_BYTES_MAX: usize = 1_000;

/// A verified manifest that is about to be installed.
#[derive(Clone, Debug)]
pub struct Deployment {
    pub manifest: Manifest,
    /// SHA-256 of the signed payload in hex.
    pub manifest_sha256: String,
    /// Key id of the signature that counted.
    pub signed_by: String,
    /// The DSSE envelope exactly as it came.
    pub envelope: Vec<u8>,
}

/// What an installation found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The name was free, or its agent was terminated.
    New,
    Upgraded {
        from: String,
    },
    /// The same version with the same content runs already.
    Unchanged,
}

/// A transition that is about to be written.
#[derive(Clone, Debug)]
pub struct Change {
    pub agent: AgentName,
    pub from: AgentState,
    pub to: AgentState,
    pub event: Event,
    pub actor: Actor,
    pub reason: Option<String>,
    /// The process that lives after the transition.
    pub process: Option<(InstanceId, u32)>,
    /// How the life before it ended: a name of `agentos_sandbox::Reason`.
    pub ended: Option<&'static str>,
}

/// Writes the version and makes the agent known. Refuses a version that goes back. The caller has verified the envelope.
pub fn install(tx: &mut Tx<'_>, ambient: &Ambient, actor: &Actor, new: &Deployment) -> Result<Installed> {
    let name = &new.manifest.name;
    let present =
        tx.query_one("SELECT version, manifest_sha256, state FROM agent WHERE name = $1", &[name.into()], |row| {
            Ok((row.text(0)?, row.text(1)?, row.text(2)?))
        })?;
    let now = ambient.now();
    let outcome = match present {
        None => {
            refuse_one_too_many(tx)?;
            insert_agent(tx, new, now)?;
            Installed::New
        }
        Some((version, sha256, state)) => {
            let same = version == new.manifest.version && sha256 == new.manifest_sha256;
            if !same {
                refuse_rollback(new, &version)?;
            }
            match AgentState::parse(&state) {
                Some(AgentState::Terminated) => {
                    update_agent(tx, new, now)?;
                    revive_agent(tx, name, now)?;
                    Installed::New
                }
                _ if same => return Ok(Installed::Unchanged),
                _ => {
                    update_agent(tx, new, now)?;
                    Installed::Upgraded { from: version }
                }
            }
        }
    };
    insert_version(tx, actor, new, now)?;
    let mut fact = AuditEvent::new(ambient.event_id(), now, actor.clone(), "agent.deploy", name.as_str())
        .fact("version", new.manifest.version.as_str())
        .fact("manifest_sha256", new.manifest_sha256.as_str())
        .fact("signed_by", new.signed_by.as_str());
    if let Installed::Upgraded { from } = &outcome {
        fact = fact.fact("from_version", from.as_str());
    }
    tx.record(fact);
    tx.announce(Notice::Agent(name.clone()));
    Ok(outcome)
}

/// Writes a transition with its audit record. Fails if the row is not in the state that the transition starts from.
pub fn set_state(tx: &mut Tx<'_>, ambient: &Ambient, change: &Change) -> Result<()> {
    let now = ambient.now();
    let desired = match change.event {
        Event::Pause => Some("paused"),
        Event::Resume | Event::Start | Event::Restart => Some("running"),
        Event::Terminate => Some("terminated"),
        _ => None,
    };
    let restarted = matches!(change.event, Event::BackoffOver | Event::Restart);
    let reason = change.reason.as_deref().map(|text| clip(text, REASON_BYTES_MAX));
    let written = tx.execute(
        "UPDATE agent SET state = $3, reason = $4, desired = COALESCE($5, desired), instance = $6, pid = $7,
           restarts = restarts + $8, state_since = $9
         WHERE name = $1 AND state = $2",
        &[
            (&change.agent).into(),
            change.from.as_str().into(),
            change.to.as_str().into(),
            reason.into(),
            desired.into(),
            change.process.as_ref().map(|(instance, _)| instance).into(),
            change.process.as_ref().map(|(_, pid)| i64::from(*pid)).into(),
            Arg::Integer(i64::from(restarted)),
            now.into(),
        ],
    )?;
    if written == 0 {
        return Err(Fault::internal(format!("agent {} is not {} in its row", change.agent, change.from)));
    }
    let mut fact = AuditEvent::new(ambient.event_id(), now, change.actor.clone(), "agent.state", change.agent.as_str())
        .fact("from", change.from.as_str())
        .fact("to", change.to.as_str())
        .fact("event", change.event.as_str());
    if let Some(reason) = reason {
        fact = fact.fact("reason", reason);
    }
    if let Some(ended) = change.ended {
        fact = fact.fact("ended", ended);
    }
    tx.record(fact);
    tx.announce(Notice::Agent(change.agent.clone()));
    Ok(())
}

/// Writes what the agent has used in all its lives. No record and no notice: it is a reading, not a change.
pub fn set_usage(tx: &mut Tx<'_>, agent: &AgentName, usage: &Usage) -> Result<()> {
    let stored = |value: u64| Arg::Integer(i64::try_from(value).unwrap_or(i64::MAX));
    tx.execute(
        "UPDATE agent SET cpu_ms = $2, memory_peak_bytes = $3, disk_read_bytes = $4, disk_write_bytes = $5,
           processes_peak = $6, oom_kills = $7, throttled_ms = $8, workspace_bytes = $9, egress_in_bytes = $10,
           egress_out_bytes = $11
         WHERE name = $1",
        &[
            agent.into(),
            stored(usage.cpu_ms),
            stored(usage.memory_peak_bytes),
            stored(usage.disk_read_bytes),
            stored(usage.disk_write_bytes),
            stored(usage.processes_peak),
            stored(usage.oom_kills),
            stored(usage.throttled_ms),
            stored(usage.workspace_bytes),
            stored(usage.egress_in_bytes),
            stored(usage.egress_out_bytes),
        ],
    )?;
    Ok(())
}

/// The agent's place among the user numbers of the host. Given once; no other agent ever gets it, because rows of agents are
/// never deleted.
pub fn host_slot(tx: &mut Tx<'_>, agent: &AgentName) -> Result<u32> {
    tx.execute(
        "UPDATE agent SET host_slot = (SELECT COALESCE(MAX(host_slot) + 1, 0) FROM agent)
         WHERE name = $1 AND host_slot IS NULL",
        &[agent.into()],
    )?;
    let slot = tx.query_one("SELECT host_slot FROM agent WHERE name = $1", &[agent.into()], |row| row.integer(0))?;
    let slot = slot.ok_or_else(|| read::not_found(agent))?;
    u32::try_from(slot).map_err(Fault::internal)
}

/// Cut at a character's border.
pub(crate) fn clip(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

fn refuse_rollback(new: &Deployment, present: &str) -> Result<()> {
    let present = Manifest { version: present.to_owned(), ..new.manifest.clone() };
    if new.manifest.version_key() > present.version_key() {
        return Ok(());
    }
    let message = match new.manifest.version == present.version {
        true => format!("version {} of {} was deployed with other content", present.version, present.name),
        false => format!("{} has version {}, {} goes back", present.name, present.version, new.manifest.version),
    };
    Err(Fault::new(Code::VERSION_ROLLBACK, message).hint("raise the version and sign again"))
}

fn refuse_one_too_many(conn: &Conn<'_>) -> Result<()> {
    let count = conn.query_one("SELECT count(*) FROM agent", &[], |row| row.integer(0))?.unwrap_or(0);
    match count < AGENTS_MAX {
        true => Ok(()),
        false => Err(Fault::new(Code::AGENT_STATE, format!("{AGENTS_MAX} agents are installed, which is the limit"))),
    }
}

fn insert_agent(tx: &Tx<'_>, new: &Deployment, now: Timestamp) -> Result<()> {
    tx.execute(
        "INSERT INTO agent (name, version, manifest_sha256, signed_by, state, desired, deployed_at, state_since)
         VALUES ($1, $2, $3, $4, 'installed', 'running', $5, $5)",
        &[
            (&new.manifest.name).into(),
            (&new.manifest.version).into(),
            (&new.manifest_sha256).into(),
            (&new.signed_by).into(),
            now.into(),
        ],
    )?;
    Ok(())
}

fn update_agent(tx: &Tx<'_>, new: &Deployment, now: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE agent SET version = $2, manifest_sha256 = $3, signed_by = $4, deployed_at = $5 WHERE name = $1",
        &[
            (&new.manifest.name).into(),
            (&new.manifest.version).into(),
            (&new.manifest_sha256).into(),
            (&new.signed_by).into(),
            now.into(),
        ],
    )?;
    Ok(())
}

/// A terminated agent does not come back; a new one begins under its name.
fn revive_agent(tx: &Tx<'_>, name: &AgentName, now: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE agent SET state = 'installed', desired = 'running', reason = NULL, instance = NULL, pid = NULL,
           restarts = 0, state_since = $2
         WHERE name = $1",
        &[name.into(), now.into()],
    )?;
    Ok(())
}

fn insert_version(tx: &Tx<'_>, actor: &Actor, new: &Deployment, now: Timestamp) -> Result<()> {
    tx.execute(
        "INSERT INTO agent_version (agent, version, manifest_sha256, signed_by, envelope, deployed_by, deployed_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (agent, version) DO NOTHING",
        &[
            (&new.manifest.name).into(),
            (&new.manifest.version).into(),
            (&new.manifest_sha256).into(),
            (&new.signed_by).into(),
            (&new.envelope).into(),
            (&actor.label()).into(),
            now.into(),
        ],
    )?;
    Ok(())
}
