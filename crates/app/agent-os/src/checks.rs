//! The startup checks, one list for `up`, `doctor`, `/health` and the production gate. A new control adds its line here.
//!
//! `fail` refuses every start. `warn` refuses it under ENFORCE_PRODUCTION_HARDENING=true and is shown otherwise.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use agentos_api::body::{CHECK_EGRESS, CHECK_PUBLISHED, Check, CheckOutcome};
use agentos_base::{Ambient, config::Config};
use agentos_sandbox::Backend;
use agentos_store::Store;
use agentos_trust::TrustRoot;
use agentos_types::{
    Code, Fault, Result, Timestamp,
    machine::{IsolationLevel, Machine, MachineRow},
};

use crate::{
    install,
    layout::Layout,
    programs,
    rights::{self, Rights},
    sandboxes, witness,
};

/// Everything that a check may look at.
struct Subject<'s> {
    layout: &'s Layout,
    config: &'s Config,
    ambient: &'s Ambient,
    launcher: &'s Path,
    /// What was found of the walls, or why nothing could be.
    machine: &'s Result<Machine>,
}

type CheckFn = fn(&Subject<'_>) -> (CheckOutcome, String);

/// The list. Order is the order in which people read it.
const CHECKS: &[(&str, CheckFn)] = &[
    ("data directory is private", data_directory),
    ("key files are private", key_files),
    ("database is present", database_present),
    ("trust root verifies", trust_root),
    ("secrets key is usable", secrets_key),
    ("gateway is encrypted or local", gateway),
    ("database is encrypted or local", database_protected),
    ("launcher is installed", launcher),
    (CHECK_EGRESS, egress),
    ("clock is plausible", clock),
    ("root key is offline", root_key_offline),
    ("agents are not root", not_root),
    ("agents are walled in", walls),
    ("sandboxes are real", backend),
    ("agents have users of their own", users),
    ("AppArmor is there if required", apparmor),
    ("no private targets are open", private_targets),
    (CHECK_PUBLISHED, witnesses),
    ("log level shows no internals", log_level),
    ("no failpoints are built in", failpoints),
];

pub fn run(
    layout: &Layout,
    config: &Config,
    ambient: &Ambient,
    launcher: &Path,
    machine: &Result<Machine>,
) -> Vec<Check> {
    let subject = Subject { layout, config, ambient, launcher, machine };
    CHECKS
        .iter()
        .map(|(name, check)| {
            let (outcome, message) = check(&subject);
            Check { name: (*name).to_owned(), outcome, message }
        })
        .collect()
}

/// Refuses the start with every finding at once.
pub fn enforce(checks: &[Check], hardening: bool) -> Result<()> {
    let refused =
        |check: &&Check| check.outcome == CheckOutcome::Fail || (hardening && check.outcome == CheckOutcome::Warn);
    let findings: Vec<String> =
        checks.iter().filter(refused).map(|check| format!("{}: {}", check.name, check.message)).collect();
    if findings.is_empty() {
        return Ok(());
    }
    let gate = if hardening { " under ENFORCE_PRODUCTION_HARDENING" } else { "" };
    Err(Fault::new(Code::HARDENING, format!("start refused{gate}: {}", findings.join("; ")))
        .hint("remedy each finding; agent-os doctor prints the same list"))
}

fn pass(message: impl Into<String>) -> (CheckOutcome, String) {
    (CheckOutcome::Pass, message.into())
}

fn warn(message: impl Into<String>) -> (CheckOutcome, String) {
    (CheckOutcome::Warn, message.into())
}

fn fail(message: impl Into<String>) -> (CheckOutcome, String) {
    (CheckOutcome::Fail, message.into())
}

/// Others' rights on a path, or why it cannot be told.
fn foreign_rights(path: &Path) -> std::result::Result<u32, String> {
    let metadata = std::fs::metadata(path).map_err(|source| format!("{}: {source}", path.display()))?;
    Ok(metadata.permissions().mode() & 0o077)
}

/// A program for tests may be made to die by a variable.
fn failpoints(_: &Subject<'_>) -> (CheckOutcome, String) {
    match agentos_failpoint::BUILT_IN {
        true => warn("this program was built for crash tests; install the ordinary one"),
        false => pass("none"),
    }
}

fn data_directory(subject: &Subject<'_>) -> (CheckOutcome, String) {
    let path = subject.layout.root();
    match foreign_rights(path) {
        Ok(0) => pass(path.display().to_string()),
        Ok(_) => fail(format!("others may enter {0}; run: chmod 700 {0}", path.display())),
        Err(why) => fail(why),
    }
}

fn key_files(subject: &Subject<'_>) -> (CheckOutcome, String) {
    let files = subject.layout.private_files();
    // The root key may have been taken offline, which is the better place for it.
    let present: Vec<&PathBuf> = files.iter().filter(|path| path.exists()).collect();
    for path in &present {
        match foreign_rights(path) {
            Ok(0) => {}
            Ok(_) => return fail(format!("others may read {0}; run: chmod 600 {0}", path.display())),
            Err(why) => return fail(why),
        }
    }
    pass(format!("{} files", present.len()))
}

/// `init` alone makes the database. A start that made a new one would answer a loss with an empty log that verifies.
fn database_present(subject: &Subject<'_>) -> (CheckOutcome, String) {
    match install::database(subject.config) {
        Ok(None) => database_at(&subject.layout.root().join(Store::FILE_NAME)),
        // Asked when it is opened: it may not answer now, and that is no reason to call it lost.
        Ok(Some(_)) => pass("Postgres"),
        Err(fault) => fail(fault.to_string()),
    }
}

fn database_at(path: &Path) -> (CheckOutcome, String) {
    let lost = |why: String| {
        fail(format!(
            "{}: {why}; restore the newest verified backup, or set DATABASE_URL if the installation lives on Postgres",
            path.display()
        ))
    };
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => lost("this is no file".to_owned()),
        Ok(metadata) if metadata.len() > 0 => pass(path.display().to_string()),
        Ok(_) => lost("the file is empty".to_owned()),
        Err(source) => lost(source.to_string()),
    }
}

