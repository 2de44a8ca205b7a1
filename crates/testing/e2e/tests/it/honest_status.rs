//! What is not enforced says so, everywhere, and the production gate takes it seriously.

use agentos_kit::{Package, TestOs};
use serde_json::Value;

/// What is enforced on every machine on which these tests run, and what its rows stand on.
const WALLS: [&str; 4] = ["network wall", "file system wall", "system call filter", "kill of the process tree"];

fn line<'l>(lines: &'l Value, name: &str) -> &'l Value {
    let found = lines.as_array().unwrap().iter().find(|line| line["name"] == name);
    assert!(found.is_some(), "no line {name}: {lines}");
    found.unwrap_or(&Value::Null)
}

#[tokio::test]
async fn doctor_agent_and_health_agree_on_what_holds_here() {
    let os = TestOs::start().await;
    os.deploy(&Package::echo("echo", "")).await;
    let doctor = os.cli_json(&["doctor"]).await;
    let agent = os.cli_json(&["agent", "show", "echo"]).await;
    let health = serde_json::to_value(os.client().health().await.unwrap()).unwrap();
    for (place, controls) in
        [("doctor", &doctor["controls"]), ("agent", &agent["controls"]), ("health", &health["controls"])]
    {
        for wall in WALLS {
            let line = line(controls, wall);
            assert_ne!(line["enforcement"], "not-enforced", "{place}: {line}");
            assert!(!line["reason"].as_str().unwrap().is_empty(), "{place}: {wall} gives its reason");
        }
        let quota = line(controls, "disk quota");
        assert!(["enforced", "degraded"].contains(&quota["enforcement"].as_str().unwrap()), "{place}: {quota}");
    }
    // What nobody asked for is not claimed for this agent.
    assert_eq!(line(&agent["controls"], "CPU share")["enforcement"], "not-enforced");
    let machine = &doctor["machine"];
    assert_eq!(health["isolation"], machine["level"], "the server and doctor see the same machine");
    assert_ne!(machine["level"], "none");
    assert_eq!(line(&machine["rows"], "sandboxes")["standing"], "present");
    // By another way: the agent is where its rows say.
    let pid = agent["pid"].as_u64().unwrap();
    for (row, file) in [("network namespaces", "net"), ("mount namespaces", "mnt"), ("process namespaces", "pid")] {
        let inside = std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap();
        let outside = std::fs::read_link(format!("/proc/self/ns/{file}")).unwrap();
        assert_eq!(line(&machine["rows"], row)["standing"] == "present", inside != outside, "{row}");
    }
}

#[tokio::test]
async fn doctor_looks_without_a_trace() {
    let os = TestOs::initialised().await;
    os.cli_ok(&["doctor"]).await;
    assert!(!os.home().join("work/.quota").exists(), "no workspace was made");
    let left = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!left.contains(os.home().to_str().unwrap()));
}

