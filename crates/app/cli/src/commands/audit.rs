//! `audit`: reading and exporting. Verification has a module of its own, and so has what changes the log.

mod life;
mod verify;

use std::path::Path;

use agentos_api::body::{AuditFilter, AuditRecord};
use agentos_client::{Client, Download};
use agentos_types::{Code, Fault, Result};
use tokio::{
    fs::{self, OpenOptions},
    io::AsyncWriteExt,
};

use super::Session;
use crate::{
    args::{AuditCommands, Export, ExportNotes, Query, Tail, WitnessStatusCommands},
    exit::{Exit, Outcome, usage},
    table,
};

pub(super) async fn run(session: &mut Session<'_>, command: AuditCommands) -> Outcome {
    match command {
        AuditCommands::Tail(args) => tail(session, args).await,
        AuditCommands::Query(args) => query(session, args).await,
        AuditCommands::Verify(args) => verify::verify(session, args).await,
        AuditCommands::Export(args) => export(session, args).await,
        AuditCommands::Checkpoint => checkpoint(session).await,
        AuditCommands::Prune(args) => life::prune(session, args).await,
        AuditCommands::Hold(command) => life::hold(session, command).await,
        AuditCommands::RotateKey => life::rotate_key(session).await,
        AuditCommands::Witness(command) => witnesses(session, command).await,
    }
}

/// The newest records come from a query, those after them from the stream, which starts where the query ended.
async fn tail(session: &mut Session<'_>, args: Tail) -> Outcome {
    let client = session.client()?;
    let newest = newest(&client, args.lines.max(1).into()).await?;
    let last_seq = newest.last().map(|record| record.seq);
    let shown = newest.len().saturating_sub(args.lines.into());
    let newest = newest.get(shown..).unwrap_or_default();
    if !args.follow {
        session.printer.list(newest)?;
        return Ok(Exit::Success);
    }
    newest.iter().try_for_each(|record| session.printer.stream(record))?;
    let mut records = client.follow_audit(last_seq);
    loop {
        let record = records.next().await?;
        session.printer.stream(&record)?;
    }
}

/// Oldest first.
async fn newest(client: &Client, limit: usize) -> Result<Vec<AuditRecord>> {
    let filter = AuditFilter { limit: Some(limit), ..AuditFilter::default() };
    let mut records = client.query_audit(&filter).await?.items;
    records.reverse();
    Ok(records)
}

async fn query(session: &mut Session<'_>, args: Query) -> Outcome {
    let now = session.ambient.now();
    let cursor = args.paging.cursor.map(|text| {
        text.parse().map_err(|_| {
            usage(
                format!("'{text}' is not a cursor of this listing"),
                "the cursor is the sequence number that the page before has printed",
            )
        })
    });
    let filter = AuditFilter {
        actor: args.actor,
        action: args.action,
        decision: args.decision,
        task: args.task,
        since: args.since.map(|when| when.before(now)),
        until: args.until.map(|when| when.before(now)),
        cursor: cursor.transpose()?,
        limit: Some(args.paging.limit.into()),
        ascending: args.ascending,
    };
    let page = session.client()?.query_audit(&filter).await?;
    session.printer.page(&page)?;
    Ok(Exit::Success)
}

async fn checkpoint(session: &mut Session<'_>) -> Outcome {
    let checkpoint = session.client()?.audit_checkpoint().await?;
    // The note is signed byte for byte, so that a file made from this output verifies; only a terminal's safety is looked at.
    let text: String = checkpoint.note.chars().filter(|c| *c == '\n' || !table::is_unsafe(*c)).collect();
    session.printer.report(&checkpoint, &text)?;
    session.printer.note(&format!("verifier key: {}", checkpoint.verifier_key));
    Ok(Exit::Success)
}

async fn witnesses(session: &mut Session<'_>, command: WitnessStatusCommands) -> Outcome {
    let targets = session.client()?.audit_witnesses().await?;
    let ExportNotes { out } = match command {
        WitnessStatusCommands::Status => {
            session.printer.list(&targets)?;
            return Ok(Exit::Success);
        }
        WitnessStatusCommands::Export(args) => args,
    };
    let nodes = targets.iter().filter(|target| target.target.starts_with("node:"));
    let notes: String = nodes.filter_map(|target| target.note.clone()).collect();
    if notes.is_empty() {
        let message = "no node has cosigned a checkpoint of this log yet";
        return Err(Fault::new(Code::AUDIT_QUERY_INVALID, message).hint("see: agent-os audit witness status").into());
    }
    if is_standard_output(&out) {
        let text: String = notes.chars().filter(|c| *c == '\n' || !table::is_unsafe(*c)).collect();
        session.printer.raw(text.as_bytes())?;
        return Ok(Exit::Success);
    }
    let unwritable = |error: std::io::Error| Fault::new(Code::FILE_UNAVAILABLE, format!("{}: {error}", out.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&out).await.map_err(unwritable)?;
    file.write_all(notes.as_bytes()).await.map_err(unwritable)?;
    file.sync_all().await.map_err(unwritable)?;
    Ok(Exit::Success)
}

fn is_standard_output(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A segment that was cut would look like a shorter log, so it gets its name only when it is whole.
async fn export(session: &mut Session<'_>, args: Export) -> Outcome {
    let client = session.client()?;
    if is_standard_output(&args.out) {
        // A reader sees by the missing checkpoints that it broke off, and the exit code tells it as well.
        let mut body = client.export_audit(args.from_seq).await?;
        while let Some(chunk) = body.chunk().await? {
            session.printer.raw(&chunk)?;
        }
        return Ok(Exit::Success);
    }
    let unwritable =
        |error: std::io::Error| Fault::new(Code::FILE_UNAVAILABLE, format!("{}: {error}", args.out.display()));
    if fs::try_exists(&args.out).await.map_err(unwritable)? {
        let message = format!("{} exists; an export is never overwritten", args.out.display());
        return Err(usage(message, "name a file that does not exist").into());
    }
    let bytes = save(client.export_audit(args.from_seq).await?, &args.out).await?;
    session.printer.note(&format!("wrote {bytes} bytes to {}", args.out.display()));
    Ok(Exit::Success)
}

/// Writes a download beside its place, and renames it when it is whole.
async fn save(body: Download, path: &Path) -> Result<u64> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let bytes = match write(body, partial).await {
        Ok(bytes) => bytes,
        Err(fault) => {
            // Nothing is lost with it; the next attempt starts afresh.
            let _ = fs::remove_file(partial).await;
            return Err(fault);
        }
    };
    let unwritable = |error: std::io::Error| Fault::new(Code::FILE_UNAVAILABLE, format!("{}: {error}", path.display()));
    fs::rename(partial, path).await.map_err(unwritable)?;
    Ok(bytes)
}

async fn write(mut body: Download, path: &Path) -> Result<u64> {
    let unwritable = |error: std::io::Error| Fault::new(Code::FILE_UNAVAILABLE, format!("{}: {error}", path.display()));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).await.map_err(unwritable)?;
    let mut bytes = 0;
    while let Some(chunk) = body.chunk().await? {
        file.write_all(&chunk).await.map_err(unwritable)?;
        bytes += chunk.len() as u64;
    }
    file.sync_all().await.map_err(unwritable)?;
    Ok(bytes)
}
