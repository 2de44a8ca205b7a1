//! The table at the end of the page about crashes; what stands above it is written by hand.

use std::{fmt::Write, fs, path::Path};

use agentos_failpoint::Point;
use anyhow::{Context, Result};

use crate::files::Generated;

const PAGE: &str = "docs/src/concepts/crashes.md";
/// Everything below this heading is generated.
const HEADING: &str = "## The instants";

pub fn page(root: &Path) -> Result<Generated> {
    let text = fs::read_to_string(root.join(PAGE)).context(PAGE)?;
    let (by_hand, _) = text.split_once(HEADING).with_context(|| format!("{PAGE} lacks the heading '{HEADING}'"))?;
    let mut text = format!(
        "{by_hand}{HEADING}\n\n{} points. Generated from `crates/1-kernel/failpoint/src/points.rs` by `cargo xtask gen`.\n\n\
         | point | what is true when the process dies there |\n|---|---|\n",
        Point::ALL.len()
    );
    for point in Point::ALL {
        let _ = writeln!(text, "| `{}` | {} |", point.name(), point.meaning());
    }
    Ok(Generated::new(PAGE, text))
}
