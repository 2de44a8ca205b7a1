//! `sign`: needs no server, only the package and a key.

use std::path::PathBuf;

use agentos_trust::{SigningKeyFile, package};
use agentos_types::Result;
use serde::Serialize;

use super::Session;
use crate::{
    args::Sign,
    exit::{Exit, Outcome, local},
    table,
    target::PUBLISHER_KEY_FILE,
};

/// Name of the envelope in a package directory.
pub(super) const ENVELOPE_FILE: &str = "agent.dsse.json";

#[derive(Serialize)]
struct SignReport {
    envelope: PathBuf,
    signed_by: String,
}

pub(super) async fn sign(session: &mut Session<'_>, args: Sign) -> Outcome {
    let key = match args.key {
        Some(key) => key,
        None => session.data_dir()?.join(PUBLISHER_KEY_FILE),
    };
    let out = args.out.unwrap_or_else(|| args.package.join(ENVELOPE_FILE));
    let package = args.package;
    // Hashing a large package takes seconds.
    let signed = tokio::task::spawn_blocking(move || -> Result<SignReport> {
        let key = SigningKeyFile::load(&key)?;
        let envelope = package::sign_package(&package, &key)?;
        agentos_base::fs::replace(&out, &envelope, 0o644)?;
        Ok(SignReport { envelope: out, signed_by: key.keyid().to_owned() })
    });
    let report = signed.await.map_err(|error| local("signing was interrupted", error))??;
    let text = if session.printer.is_quiet() {
        table::line(&[report.envelope.display().to_string()])
    } else {
        table::details(&[("envelope", report.envelope.display().to_string()), ("signed by", report.signed_by.clone())])
    };
    session.printer.report(&report, &text)?;
    Ok(Exit::Success)
}
