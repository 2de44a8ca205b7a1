//! What a user downloads: the size of each program, stripped.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::{
    figure::{Figure, Goal},
    place::Place,
    sample::Rounds,
};

const AGENT_OS_MAX_MB: f64 = 45.0;
const BYTES_PER_MB: f64 = 1_000_000.0;
/// Name of the section that `strip` removes, as the table of section names holds it.
const SYMBOLS: &[u8] = b"\0.symtab\0";

pub fn measure(place: &Place) -> Result<Vec<Figure>> {
    let programs = place.programs()?;
    let others = [&programs.launcher, &programs.verifier, &programs.monitor];
    let mut figures = vec![figure(&programs.agent_os)?.goal(Goal::at_most(AGENT_OS_MAX_MB))];
    for program in others {
        figures.push(figure(program)?);
    }
    Ok(figures)
}

fn figure(program: &Path) -> Result<Figure> {
    let bytes = fs::read(program).with_context(|| program.display().to_string())?;
    let size = bytes.len() as f64 / BYTES_PER_MB;
    let rounds: Rounds = [vec![size]].into_iter().collect();
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let figure = Figure::values(format!("size of {name}"), "MB", vec![("", size)], &rounds);
    let is_stripped = !bytes.windows(SYMBOLS.len()).any(|window| window == SYMBOLS);
    Ok(if is_stripped { figure } else { figure.note("NOT stripped: a release build is smaller") })
}
