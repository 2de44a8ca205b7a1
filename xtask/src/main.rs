//! Work on the repository itself. `cargo xtask gen` writes everything that is generated from code; `cargo xtask gen
//! --check` writes nothing and fails when a committed file differs.

mod errors;
mod escapes;
mod failpoints;
mod files;
mod settings;
mod telemetry;

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::files::{Generated, State};

#[derive(Parser)]
#[command(name = "xtask", about = "Work on the repository itself")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write all generated files.
    Gen {
        /// Write nothing; fail and list what is stale.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> Result<()> {
    let Command::Gen { check } = Arguments::parse().command;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent directory")?;
    let generated = everything(root)?;
    let stale = files::compare(root, &generated)?;
    let mut out = io::stdout().lock();
    if stale.is_empty() {
        writeln!(out, "{} generated files are up to date", generated.len())?;
        return Ok(());
    }
    for (path, state) in &stale {
        writeln!(out, "{:<8} {path}", if check { state.as_str() } else { state.written() })?;
    }
    if check {
        bail!("{} generated file(s) are stale; run `cargo xtask gen` and commit the result", stale.len());
    }
    files::write(root, &generated, &stale)
}

/// Every generated file, each from the one place in the code that knows its content.
fn everything(root: &Path) -> Result<Vec<Generated>> {
    let mut all = errors::pages();
    all.push(errors::summary(root)?);
    all.push(failpoints::page(root)?);
    all.push(escapes::page(root)?);
    all.push(Generated::new(".env.example", settings::env_example()));
    all.push(Generated::new("docs/src/reference/configuration.md", settings::page()));
    all.push(Generated::new("docs/src/reference/telemetry.md", telemetry::page()));
    all.push(Generated::new("docs/src/reference/cli.md", agentos_cli::reference_markdown()));
    all.push(Generated::new("docs/src/reference/access.md", agentos_gateway::access_markdown()));
    all.push(Generated::new("openapi/agent-os.json", agentos_gateway::openapi_json()));
    Ok(all)
}

impl State {
    fn as_str(&self) -> &'static str {
        match self {
            State::Missing => "missing",
            State::Differs => "differs",
            State::Orphan => "orphan",
        }
    }

    fn written(&self) -> &'static str {
        match self {
            State::Missing => "created",
            State::Differs => "updated",
            State::Orphan => "removed",
        }
    }
}
