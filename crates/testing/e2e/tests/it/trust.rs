//! Who may say what an agent is: unsigned, self-signed, changed and rolled-back packages are refused, with a record.

use std::fs;

use agentos_kit::{Package, TestOs};
use agentos_types::agent::AgentState;

async fn deploy_error(os: &TestOs, package: &Package) -> String {
    let output = os.cli(&["agent", "deploy", package.path().to_str().unwrap()]).await;
    assert_ne!(output.code, 0, "{}", output.stdout);
    output.stderr
}

async fn sign(os: &TestOs, package: &Package) {
    os.cli_ok(&["sign", package.path().to_str().unwrap()]).await;
}

#[tokio::test]
async fn only_what_a_trusted_key_signed_is_deployed() {
    let os = TestOs::start().await;
    let package = Package::echo("echo", "");
    let unsigned = deploy_error(&os, &package).await;
    assert!(unsigned.contains("hint:"), "{unsigned}");

    // Another installation's key is what a self-signed manifest has: a good signature by somebody who is not trusted.
    let stranger = TestOs::initialised().await;
    sign(&stranger, &package).await;
    assert!(deploy_error(&os, &package).await.contains("AOS-1303"));

    sign(&os, &package).await;
    fs::write(package.path().join("worker.py"), "print('changed after signing')").unwrap();
    assert!(deploy_error(&os, &package).await.contains("AOS-1306"));

    let package = Package::echo("echo", "");
    sign(&os, &package).await;
    let envelope = package.path().join("agent.dsse.json");
    let text = fs::read_to_string(&envelope).unwrap();
    let (head, tail) = text.split_once("\"payload\"").unwrap();
    let tail = tail.replacen('A', "B", 1);
    fs::write(&envelope, format!("{head}\"payload\"{tail}")).unwrap();
    let changed = deploy_error(&os, &package).await;
    assert!(changed.contains("AOS-1302"), "{changed}");

    let trail = os.cli_json(&["audit", "query", "--action", "agent.deploy"]).await.to_string();
    for code in ["AOS-1302", "AOS-1303", "AOS-1306"] {
        assert!(trail.contains(code), "{code} is in the audit trail: {trail}");
    }
}

#[tokio::test]
async fn a_version_never_goes_back() {
    let os = TestOs::start().await;
    os.deploy(&Package::echo("echo", "").with_version("1.1.0")).await;
    let older = Package::echo("echo", "");
    sign(&os, &older).await;
    assert!(deploy_error(&os, &older).await.contains("AOS-1305"));
    let newer = os.deploy(&Package::echo("echo", "description = \"new\"").with_version("1.2.0")).await;
    assert_eq!(newer.version, "1.2.0");
}

#[tokio::test]
async fn a_file_changed_after_the_deploy_stops_the_next_start() {
    let os = TestOs::start().await;
    let agent = os.deploy(&Package::echo("echo", "")).await;
    let installed = os.home().join("packages/echo/1.0.0/worker.py");
    fs::set_permissions(&installed, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&installed, "print('changed after the deploy')").unwrap();
    os.cli(&["agent", "restart", "echo"]).await;
    let failed = os.agent_in(&agent.name, &[AgentState::Failed]).await;
    assert!(failed.reason.unwrap_or_default().contains("AOS-1306"));
}
