//! What is written about the Monitor, held against what it is: examples parse, the manifest is valid and sufficient.

use agentos_sdk::{Value, json};
use agentos_types::{Category, Manifest};

use crate::request::Request;

const MANIFEST: &str = include_str!("../../../../../agents/monitor/agent.toml");
const README: &str = include_str!("../../../../../agents/monitor/README.md");
const GUIDE: &str = include_str!("../../../../../docs/src/guides/monitor-agent.md");

/// Every JSON block that names an action.
fn requests(page: &str) -> Vec<Value> {
    page.split("```json\n")
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .map(|block| serde_json::from_str(block).unwrap_or_else(|error| panic!("{error}: {block}")))
        .filter(|example: &Value| example["action"].is_string())
        .collect()
}

#[test]
fn every_example_is_accepted_and_every_action_has_one() {
    for page in [README, GUIDE] {
        let examples = requests(page);
        for example in &examples {
            Request::parse(example.clone()).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
        for action in ["add", "list", "remove", "check", "history"] {
            assert!(examples.iter().any(|example| example["action"] == action), "no example of '{action}'");
        }
    }
}

#[test]
fn the_manifest_is_valid_and_ends_with_the_place_for_sources() {
    let manifest: Manifest = toml::from_str(MANIFEST).unwrap();
    manifest.validate().unwrap();
    assert_eq!(
        (manifest.name.as_str(), manifest.command.as_slice()),
        ("monitor", &["agent-os-monitor".to_owned()][..])
    );
    let granted = |category| manifest.grants.iter().filter(move |grant| grant.category == category);
    assert_eq!(granted(Category::Kv).flat_map(|grant| &grant.actions).collect::<Vec<_>>(), ["read", "write"]);
    assert_eq!(granted(Category::Notify).flat_map(|grant| &grant.resources).collect::<Vec<_>>(), ["event:watch.*"]);
    for outside in [Category::Net, Category::File, Category::Secret] {
        assert_eq!(granted(outside).count(), 0, "the operator grants sources, not the template");
    }
    let marker = "# Sources: what the Monitor may look at";
    let (_, after) = MANIFEST.split_once(marker).expect("the marker of the set-up script");
    assert!(!MANIFEST.split_once(marker).is_some_and(|(_, rest)| rest.contains(marker)));
    assert!(after.lines().skip(1).all(|line| line.is_empty() || line.starts_with('#')), "only comments follow it");
    // The examples there must work once the operator removes the comment marks.
    let opened: String =
        after.lines().filter_map(|line| line.strip_prefix("#> ")).flat_map(|line| [line, "\n"]).collect();
    let manifest: Manifest = toml::from_str(&format!("{MANIFEST}\n{opened}")).unwrap();
    manifest.validate().unwrap();
    assert!(manifest.grants.iter().any(|grant| grant.category == Category::Secret), "{opened}");
    assert_eq!(json!(manifest.limits.concurrent_tasks), json!(1), "checks of one watch need no second worker");
}
