use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::*;

#[test]
fn the_file_is_the_one_whose_hash_the_program_shows() {
    let hash: String = Sha256::digest(VENDORED).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, SHA256, "run scripts/vendor-prices.py and read its difference, then write the hash down");
    let catalog = Catalog::vendored().unwrap();
    assert_eq!(catalog.source().sha256, hash);
    assert_eq!(catalog.source().date.len(), "2026-11-23".len());
    assert!(catalog.source().sources.iter().all(|source| source.licence == "MIT" && source.sha256.len() == 64));
}

/// Each start passes over it once; what would make that slow is its size.
#[test]
fn the_file_stays_small() {
    assert!(VENDORED.len() < 512 * 1024, "{} bytes", VENDORED.len());
}

#[test]
fn each_family_is_in_it_and_each_name_once() {
    let catalog = Catalog::vendored().unwrap();
    let file: File<'_> = serde_json::from_str(VENDORED).unwrap();
    for family in Family::ALL {
        let rows: Vec<Row> = serde_json::from_str(file.families.get(family).unwrap().get()).unwrap();
        let names: Vec<&String> = rows.iter().flat_map(|row| &row.names).collect();
        let different: HashSet<_> = names.iter().collect();
        assert_eq!(names.len(), different.len(), "{family}");
        assert!(catalog.names(*family).len() >= 5, "{family}");
        for name in names {
            assert!(catalog.facts(*family, &name.to_uppercase()).is_some(), "{family}: {name}");
            assert_eq!(*name, name.to_lowercase());
        }
        assert_eq!(family.as_str().parse(), Ok(*family));
        assert_eq!(serde_json::to_string(family).unwrap(), format!("\"{family}\""));
    }
    assert!("acme".parse::<Family>().is_err());
}

#[test]
fn a_version_by_date_is_the_model_where_the_table_says_so_and_nothing_else_is() {
    let catalog = Catalog::vendored().unwrap();
    let sonnet = catalog.facts(Family::Anthropic, "claude-sonnet-4-5").unwrap();
    assert_eq!(catalog.facts(Family::Anthropic, "claude-sonnet-4-5-20990101"), Some(sonnet));
    assert_eq!(catalog.facts(Family::Anthropic, "claude-sonnet-4-5@20990101"), Some(sonnet));
    assert_eq!(catalog.facts(Family::Anthropic, "claude-sonnet-4-5-turbo"), None);
    assert_eq!(catalog.facts(Family::Anthropic, "claude-sonnet"), None);
    assert_eq!(catalog.facts(Family::Openai, "gpt-5-2099-01-01"), None, "this family prices each version by its name");
    assert!(catalog.facts(Family::Google, "models/gemini-2.5-pro").is_some());
    for name in ["", "-", "-20250101", "é-20250101", "20250101", "models/"] {
        assert_eq!(catalog.facts(Family::Openai, name), None, "{name}");
    }
}

#[test]
fn windows_and_capabilities_are_known() {
    let catalog = Catalog::vendored().unwrap();
    let gpt = catalog.facts(Family::Openai, "gpt-5").unwrap();
    assert_eq!((gpt.context, gpt.input_limit(), gpt.output_limit()), (Some(400_000), Some(272_000), Some(128_000)));
    assert_eq!(gpt.capabilities.tools, Some(true));
    let sonnet = catalog.facts(Family::Anthropic, "claude-sonnet-4-5").unwrap();
    assert_eq!(sonnet.capabilities.prefill, Some(true));
    let embedding = catalog.facts(Family::Openai, "text-embedding-3-small").unwrap();
    assert_eq!(embedding.mode, Mode::Embedding);
}

/// Every name with what the snapshot itself says of it.
pub(crate) fn as_vendored() -> Vec<(String, Capabilities)> {
    let file: File<'static> = serde_json::from_str(VENDORED).unwrap();
    let rows = file.families.into_values().flat_map(|rows| serde_json::from_str::<Vec<Row>>(rows.get()).unwrap());
    rows.flat_map(|row| {
        let said = row.capabilities();
        row.names.into_iter().map(move |name| (name, said))
    })
    .collect()
}
