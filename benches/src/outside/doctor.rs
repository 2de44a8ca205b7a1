//! What the product itself says of this machine, asked as an operator would.

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::task::block_in_place;

use super::Installation;

/// The driver that bounds workspaces here, by its name: `project`, `image`, `tmpfs` or `watchdog`.
pub fn workspace_driver(installation: &Installation) -> Result<String> {
    let mut command = installation.command();
    // It ends badly where any check does not pass, and has told everything all the same.
    let output = block_in_place(|| command.args(["-o", "json", "doctor"]).output()).context("agent-os doctor")?;
    let told: Value = serde_json::from_slice(&output.stdout).context("agent-os doctor")?;
    driver_in(&told).context("agent-os doctor does not say what bounds workspaces")
}

fn driver_in(told: &Value) -> Option<String> {
    let rows = told["machine"]["rows"].as_array()?;
    let row = rows.iter().find(|row| row["name"] == "disk quota")?;
    Some(row["detail"].as_str()?.split(':').next()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_driver_is_the_word_before_the_colon() {
        let row = json!({"name": "disk quota", "detail": "image: a file system of its own, as large as the limit"});
        let told = json!({"machine": {"rows": [{"name": "user namespaces", "detail": "x: y"}, row]}});
        assert_eq!(driver_in(&told).as_deref(), Some("image"));
        assert_eq!(driver_in(&json!({"machine": {"rows": []}})), None);
    }
}