/// On a machine that forbids user namespaces, as a hardened one does, or a container: nothing is claimed, nothing starts.
#[tokio::test]
async fn where_namespaces_are_forbidden_doctor_says_so_and_no_server_starts() {
    let mut os = TestOs::initialised().await;
    let forbidding = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    os.enter_through(&["unshare", "--user", "--map-root-user", "sh", "-c", forbidding, "sh"]);
    let doctor = os.cli(&["--output", "json", "doctor"]).await;
    let report: Value = serde_json::from_str(&doctor.stdout).unwrap_or_else(|_| panic!("{}", doctor.stderr));
    assert_eq!(report["machine"]["level"], "none");
    let row = line(&report["machine"]["rows"], "user namespaces");
    assert_eq!(row["standing"], "missing", "{row}");
    assert!(row["detail"].as_str().unwrap().contains("user.max_user_namespaces is 0"), "{row}");
    assert!(row["remedy"].as_str().unwrap().contains("sysctl -w"), "{row}");
    for wall in WALLS {
        assert_eq!(line(&report["controls"], wall)["enforcement"], "not-enforced", "{wall}");
    }
    let check = line(&report["checks"], "agents are walled in");
    assert_eq!(check["outcome"], "fail", "{check}");
    let text = os.cli(&["doctor"]).await.stdout;
    assert!(text.contains("Isolation: none") && text.contains("remedy: sysctl -w user.max_user_namespaces"), "{text}");

    let refused = os.cli(&["up", "--port", "0"]).await;
    assert_ne!(refused.code, 0);
    for part in ["AOS-1008", "agents are walled in: isolation is none", "user.max_user_namespaces is 0"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    // A developer may say that it is meant, and then it is shown.
    assert!(os.try_up(&[("AGENT_OS_SANDBOX_BACKEND", "none")]).await, "{}", os.log());
    let health = os.client().health().await.unwrap();
    assert_eq!((health.isolation.as_str(), health.status.as_str()), ("none", "degraded"));
    os.down().await;
    let hardened = [("AGENT_OS_SANDBOX_BACKEND", "none"), ("ENFORCE_PRODUCTION_HARDENING", "true")];
    assert!(!os.try_up(&hardened).await);
    assert!(os.log().contains("isolation is none"), "{}", os.log());
}

/// Where nothing puts up sandboxes nobody can enter a profile, on any machine.
#[tokio::test]
async fn apparmor_that_is_required_and_cannot_be_had_refuses_the_start() {
    let mut os = TestOs::initialised().await;
    let wanted = [("AGENT_OS_SANDBOX_BACKEND", "none"), ("AGENT_WORKER_REQUIRE_APPARMOR", "true")];
    assert!(!os.try_up(&wanted).await);
    assert!(os.log().contains("AppArmor is required, but"), "{}", os.log());
}

#[tokio::test]
async fn the_production_gate_refuses_and_lists_every_finding() {
    let mut os = TestOs::initialised().await;
    os.set_env("ENFORCE_PRODUCTION_HARDENING", "true");
    let refused = os.cli(&["up", "--port", "0"]).await;
    assert_ne!(refused.code, 0);
    for part in ["AOS-1008", "agents are walled in", "gateway is encrypted"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
}

/// Only root has users of their own for agents, disk images and quotas; so it may be root, while no agent is.
#[tokio::test]
async fn the_gate_lets_a_server_of_root_in_only_where_no_agent_is_root() {
    let mut os = TestOs::initialised().await;
    assert!(
        rustix::process::geteuid().is_root(),
        "make test leaves this out by name for who is not root, and counts it"
    );
    let check = async |os: &TestOs| {
        let doctor = os.cli(&["--output", "json", "doctor"]).await;
        let report: Value = serde_json::from_str(&doctor.stdout).unwrap_or_else(|_| panic!("{}", doctor.stderr));
        line(&report["checks"], "agents are not root").clone()
    };
    let well = check(&os).await;
    assert_eq!(well["outcome"], "pass", "{well}");
    assert!(well["message"].as_str().unwrap().contains("each agent is a user of its own"), "{well}");
    for backend in ["bwrap", "none"] {
        os.set_env("AGENT_OS_SANDBOX_BACKEND", backend);
        let refused = check(&os).await;
        assert_eq!(refused["outcome"], "warn", "{refused}");
        let gate = [("ENFORCE_PRODUCTION_HARDENING", "true")];
        assert!(!os.try_up(&gate).await);
        let finding = format!("agents are not root: the server is root, and with sandbox.backend = {backend}");
        assert!(os.log().contains(&finding), "{}", os.log());
        os.unset_env("AGENT_OS_SANDBOX_BACKEND");
    }
    // Whoever owns the state owns the server, whoever that runs as.
    std::os::unix::fs::chown(os.home().join("packages"), Some(70_001), None).unwrap();
    assert!(check(&os).await["message"].as_str().unwrap().contains("belongs to user 70001"));
    std::os::unix::fs::chown(os.home().join("packages"), Some(0), None).unwrap();
}

#[tokio::test]
async fn a_reserved_setting_and_a_bad_mode_refuse_the_start() {
    let mut os = TestOs::initialised().await;
    std::fs::set_permissions(os.home().join("keys/secrets.key"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .unwrap();
    let refused = os.cli(&["up", "--port", "0"]).await;
    assert!(refused.code != 0 && refused.stderr.contains("chmod 600"), "{}", refused.stderr);
    std::fs::set_permissions(os.home().join("keys/secrets.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    os.set_env("MEMORY_ENCRYPTION_ENABLED", "true");
    let refused = os.cli(&["up", "--port", "0"]).await;
    assert!(refused.code != 0 && refused.stderr.contains("AOS-1003"), "{}", refused.stderr);
}

#[tokio::test]
async fn an_open_address_without_tls_refuses_the_start() {
    let os = TestOs::initialised().await;
    std::fs::write(os.home().join("agent-os.toml"), "[gateway]\nlisten = \"0.0.0.0:0\"\n").unwrap();
    let refused = os.cli(&["up"]).await;
    assert!(refused.code != 0 && refused.stderr.contains("AOS-1008"), "{}", refused.stderr);
}
