//! Failpoints: each at one place, none in what is shipped, as no launcher that leaves walls out, and a page whose claims are true.

use std::{collections::BTreeMap, fs};

use agentos_failpoint::Point;

use crate::tree::{array, expect_none, files, metadata, product, root, text};

const TABLE: &str = "crates/1-kernel/failpoint/src/points.rs";
/// The one script that may build programs for tests alone.
const BUILDER: &str = "scripts/build-for-tests.sh";

#[test]
fn every_failpoint_stands_at_exactly_one_place() {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let sources = product();
    for file in sources.iter().filter(|file| file.path != TABLE) {
        for (number, line) in file.code() {
            for name in line.split("hit(Point::").skip(1).filter_map(|rest| rest.split(')').next()) {
                places.entry(name).or_default().push(format!("{}:{number}", file.path));
            }
        }
    }
    let of = |point: &Point| places.get(point.variant()).map_or(&[][..], Vec::as_slice);
    let findings = Point::ALL.iter().filter(|point| of(point).len() != 1);
    let findings = findings.map(|point| format!("{} is hit at {:?}", point.name(), of(point)));
    expect_none(findings.collect(), "hit it where its meaning is true, and nowhere else");
    assert!(Point::ALL.len() >= 40, "there are {} points", Point::ALL.len());
}

#[test]
fn what_is_shipped_has_no_failpoints_and_leaves_no_wall_out() {
    let members = array(&metadata()["packages"]);
    for crate_name in ["agentos-failpoint", "agentos-launcher"] {
        let id = members.iter().find(|package| package["name"] == crate_name).map(|package| text(&package["id"]));
        let node = array(&metadata()["resolve"]["nodes"]).iter().find(|node| node["id"].as_str() == id).unwrap();
        let features = array(&node["features"]);
        assert_eq!(features, [] as [serde_json::Value; 0], "{crate_name}: what is for tests is on by default");
    }
    let words = ["/failpoints", "walls-left-out", "--all-features"];
    let builds = |text: &str| words.iter().any(|word| text.contains(word));
    let mut scripts = files("scripts", &[".sh"]);
    scripts.extend(files(".ci", &["run"]));
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    assert!(!builds(&makefile), "the Makefile builds what is for tests alone");
    let builders: Vec<&str> = scripts.iter().filter(|file| builds(&file.text)).map(|file| file.path.as_str()).collect();
    assert_eq!(builders, [BUILDER]);
}

/// A promise names a rule of the judge or a test, in its last column.
#[test]
fn every_promise_about_crashes_names_what_proves_it() {
    let page = fs::read_to_string(root().join("docs/src/concepts/crashes.md")).unwrap();
    let (_, promises) = page.split_once("## The promises").unwrap();
    let (promises, _) = promises.split_once("\n## ").unwrap();
    let tests: String = files("crates", &[".rs"]).into_iter().map(|file| file.text).collect();
    let rules = fs::read_to_string(root().join("crates/testing/judge/src/lib.rs")).unwrap();
    let mut findings = Vec::new();
    for row in promises.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let proofs = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let names: Vec<&str> = proofs.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            findings.push(format!("nothing proves: {row}"));
        }
        let known = |name: &&str| tests.contains(&format!("fn {name}(")) || rules.contains(&format!("Rule::{name},"));
        findings
            .extend(names.into_iter().filter(|name| !known(name)).map(|name| format!("neither rule nor test: {name}")));
    }
    expect_none(findings, "correct the name in docs/src/concepts/crashes.md, or write the test");
}
