//! Coverage by enumeration: what is declared is used, and has its page.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use agentos_base::config::{self, SETTINGS, Source};
use agentos_types::code::CATALOGUE;

use crate::tree::{expect_none, files, product, root};

const CATALOGUE_FILE: &str = "crates/0-contracts/types/src/code.rs";
const SETTINGS_FOLDER: &str = "crates/1-kernel/base/src/config/";

#[test]
fn every_error_code_is_raised_somewhere() {
    let (raised, names) = (raised_codes(), code_names());
    assert_eq!(names.len(), CATALOGUE.len(), "the table in {CATALOGUE_FILE} is not read fully");
    let findings = names
        .iter()
        .filter(|(name, _)| !raised.contains(name))
        .map(|(name, number)| format!("AOS-{number} {name}"))
        .collect();
    expect_none(findings, "raise it where its cause happens, or take it out of the catalogue before it is released");
}

#[test]
fn every_error_code_has_its_page() {
    let findings = CATALOGUE
        .iter()
        .map(|entry| format!("docs/src/errors/{}.md", entry.code))
        .filter(|page| !root().join(page).is_file())
        .collect();
    expect_none(findings, "run `cargo xtask gen`");
}

#[test]
fn every_setting_has_an_effect() {
    let getters = getters();
    let sources = product();
    let mut findings = Vec::new();
    for setting in SETTINGS.iter().filter(|setting| !setting.reserved) {
        let Some(getter) = getters.get(setting.key) else {
            findings.push(format!("{} has no getter", setting.key));
            continue;
        };
        let call = format!(".{getter}()");
        let used = sources
            .iter()
            .filter(|file| !file.path.starts_with(SETTINGS_FOLDER))
            .any(|file| file.code().any(|(_, line)| line.contains(&call)));
        if !used {
            findings.push(format!("{}: nobody calls {getter}()", setting.key));
        }
    }
    expect_none(findings, "use the value where it takes effect, or mark the setting reserved");
}

#[test]
fn every_setting_is_documented() {
    for page in ["docs/src/reference/configuration.md", ".env.example"] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let findings = SETTINGS
            .iter()
            .filter(|setting| !text.contains(setting.env))
            .map(|setting| format!("{page}: {}", setting.env))
            .collect();
        expect_none(findings, "run `cargo xtask gen`");
    }
}

/// A hint or a page that names a setting names one that exists. One word after the dot may be an audit action
/// (`gateway.lockout`); two or more, joined by `_`, are a setting.
#[test]
fn every_setting_that_is_named_exists() {
    let sections: BTreeSet<&str> = SETTINGS.iter().filter_map(|setting| setting.key.split('.').next()).collect();
    let is_wrong = |word: &&str| {
        word.split_once('.').is_some_and(|(section, name)| {
            let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            sections.contains(section) && name.contains('_') && plain
        }) && !SETTINGS.iter().any(|setting| setting.key == *word)
    };
    let mut findings = Vec::new();
    for file in product().into_iter().chain(files("docs/src", &[".md"])) {
        let wrong = file.text.split('`').filter(is_wrong);
        findings.extend(wrong.map(|word| format!("{}: {word}", file.path)));
    }
    expect_none(findings, "name the setting as it stands in the table");
}

/// Every published migration can be undone: each `.up.sql` has its `.down.sql`.
#[test]
fn every_migration_has_a_way_back() {
    let all: Vec<String> =
        files("crates/1-kernel/store/migrations", &[".sql"]).into_iter().map(|file| file.path).collect();
    let findings = all
        .iter()
        .filter_map(|path| path.strip_suffix(".up.sql"))
        .filter(|stem| {
            let common = stem.trim_end_matches(".sqlite").trim_end_matches(".postgres");
            !all.contains(&format!("{common}.down.sql"))
        })
        .map(|stem| format!("{stem}.up.sql"))
        .collect();
    expect_none(findings, "write the down migration");
}

/// Constant names of the catalogue with their numbers, from the source of the table.
fn code_names() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join(CATALOGUE_FILE)).unwrap();
    text.lines()
        .filter_map(|line| line.trim().split_once(" = "))
        .filter_map(|(name, rest)| Some((name, rest.split_once(", ")?.0)))
        .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        .filter(|(_, number)| number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit()))
        .map(|(name, number)| (name.to_owned(), number.to_owned()))
        .collect()
}

/// Every `NAME` of a `Code::NAME` in what is shipped.
fn raised_codes() -> BTreeSet<String> {
    let mut raised = BTreeSet::new();
    for file in product().iter().filter(|file| file.path != CATALOGUE_FILE) {
        for (_, line) in file.code() {
            let names = line.split("Code::").skip(1).filter_map(|rest| {
                rest.split(|character: char| !character.is_ascii_uppercase() && character != '_').next()
            });
            raised.extend(names.map(str::to_owned));
        }
    }
    raised
}

/// Key → name of the typed getter that reads it.
fn getters() -> BTreeMap<String, String> {
    let read = |name: &str| fs::read_to_string(root().join(SETTINGS_FOLDER).join(name)).unwrap();
    let text = ["mod.rs", "models.rs"].map(read).concat();
    let mut getters = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(rest) = line.trim().strip_prefix("pub fn ") {
            name = rest.split('(').next().unwrap_or_default().to_owned();
        }
        for setting in SETTINGS.iter().filter(|setting| line.contains(&format!("\"{}\"", setting.key))) {
            getters.insert(setting.key.to_owned(), name.clone());
        }
    }
    getters
}

/// The table of claims in SECURITY.md ends each row with the tests that prove it.
#[test]
fn every_claim_names_a_test_that_exists() {
    let page = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let (_, claims) = page.split_once("## What is enforced today").unwrap();
    let (claims, _) = claims.split_once("\n## ").unwrap();
    let tests: String = files("crates", &[".rs"]).into_iter().map(|file| file.text).collect();
    let mut findings = Vec::new();
    for row in claims.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let proofs = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let names: Vec<&str> = proofs.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            findings.push(format!("no test in: {row}"));
        }
        let absent = names.into_iter().filter(|name| !tests.contains(&format!("fn {name}(")));
        findings.extend(absent.map(|name| format!("no test is called {name}")));
    }
    expect_none(findings, "correct the name in SECURITY.md, or write the test");
}

/// `.env.example` as it stands is a valid environment.
#[test]
fn the_example_environment_is_valid() {
    let text = fs::read_to_string(root().join(".env.example")).unwrap();
    let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let source = Source { environment, flags: Vec::new() };
    config::load(&root().join("no-such-file.toml"), &source).unwrap();
}