fn trust_root(subject: &Subject<'_>) -> (CheckOutcome, String) {
    match TrustRoot::load(&subject.layout.trust_root()) {
        Ok(root) => pass(format!("version {}, {} keys", root.version(), root.keys().len())),
        Err(fault) => fail(fault.to_string()),
    }
}

fn secrets_key(subject: &Subject<'_>) -> (CheckOutcome, String) {
    match install::secrets_key(subject.layout) {
        Ok(_) => pass("present"),
        Err(fault) => fail(fault.to_string()),
    }
}

fn gateway(subject: &Subject<'_>) -> (CheckOutcome, String) {
    let (listen, tls) = match (subject.config.gateway_listen(), subject.config.gateway_tls()) {
        (Ok(listen), Ok(tls)) => (listen, tls),
        (Err(fault), _) | (_, Err(fault)) => return fail(fault.to_string()),
    };
    match (tls, listen.ip().is_loopback()) {
        (Some(_), _) => pass(format!("TLS on {listen}")),
        (None, true) => warn(format!("{listen} is loopback only and not encrypted")),
        (None, false) => fail(format!("{listen} is reachable by others and not encrypted; set gateway.tls_cert_file")),
    }
}

fn database_protected(subject: &Subject<'_>) -> (CheckOutcome, String) {
    match install::database(subject.config) {
        Ok(None) => pass("embedded"),
        Ok(Some(database)) if database.is_protected() => pass("Postgres"),
        Ok(Some(_)) => warn("DATABASE_URL leads to another machine with sslmode=disable"),
        Err(fault) => fail(fault.to_string()),
    }
}

