//! The production gate with a whole server: with everything in its place it starts and works, and each single thing that is
//! missing refuses the start by its name and no other.
//!
//! A machine that is not strong refuses all the same, and names that beside what the story has spoiled. The machine of
//! `make test-vm` has AppArmor and control groups of version 2, and goes through the gate there.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use agentos_kit::{CliOutput, Package, TestOs, eventually, program};
use serde_json::{Value, json};
use tempfile::TempDir;

const GATE: &str = "ENFORCE_PRODUCTION_HARDENING";
const CERTIFICATE: &str = "AGENT_OS_GATEWAY_TLS_CERT_FILE";
const KEY: &str = "AGENT_OS_GATEWAY_TLS_KEY_FILE";
const WITNESS: &str = "AGENT_OS_AUDIT_WITNESS_FILE";
const BACKEND: &str = "AGENT_OS_SANDBOX_BACKEND";
const ROOT_KEY: &str = "keys/root.key";
/// What depends on the machine alone, by the name of its check.
const OF_THE_MACHINE: [&str; 1] = ["agents are walled in"];

/// An installation as an operator leaves it, and another disk.
struct Hardened {
    os: TestOs,
    elsewhere: TempDir,
}

impl Hardened {
    async fn new() -> Self {
        let mut os = TestOs::initialised().await.with_real_workspaces();
        let elsewhere = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
        let (certificate, key) = (os.home().join("cert.pem"), os.home().join("key.pem"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(os.home().join(ROOT_KEY), elsewhere.path().join("root.key")).unwrap();
        let notes = elsewhere.path().join("notes");
        for (name, path) in [(CERTIFICATE, &certificate), (KEY, &key), (WITNESS, &notes)] {
            os.set_env(name, path.to_str().unwrap());
        }
        os.set_env(GATE, "true");
        Self { os, elsewhere }
    }

    fn home(&self) -> &Path {
        self.os.home()
    }

    /// The checks that `doctor` does not pass.
    async fn findings(&self) -> BTreeSet<String> {
        let output = self.os.run(&["--output", "json", "doctor"], &[]).await;
        checks_of(&output).iter().filter(|check| check["outcome"] != "pass").map(name_of).collect()
    }

    /// The programs of an installation in a directory of their own, without one of them.
    fn without(&mut self, missing: &str) {
        let directory = self.elsewhere.path().join("programs");
        fs::create_dir(&directory).unwrap();
        for name in ["agent-os", "agent-os-launch", "agent-os-egress"].into_iter().filter(|name| *name != missing) {
            let copy = directory.join(name);
            fs::hard_link(program(name), &copy).or_else(|_| fs::copy(program(name), &copy).map(drop)).unwrap();
        }
        self.os.serve_with(directory.join("agent-os").to_str().unwrap());
    }
}

/// `doctor` ends with an error where something fails, and has said all of it before.
fn checks_of(doctor: &CliOutput) -> Vec<Value> {
    let report: Option<Value> = serde_json::from_str(&doctor.stdout).ok();
    let checks = report.as_ref().and_then(|report| report["checks"].as_array());
    assert!(checks.is_some(), "{}{}", doctor.stdout, doctor.stderr);
    checks.cloned().unwrap_or_default()
}

fn name_of(check: &Value) -> String {
    check["name"].as_str().unwrap().to_owned()
}

fn open(path: PathBuf, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// One thing that is missing.
struct Missing {
    check: &'static str,
    spoil: fn(&mut Hardened),
    /// What the refusal says of it.
    words: &'static str,
    /// Further checks that cannot pass without it.
    follows: &'static [&'static str],
}

const fn missing(check: &'static str, spoil: fn(&mut Hardened), words: &'static str) -> Missing {
    Missing { check, spoil, words, follows: &[] }
}

/// What is wrong in the directory, whatever the settings are.
const FILES: &[Missing] = &[
    Missing {
        follows: &["agents are not root"],
        ..missing("data directory is private", |it| open(it.home().to_owned(), 0o755), "chmod 700")
    },
    missing("key files are private", |it| open(it.home().join("keys/publisher.key"), 0o644), "chmod 600"),
    missing("database is present", |it| fs::remove_file(it.home().join("agent-os.db")).unwrap(), "restore the newest"),
    missing("trust root verifies", |it| fs::remove_file(it.home().join("trust/root.json")).unwrap(), "AOS-"),
    missing("secrets key is usable", |it| fs::remove_file(it.home().join("keys/secrets.key")).unwrap(), "AOS-"),
    missing(
        "root key is offline",
        |it| fs::rename(it.elsewhere.path().join("root.key"), it.home().join(ROOT_KEY)).unwrap(),
        "to another machine",
    ),
    Missing {
        follows: &["agents are not root", "agents are walled in"],
        ..missing("launcher is installed", |it| it.without("agent-os-launch"), "agent-os-launch is missing")
    },
    missing("egress proxy answers", |it| it.without("agent-os-egress"), "agent-os-egress is missing"),
    missing("no failpoints are built in", |it| it.os.serve_with("agent-os-failpoints"), "crash tests"),
];

/// What is wrong in the settings.
const SETTINGS: &[Missing] = &[
    missing(
        "gateway is encrypted or local",
        |it| [CERTIFICATE, KEY].iter().for_each(|name| it.os.unset_env(name)),
        "not encrypted",
    ),
    missing(
        "database is encrypted or local",
        |it| it.os.set_env("DATABASE_URL", "postgres://server:secret@192.0.2.1/agentos?sslmode=disable"),
        "sslmode=disable",
    ),
    missing(
        "no private targets are open",
        |it| it.os.set_env("AGENT_OS_DIALER_PRIVATE_EXCEPTIONS", "127.0.0.1:1"),
        "127.0.0.1:1",
    ),
    missing("checkpoints reach witnesses", |it| it.os.unset_env(WITNESS), "no witness is set"),
    missing("log level shows no internals", |it| it.os.set_env("AGENT_OS_LOG_LEVEL", "debug"), "log.level is debug"),
    missing(
        "agents are walled in",
        |it| it.os.set_env("AGENT_OS_SANDBOX_WORKSPACE", "watchdog"),
        "disk quota: watchdog: measured every few seconds",
    ),
    Missing {
        follows: &["agents are walled in", "agents are not root"],
        ..missing("sandboxes are real", |it| it.os.set_env(BACKEND, "none"), "sandbox.backend is none")
    },
    Missing {
        follows: &["agents are walled in", "agents are not root", "sandboxes are real"],
        ..missing(
            "AppArmor is there if required",
            |it| {
                // Where nothing puts up sandboxes nobody can enter a profile, on any machine.
                it.os.set_env(BACKEND, "none");
                it.os.set_env("AGENT_WORKER_REQUIRE_APPARMOR", "true");
            },
            "AppArmor is required, but",
        )
    },
];

/// What only a server of root can lack: an ordinary user is neither root nor gives users away.
const OF_ROOT: &[Missing] = &[
    missing("agents are not root", |it| it.os.set_env(BACKEND, "bwrap"), "sandbox.backend = bwrap"),
    Missing {
        follows: &["agents are not root", "agents are walled in"],
        ..missing(
            "agents have users of their own",
            // As in a container whose numbers do not reach.
            |it| it.os.enter_through(&["unshare", "--user", "--map-root-user"]),
            "do not exist here",
        )
    },
];

async fn check(missing: &Missing) {
    let mut it = Hardened::new().await;
    (missing.spoil)(&mut it);
    let expected: BTreeSet<&str> =
        [missing.check].iter().chain(missing.follows).chain(&OF_THE_MACHINE).copied().collect();
    let findings = it.findings().await;
    assert!(findings.contains(missing.check), "{}: {findings:?}", missing.check);
    assert!(findings.iter().all(|name| expected.contains(name.as_str())), "{}: {findings:?}", missing.check);
    assert!(!it.os.try_up(&[]).await, "{}: the server started", missing.check);
    let log = it.os.log();
    assert!(log.contains("AOS-1008"), "{}: {log}", missing.check);
    let told = log.split(&format!("{}: ", missing.check)).nth(1);
    assert!(told.is_some_and(|told| told.contains(missing.words)), "{}: {log}", missing.check);
    for finding in findings {
        assert!(log.contains(&format!("{finding}: ")), "{finding} is told by doctor alone: {log}");
    }
}

#[tokio::test]
async fn each_file_and_program_that_is_missing_refuses_by_its_name() {
    for missing in FILES {
        check(missing).await;
    }
}

#[tokio::test]
async fn each_setting_that_is_missing_refuses_by_its_name() {
    for missing in SETTINGS {
        check(missing).await;
    }
}

#[tokio::test]
async fn what_a_server_of_root_lacks_refuses_by_its_name() {
    assert!(
        rustix::process::geteuid().is_root(),
        "make test leaves this out by name for who is not root, and counts it"
    );
    for missing in OF_ROOT {
        check(missing).await;
    }
}

/// A check that is new has its row here.
#[tokio::test]
async fn no_check_of_the_gate_is_left_out() {
    let os = TestOs::initialised().await;
    let output = os.run(&["--output", "json", "doctor"], &[]).await;
    let known: BTreeSet<String> = checks_of(&output).iter().map(name_of).collect();
    // Whose clock would be wrong is the whole machine's.
    let told =
        [FILES, SETTINGS, OF_ROOT].into_iter().flatten().map(|missing| missing.check).chain(["clock is plausible"]);
    assert_eq!(known, told.map(str::to_owned).collect());
}

#[tokio::test]
async fn with_everything_in_its_place_only_the_machine_can_keep_a_server_from_its_start() {
    let mut it = Hardened::new().await;
    let lacks = it.findings().await;
    assert!(lacks.iter().all(|name| OF_THE_MACHINE.contains(&name.as_str())), "{lacks:?}");
    assert_eq!(it.os.try_up(&[]).await, lacks.is_empty(), "{lacks:?}");
}

/// Where `doctor` calls the machine strong.
#[tokio::test]
async fn behind_the_gate_of_a_strong_machine_a_server_starts_and_its_agents_work() {
    let mut it = Hardened::new().await;
    let lacks = it.findings().await;
    assert!(lacks.is_empty(), "{lacks:?}; make test leaves this out by name on such a machine, and counts it");
    it.os.up().await;
    assert!(it.os.url().starts_with("https://"));
    let status = it.os.cli_json(&["status"]).await;
    assert_eq!(status["isolation"], "strong", "{status}");
    let package = Package::echo("echo", "");
    let directory = package.path().to_str().unwrap();
    it.os.cli_ok(&["sign", directory]).await;
    it.os.cli_ok(&["agent", "deploy", directory]).await;
    let agent = eventually("a ready agent", || async {
        let agent = it.os.cli_json(&["agent", "show", "echo"]).await;
        if agent["state"] == "ready" { Ok(agent) } else { Err(agent) }
    })
    .await;
    for control in agent["controls"].as_array().unwrap() {
        let is_unasked = control["reason"].as_str().unwrap().starts_with("the manifest asks for no bound");
        assert!(control["enforcement"] == "enforced" || is_unasked, "{control}");
    }
    let task = it.os.submit("echo", json!({"say": "behind the gate"})).await.to_string();
    let done = eventually("the end of the task", || async {
        let task = it.os.cli_json(&["task", "show", &task]).await;
        if task["state"] == "completed" { Ok(task) } else { Err(task) }
    })
    .await;
    assert!(done["failure"].is_null(), "{done}");
    assert_eq!(it.os.down().await, 0);
    assert!(
        fs::read_to_string(it.elsewhere.path().join("notes")).unwrap().contains("node-"),
        "the witness has the log"
    );
}
