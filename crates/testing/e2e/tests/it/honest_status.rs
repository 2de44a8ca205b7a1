//! What is not enforced says so, everywhere, and the production gate takes it seriously.

use agentos_kit::{Package, TestOs};
use serde_json::Value;

const NOT_YET: [&str; 2] = ["network wall", "system call filter"];

#[tokio::test]
async fn doctor_agent_and_health_name_what_does_not_hold() {
    let os = TestOs::start().await;
    os.deploy(&Package::echo("echo", "")).await;
    let doctor = os.cli_json(&["doctor"]).await;
    let agent = os.cli_json(&["agent", "show", "echo"]).await;
    let health = serde_json::to_value(os.client().health().await.unwrap()).unwrap();
    for (place, controls) in
        [("doctor", &doctor["controls"]), ("agent", &agent["controls"]), ("health", &health["controls"])]
    {
        for control in NOT_YET {
            let line =
                controls.as_array().unwrap().iter().find(|line| line["name"].as_str().unwrap().contains(control));
            let line: &Value = line.unwrap_or_else(|| panic!("{place} does not mention {control}: {controls}"));
            assert_eq!(line["enforcement"], "not-enforced", "{place}");
            assert!(!line["reason"].as_str().unwrap().is_empty(), "{place}: {control} gives its reason");
        }
    }
    assert_eq!(health["status"], "degraded");
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
