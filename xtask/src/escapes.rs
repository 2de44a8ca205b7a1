//! The catalogue of escapes, as the table of its page. What stands above the heading is written by hand.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::files::Generated;

const PAGE: &str = "docs/src/security/escape-catalogue.md";
/// Everything below this heading is generated.
const HEADING: &str = "## The attempts";

pub fn page(root: &Path) -> Result<Generated> {
    let text = fs::read_to_string(root.join(PAGE)).context(PAGE)?;
    let (by_hand, _) = text.split_once(HEADING).with_context(|| format!("{PAGE} lacks the heading '{HEADING}'"))?;
    let count = agentos_prober::catalogue().count();
    let tables = agentos_prober::page::tables();
    let text = format!(
        "{by_hand}{HEADING}\n\n{count} of them. Generated from `crates/testing/prober/src/attempts` by `cargo xtask gen`.\n{tables}"
    );
    Ok(Generated::new(PAGE, text))
}
