//! Witnesses, wired: the key that cosigns, the comparison at the start, what health and doctor say.

use agentos_api::body::{CHECK_PUBLISHED, CHECK_WITNESSED, Check, CheckOutcome};
use agentos_base::{Ambient, config::Config};
use agentos_trust::SigningKeyFile;
use agentos_types::{
    Code, Fault, Result,
    witness::{WitnessTarget, WitnessedLog},
};
use agentos_witness::{Cosigner, Publisher, PublisherParts, Witness, WitnessOptions};

use crate::{install::Installation, layout::Layout};

/// The two halves: handing out, and holding.
pub struct Witnesses {
    pub publisher: Publisher,
    pub witness: Witness,
    /// Contradictions that the settings let pass.
    found: Vec<(String, Fault)>,
}

/// Reads the key and compares the log with what was handed out of it. Nothing is written to the store.
pub async fn open(
    config: &Config,
    layout: &Layout,
    installation: &Installation,
    parts: PublisherParts,
) -> Result<Witnesses> {
    let cosigner = cosigner(layout, &parts.ambient, &installation.node)?;
    let witness = Witness::new(parts.store.clone(), parts.ambient.clone(), cosigner);
    let publisher = Publisher::new(WitnessOptions::of(config, layout.root())?, parts);
    let found = publisher.contradictions().await;
    if config.audit_witness_contradiction_refuses()
        && let Some((target, fault)) = found.first()
    {
        return Err(refused(target, fault));
    }
    Ok(Witnesses { publisher, witness, found })
}

impl Witnesses {
    /// What was let pass is recorded and shown.
    pub async fn record_contradictions(&self) -> Result<()> {
        for (target, fault) in &self.found {
            self.publisher.start_contradicted(target, fault).await?;
        }
        Ok(())
    }
}

fn refused(target: &str, fault: &Fault) -> Fault {
    Fault::new(
        fault.code,
        format!("start refused: the witness '{target}' contradicts the audit log: {}", fault.message),
    )
    .hint(
        "nothing was written. Put the newest database back; if an older one was restored on purpose, see the runbook \
         'The witness refuses a checkpoint' and start with audit.witness_contradiction=degrade",
    )
}

/// The key of this node as a witness, with its public half beside it. Made by `init`, or at the first start that finds none,
/// so that a data directory of an earlier release has one too.
pub fn cosigner(layout: &Layout, ambient: &Ambient, node: &str) -> Result<Cosigner> {
    let path = layout.witness_key();
    if !path.exists() {
        SigningKeyFile::generate(&ambient.random()).save(&path)?;
    }
    let key = SigningKeyFile::load(&path).map_err(|fault| {
        let code = if fault.code == Code::FILE_MODE { fault.code } else { Code::AUDIT_KEY_UNUSABLE };
        Fault { code, ..fault }
    })?;
    let cosigner = Cosigner::new(node, &key.signing_key().to_bytes())?;
    let (path, text) = (layout.witness_verifier_key(), format!("{}\n", cosigner.public()));
    if std::fs::read_to_string(&path).is_ok_and(|present| present == text) {
        return Ok(cosigner);
    }
    agentos_base::fs::replace(&path, text.as_bytes(), 0o644)?;
    Ok(cosigner)
}

/// What can be said without a running server: whether the settings name a witness.
pub fn configured(config: &Config, layout: &Layout) -> (CheckOutcome, String) {
    let options = match WitnessOptions::of(config, layout.root()) {
        Ok(options) => options,
        Err(fault) => return (CheckOutcome::Fail, fault.to_string()),
    };
    let targets: Vec<&str> = options.targets().collect();
    if targets.is_empty() {
        return (CheckOutcome::Warn, nobody());
    }
    (CheckOutcome::Pass, targets.join(", "))
}

fn nobody() -> String {
    "no witness is set: who holds the audit key could cut or rewrite the log unnoticed; set audit.witness_file or audit.witness_nodes"
        .to_owned()
}

/// How the checkpoints come out of this machine.
pub fn published(targets: &[WitnessTarget]) -> Check {
    let outcome = targets.iter().map(outcome_of).max_by_key(|outcome| severity(*outcome));
    let lines: Vec<String> = targets.iter().map(line).collect();
    Check {
        name: CHECK_PUBLISHED.to_owned(),
        outcome: outcome.unwrap_or(CheckOutcome::Warn),
        message: if targets.is_empty() { nobody() } else { lines.join("; ") },
    }
}

fn outcome_of(target: &WitnessTarget) -> CheckOutcome {
    match (target.refused, target.failures) {
        (Some(_), _) => CheckOutcome::Fail,
        (None, 0) => CheckOutcome::Pass,
        (None, _) => CheckOutcome::Warn,
    }
}

fn severity(outcome: CheckOutcome) -> u8 {
    match outcome {
        CheckOutcome::Pass => 0,
        CheckOutcome::Warn => 1,
        CheckOutcome::Fail => 2,
    }
}

fn line(target: &WitnessTarget) -> String {
    let size = target.size.map_or("nothing yet".to_owned(), |size| format!("{size} records"));
    match (&target.refused, &target.problem) {
        (Some(code), problem) => {
            format!("{} REFUSES this log ({code}) {}", target.target, problem.as_deref().unwrap_or_default())
        }
        (None, Some(problem)) => format!("{} holds {size}, failed {} times: {problem}", target.target, target.failures),
        (None, None) => format!("{} holds {size}", target.target),
    }
}

/// Other nodes' logs that contradict what is held here; `None` where none is witnessed.
pub fn witnessed(logs: &[WitnessedLog]) -> Option<Check> {
    let refused: Vec<String> = logs
        .iter()
        .filter_map(|log| Some(format!("{} ({}, {} checkpoints refused)", log.name, log.refused_code?, log.refusals)))
        .collect();
    let check = |outcome, message| Check { name: CHECK_WITNESSED.to_owned(), outcome, message };
    match (logs.len(), refused.is_empty()) {
        (0, _) => None,
        (count, true) => Some(check(CheckOutcome::Pass, format!("{count} logs"))),
        (_, false) => Some(check(CheckOutcome::Fail, refused.join("; "))),
    }
}
