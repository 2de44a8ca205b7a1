//! Which floor may stand on which. Cargo already refuses cycles; this refuses a floor that reaches past its own.

use crate::tree::{Package, expect_none, members};

/// A folder of the house, and the folders or single packages that it may stand on. A floor may always use itself.
const FLOORS: &[(&str, &[&str])] = &[
    ("crates/0-contracts", &[]),
    ("crates/1-kernel", &["crates/0-contracts"]),
    ("crates/2-models", &["crates/0-contracts", "crates/1-kernel"]),
    ("crates/3-runtime", &["crates/0-contracts", "crates/1-kernel"]),
    ("crates/4-framework", &["crates/0-contracts", "crates/1-kernel"]),
    // An agent knows the kernel only by its socket.
    ("crates/5-apps", &["agentos-types", "agentos-protocol"]),
    // The gateway asks the kernel through the port in agentos-api; base is clocks, settings and background work; wire is how
    // errors read in the protocols of models.
    ("crates/gateway", &["crates/0-contracts", "agentos-base", "agentos-wire"]),
    // The command line talks HTTP. Base holds the settings, proof verifies logs offline, trust signs packages offline.
    ("crates/app/client", &["crates/0-contracts", "agentos-api"]),
    (
        "crates/app/cli",
        &["crates/0-contracts", "agentos-api", "agentos-client", "agentos-base", "agentos-proof", "agentos-trust"],
    ),
    // The binary wires; it is the only product crate that may know everything below.
    (
        "crates/app/agent-os",
        &[
            "crates/0-contracts",
            "crates/1-kernel",
            "crates/2-models",
            "crates/3-runtime",
            "crates/4-framework",
            "crates/gateway",
            "crates/app",
        ],
    ),
    // Its targets are the readers of what comes from outside, on every floor.
    (
        "crates/testing/fuzz",
        &["crates/0-contracts", "crates/1-kernel", "agentos-api", "agentos-egress", "agentos-launcher", "agentos-wire"],
    ),
    // The house reads the table of migrations.
    ("crates/testing", &["crates/0-contracts", "agentos-base", "agentos-client", "agentos-store"]),
    ("benches", &["crates"]),
    ("xtask", &["crates"]),
];

#[test]
fn every_edge_goes_down() {
    let members = members();
    let mut findings = Vec::new();
    for package in &members {
        let Some((floor, allowed)) = FLOORS.iter().find(|(floor, _)| is_in(package, floor)) else {
            findings.push(format!("{} stands on no floor of the table", package.directory));
            continue;
        };
        for (name, only_tests) in &package.dependencies {
            let Some(target) = members.iter().find(|member| member.name == *name) else { continue };
            let down = is_in(target, floor) || allowed.iter().any(|on| is_in(target, on) || target.name == *on);
            let testing = is_in(target, "crates/testing");
            let fits = if testing {
                *only_tests || is_in(package, "crates/testing") || ["benches", "xtask"].contains(floor)
            } else {
                down || *only_tests
            };
            if !fits {
                findings.push(format!("{} → {}", package.directory, target.directory));
            }
        }
    }
    expect_none(findings, "move the code to the floor that may have it, or ask through a port of agentos-api");
}

/// Tests may look sideways, but a contract that needs the kernel for its tests is not a contract.
#[test]
fn contracts_and_apps_test_themselves_alone() {
    let members = members();
    let mut findings = Vec::new();
    for package in
        members.iter().filter(|package| is_in(package, "crates/0-contracts") || is_in(package, "crates/5-apps"))
    {
        for (name, _) in package.dependencies.iter().filter(|(_, only_tests)| *only_tests) {
            let kernel = members.iter().any(|member| member.name == *name && is_in(member, "crates/1-kernel"));
            if kernel {
                findings.push(format!("{} tests itself with {name}", package.directory));
            }
        }
    }
    expect_none(findings, "put the test on the floor above");
}

#[test]
fn every_package_says_what_it_is() {
    let findings = members()
        .into_iter()
        .filter(|package| package.description.trim().is_empty() || package.licence != "Apache-2.0")
        .map(|package| {
            format!("{}: description '{}', licence '{}'", package.directory, package.description, package.licence)
        })
        .collect();
    expect_none(findings, "write one line of description; take the licence from the workspace");
}

fn is_in(package: &Package, folder: &str) -> bool {
    package.directory.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