fn launcher(subject: &Subject<'_>) -> (CheckOutcome, String) {
    if subject.launcher.is_file() {
        return pass(subject.launcher.display().to_string());
    }
    fail(format!("{}: {} is missing", Code::LAUNCHER_MISSING, subject.launcher.display()))
}

/// Whether it is there; whether it answers is seen when it runs.
fn egress(subject: &Subject<'_>) -> (CheckOutcome, String) {
    let program = subject.launcher.with_file_name(programs::EGRESS);
    if program.is_file() {
        return pass(program.display().to_string());
    }
    fail(format!("{}: {} is missing", Code::LAUNCHER_MISSING, program.display()))
}

fn clock(subject: &Subject<'_>) -> (CheckOutcome, String) {
    // The date of the first release: an earlier clock would make every expiry meaningless.
    const EARLIEST: Timestamp = Timestamp(1_793_000_000_000_000);
    let now = subject.ambient.now();
    if now >= EARLIEST { pass(now.to_string()) } else { fail(format!("{now} lies before this release was made")) }
}

fn root_key_offline(subject: &Subject<'_>) -> (CheckOutcome, String) {
    let path = subject.layout.root_key();
    if path.exists() {
        return warn(format!("move {} to another machine; only changes of the trust root need it", path.display()));
    }
    pass("not on this machine")
}

/// That no agent runs as root, nor, where the server is root, as anybody who could act as the server.
fn not_root(subject: &Subject<'_>) -> (CheckOutcome, String) {
    let standing = Rights {
        is_root: rustix::process::geteuid().is_root(),
        backend: sandboxes::backend(subject.config),
        first_host_id: sandboxes::first_host_id(subject.config).ok().flatten(),
        is_dropped: subject.machine.as_ref().is_ok_and(rights::is_dropped),
        open: rights::open_to_others(subject.layout),
    };
    match standing.judge() {
        Ok(well) => pass(well),
        Err(why) => warn(why),
    }
}

fn walls(subject: &Subject<'_>) -> (CheckOutcome, String) {
    match subject.machine {
        Ok(machine) => walls_of(machine, sandboxes::backend(subject.config)),
        Err(fault) => fail(fault.to_string()),
    }
}

/// Below strong is what the production gate refuses. Below reduced nobody's agents are safe, so that every start is refused
/// but that of a developer who has said so.
fn walls_of(machine: &Machine, backend: Backend) -> (CheckOutcome, String) {
    let level = machine.level;
    let missing: Vec<String> = machine.below(IsolationLevel::Strong).into_iter().map(missing).collect();
    let message = format!("isolation is {}: {}", level.as_str(), missing.join("; "));
    match level {
        IsolationLevel::Strong => pass("isolation is strong"),
        IsolationLevel::Reduced => warn(message),
        IsolationLevel::None if backend == Backend::None => warn(message),
        IsolationLevel::None => fail(message),
    }
}

fn missing(row: &MachineRow) -> String {
    let remedy = row.remedy.as_ref().map(|remedy| format!(" (remedy: {remedy})")).unwrap_or_default();
    format!("{}: {}{remedy}", row.name, row.detail)
}

fn backend(subject: &Subject<'_>) -> (CheckOutcome, String) {
    backend_of(sandboxes::backend(subject.config))
}

fn users(subject: &Subject<'_>) -> (CheckOutcome, String) {
    match sandboxes::first_host_id(subject.config) {
        Ok(Some(first)) => pass(format!("from {first} on")),
        Ok(None) => pass("those of the server, which is an ordinary user or has no sandboxes"),
        Err(fault) => fail(fault.to_string()),
    }
}

fn backend_of(backend: Backend) -> (CheckOutcome, String) {
    match backend {
        Backend::None => warn("sandbox.backend is none: agents run without walls; for development alone"),
        backend => pass(backend.as_str()),
    }
}

