//! `audit verify`: where the database is, the proof library judges it, which trusts nothing but the key; a server is asked
//! only when there is no database here or another server is named.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use agentos_proof::{
    Report, VerifierKey, VerifyError,
    held::{HELD_BYTES_MAX, Held},
    note::NOTE_BYTES_MAX,
    source::{input::STANDARD_INPUT, segment, sqlite},
};
use agentos_types::{Code, Fault, Result, hex};
use serde::Serialize;

use crate::{
    args::Verify,
    commands::Session,
    exit::{Exit, Outcome, local, usage},
    input, table,
    target::{self, AUDIT_VERIFIER_KEY_FILE, DATABASE_FILE},
};

/// Files of held checkpoints of one run.
const HELD_FILES_MAX: usize = 64;

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
    let must_be_offline = !args.held.is_empty() || args.key.is_some() || args.segment.is_some();
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
    if args.held.len() > HELD_FILES_MAX {
        return Err(
            usage(format!("more than {HELD_FILES_MAX} files of held checkpoints"), "verify in several runs").into()
        );
    }
    let key = args.key.unwrap_or_else(|| directory.join(AUDIT_VERIFIER_KEY_FILE));
    let database = directory.join(DATABASE_FILE);
    let pipe: Box<dyn Read + Send> = std::mem::replace(&mut session.input.stream, Box::new(std::io::empty()));
    let work = move || judge(&database, &key, &args.held, args.segment, pipe);
    let outcome = tokio::task::spawn_blocking(work).await;
    match outcome.map_err(|error| local("verification was interrupted", error))? {
        Ok((report, remarks)) => {
            remarks.iter().for_each(|remark| session.printer.note(remark));
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

/// The report, and what its reader should know.
fn judge(
    database: &Path,
    key: &Path,
    held_files: &[PathBuf],
    segment: Option<PathBuf>,
    pipe: impl Read,
) -> Result<(Report, Vec<String>), VerifyError> {
    let text = input::read_text(key, NOTE_BYTES_MAX)?;
    let key: VerifierKey = text.trim().parse()?;
    let mut held = Held::default();
    for path in held_files {
        held.add(Held::parse(&input::read_text(path, HELD_BYTES_MAX)?, key.name()));
    }
    held.require_own(&key)?;
    let mut remarks = held.remarks();
    let report = match segment {
        Some(path) if path.as_os_str() == STANDARD_INPUT => segment::verify_pipe(&path, pipe, &key, &held.notes)?,
        Some(path) => segment::verify(&path, &key, &held.notes)?,
        None => {
            let (report, others) = sqlite::verify_file(database, &key, &held.notes)?;
            let other = |log| format!("not checked: log {log} in the same file needs a key of its own");
            remarks.extend(others.into_iter().map(other));
            report
        }
    };
    Ok((report, remarks))
}
