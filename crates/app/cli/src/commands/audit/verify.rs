//! `audit verify`: where the database is, the proof library judges it, which trusts nothing but the key; a server is asked
//! only when there is no database here or another server is named.

use std::path::{Path, PathBuf};

use agentos_proof::{Report, VerifierKey, VerifyError, note::NOTE_BYTES_MAX, source::sqlite};
use agentos_types::{Code, Fault, Result, hex};
use serde::Serialize;

use crate::{
    args::Verify,
    commands::Session,
    exit::{Exit, Outcome, local, usage},
    input, table,
    target::{self, AUDIT_VERIFIER_KEY_FILE, DATABASE_FILE},
};

/// Held checkpoints of one run; each costs one signature check.
const HELD_MAX: usize = 64;

/// What was found, whoever has looked.
#[derive(Serialize)]
struct Verification {
    valid: bool,
    /// `offline` or `server`.
    verified_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoints: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<u64>,
    /// First record that was not pruned, if any was.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    /// What was not checked, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unchecked: Vec<String>,
    /// Hex offline, base64 from a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finding: Option<String>,
}

pub(super) async fn verify(session: &mut Session<'_>, args: Verify) -> Outcome {
    let named_server = target::named_url(&session.globals, &session.environment).is_some();
    let must_be_offline = !args.held.is_empty() || args.key.is_some();
    let local_database = session.data_dir().map(|directory| directory.join(DATABASE_FILE).exists()).unwrap_or(false);
    let verification = if must_be_offline || (local_database && !named_server) {
        offline(session, args).await?
    } else {
        ask(session).await?
    };
    print(session, &verification)?;
    match &verification.finding {
        _ if verification.valid => Ok(Exit::Success),
        Some(finding) => Err(not_verified(finding).into()),
        None => Err(not_verified("the server does not say why").into()),
    }
}

fn not_verified(finding: &str) -> Fault {
    Fault::new(Code::AUDIT_TAMPERED, format!("the audit log does not verify: {finding}"))
        .hint("keep the files as they are; compare with exported segments and held checkpoints")
}

fn print(session: &mut Session<'_>, found: &Verification) -> Outcome<()> {
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let text = table::details(&[
        ("valid", found.valid.to_string()),
        ("verified by", found.verified_by.to_owned()),
        ("records", number(found.records)),
        ("checkpoints", number(found.checkpoints)),
        ("held", number(found.held)),
        ("pruned before", number(found.from)),
        ("root", found.root.clone().unwrap_or_default()),
        ("finding", found.finding.clone().unwrap_or_default()),
    ]);
    session.printer.report(found, &text)?;
    for what in &found.unchecked {
        session.printer.note(&format!("not checked: {what}"));
    }
    if found.valid && found.held == Some(0) {
        session.printer.note("without a held checkpoint, a log that its key's holder cut or rewrote would pass too");
    }
    Ok(())
}

/// The server reads its own log; its word is as good as the server.
async fn ask(session: &mut Session<'_>) -> Outcome<Verification> {
    let answer = session.client()?.verify_audit().await?;
    Ok(Verification {
        valid: answer.valid,
        verified_by: "server",
        records: Some(answer.records),
        checkpoints: Some(answer.checkpoints),
        held: None,
        from: None,
        unchecked: Vec::new(),
        root: Some(answer.root),
        finding: answer.finding,
    })
}

async fn offline(session: &mut Session<'_>, args: Verify) -> Outcome<Verification> {
    let directory = session.data_dir()?;
    if args.held.len() > HELD_MAX {
        return Err(usage(format!("more than {HELD_MAX} held checkpoints"), "verify in several runs").into());
    }
    let key = args.key.unwrap_or_else(|| directory.join(AUDIT_VERIFIER_KEY_FILE));
    let database = directory.join(DATABASE_FILE);
    let work = move || judge(&database, &key, &args.held);
    let outcome = tokio::task::spawn_blocking(work).await;
    match outcome.map_err(|error| local("verification was interrupted", error))? {
        Ok((report, others)) => {
            for other in others {
                session.printer.note(&format!("not checked: log {other} in the same file needs a key of its own"));
            }
            Ok(valid(&report))
        }
        Err(VerifyError::Finding(finding)) => Ok(Verification {
            valid: false,
            verified_by: "offline",
            records: None,
            checkpoints: None,
            held: None,
            from: None,
            unchecked: Vec::new(),
            root: None,
            finding: Some(finding.to_string()),
        }),
        Err(VerifyError::Unreadable(fault)) => Err(fault.into()),
    }
}

fn valid(report: &Report) -> Verification {
    Verification {
        valid: true,
        verified_by: "offline",
        records: Some(report.records),
        checkpoints: Some(report.checkpoints),
        held: Some(report.held),
        from: Some(report.from).filter(|from| *from > 0),
        unchecked: report.unchecked(),
        root: Some(hex::encode(&report.root)),
        finding: None,
    }
}

fn judge(database: &Path, key: &Path, held: &[PathBuf]) -> Result<(Report, Vec<String>), VerifyError> {
    let text = input::read_text(key, NOTE_BYTES_MAX)?;
    let key: VerifierKey = text.trim().parse()?;
    let held = held.iter().map(|path| input::read_text(path, NOTE_BYTES_MAX)).collect::<Result<Vec<_>>>()?;
    sqlite::verify_file(database, &key, &held)
}