fn apparmor(subject: &Subject<'_>) -> (CheckOutcome, String) {
    match sandboxes::apparmor(subject.config) {
        Ok(apparmor) => pass(apparmor.detail()),
        Err(fault) => fail(fault.message),
    }
}

fn private_targets(subject: &Subject<'_>) -> (CheckOutcome, String) {
    let open = subject.config.dialer_private_exceptions();
    if open.is_empty() { pass("none") } else { warn(format!("dialer.private_exceptions opens {}", open.join(", "))) }
}

fn witnesses(subject: &Subject<'_>) -> (CheckOutcome, String) {
    witness::configured(subject.config, subject.layout)
}

fn log_level(subject: &Subject<'_>) -> (CheckOutcome, String) {
    let level = subject.config.log_level();
    if level > tracing::level_filters::LevelFilter::INFO {
        warn(format!("log.level is {level}"))
    } else {
        pass(level.to_string())
    }
}

#[cfg(test)]
mod tests {
    use agentos_types::machine::RowStanding;

    use super::*;

    #[test]
    fn the_gate_lists_every_finding_and_warnings_only_under_hardening() {
        let check = |name: &str, outcome| Check { name: name.into(), outcome, message: "why".into() };
        let checks = [check("a", CheckOutcome::Pass), check("b", CheckOutcome::Warn), check("c", CheckOutcome::Fail)];
        assert!(enforce(&checks[..2], false).is_ok());
        let refused = enforce(&checks, false).unwrap_err();
        assert!(refused.message.contains("c: why") && !refused.message.contains("b: why"), "{refused}");
        let refused = enforce(&checks, true).unwrap_err();
        assert!(refused.message.contains("b: why") && refused.message.contains("c: why"), "{refused}");
    }

    #[test]
    fn each_level_has_its_gate_and_names_every_missing_part() {
        use IsolationLevel::{None as NoLevel, Reduced, Strong};
        let row = |name: &str, allows| MachineRow {
            name: name.into(),
            standing: RowStanding::Missing,
            detail: format!("{name} is gone"),
            remedy: Some(format!("get {name}")),
            allows,
        };
        let check = |rows: &[MachineRow], backend, expected, words: &[&str]| {
            let (outcome, message) = walls_of(&Machine::of(rows.to_vec()), backend);
            assert_eq!(outcome, expected, "{message}");
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
        };
        let (filter, landlock, quota) = (row("filter", NoLevel), row("Landlock", Reduced), row("quota", Reduced));
        check(&[row("well", Strong)], Backend::Native, CheckOutcome::Pass, &["strong"]);
        let parts = ["reduced", "Landlock is gone (remedy: get Landlock)", "quota is gone"];
        check(&[landlock.clone(), quota], Backend::Native, CheckOutcome::Warn, &parts);
        let rows = [landlock, filter];
        check(&rows, Backend::Native, CheckOutcome::Fail, &["none", "filter is gone", "Landlock is gone"]);
        check(&rows, Backend::Bwrap, CheckOutcome::Fail, &["none"]);
        check(&rows, Backend::None, CheckOutcome::Warn, &["none", "filter is gone"]);
    }

    #[test]
    fn agents_without_walls_pass_no_production_gate() {
        let outcomes = Backend::ALL.map(|backend| backend_of(backend).0);
        assert_eq!(outcomes, [CheckOutcome::Pass, CheckOutcome::Pass, CheckOutcome::Warn]);
    }

    #[test]
    fn a_lost_database_is_not_made_anew() {
        for (path, outcome) in [
            ("/dev/null", CheckOutcome::Fail),
            ("src", CheckOutcome::Fail),
            ("/nothing/here", CheckOutcome::Fail),
            ("Cargo.toml", CheckOutcome::Pass),
        ] {
            let (found, message) = database_at(Path::new(path));
            assert_eq!(found, outcome, "{message}");
        }
    }
}
