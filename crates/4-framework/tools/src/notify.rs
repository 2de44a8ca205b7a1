//! `notify.event`: publishes a notification, at most once per dedupe key of the agent.

use agentos_base::Ambient;
use agentos_failpoint::{Point, hit};
use agentos_protocol::syscall::{NotifyEvent, NotifyEventResult};
use agentos_store::{Arg, Tx};
use agentos_tasks::Tasks;
use agentos_types::{AgentName, Code, Envelope, Fault, Result, TaskId, limits::PAYLOAD_BYTES_MAX, notify::Notice};

/// Bytes of a dedupe key; it is kept for ever.
const DEDUPE_KEY_BYTES_MAX: usize = 256;

pub(crate) fn event(
    tx: &mut Tx<'_>,
    tasks: &Tasks,
    ambient: &Ambient,
    agent: &AgentName,
    task: &TaskId,
    args: &NotifyEvent,
) -> Result<NotifyEventResult> {
    let data = Envelope::seal(&args.data)?;
    if data.bytes.len() > PAYLOAD_BYTES_MAX {
        return Err(Fault::new(
            Code::PAYLOAD_TOO_LARGE,
            format!("the data has {} bytes, more than {PAYLOAD_BYTES_MAX}", data.bytes.len()),
        ));
    }
    if args.dedupe_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > DEDUPE_KEY_BYTES_MAX) {
        return Err(Fault::new(Code::SYSCALL_INVALID, format!("a dedupe key has 1 to {DEDUPE_KEY_BYTES_MAX} bytes")));
    }
    let inserted = tx.execute(
        "INSERT INTO notification (id, agent, task, at, kind, dedupe_key, data_key, data)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        &[
            (&ambient.event_id()).into(),
            agent.into(),
            task.into(),
            ambient.now().into(),
            Arg::Text(&args.kind),
            args.dedupe_key.as_deref().into(),
            data.key_id.into(),
            Arg::Bytes(&data.bytes),
        ],
    )?;
    let published = inserted > 0;
    if published {
        hit(Point::ToolsNotifyPublished);
        let shown = serde_json::json!({"kind": args.kind, "data": args.data});
        tasks.append_event(tx, task, "notify", &shown)?;
        tx.announce(Notice::Agent(agent.clone()));
    }
    Ok(NotifyEventResult { published })
}
