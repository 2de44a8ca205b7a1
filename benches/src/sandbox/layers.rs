//! What each wall adds to a spawn: the same program, started with one wall more in each line. The launcher that leaves walls
//! out is the one of the tests; the last two lines are the one that is shipped.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use agentos_protocol::sandbox::{Network, SandboxOrder};
use agentos_sandbox::{Backend, SandboxOptions};
use anyhow::{Context, Result, ensure};
use tokio::task::block_in_place;

use super::{Workbench, spawn::P50_MAX_MS, usual_limits};
use crate::{
    figure::{Figure, Goal},
    place::OPEN_LAUNCHER,
    probe::millis,
    sample::Rounds,
};

/// One line: everything of the lines above it, and what its name says.
struct Layer {
    name: &'static str,
    backend: Backend,
    /// Left out by the launcher of the tests; empty: the shipped launcher.
    without: &'static str,
    has_group: bool,
}

const fn layer(name: &'static str, without: &'static str) -> Layer {
    Layer { name, backend: Backend::Native, without, has_group: false }
}

const LAYERS: [Layer; 6] = [
    Layer { backend: Backend::None, ..layer("spawn + launcher and init", "") },
    layer("spawn + namespaces, own user, no capabilities", "tree,landlock,seccomp"),
    layer("spawn + mounts, pivot_root", "landlock,seccomp"),
    layer("spawn + Landlock", "seccomp"),
    layer("spawn + seccomp: all walls, without cgroups", ""),
    Layer { has_group: true, ..layer("spawn + cgroups: full, as root", "") },
];

/// One after the other, each with its launcher; made once for all rounds.
pub struct Stack {
    benches: Vec<(&'static Layer, Workbench)>,
    program: String,
    plain: Rounds,
    taken: Vec<Rounds>,
}

impl Stack {
    /// `programs` holds both launchers, `scratch` takes the scripts that start one of them.
    pub fn open(programs: &Path, scratch: &Path) -> Result<Self> {
        let program = programs.join("first-word").to_str().context("the programs' directory is not UTF-8")?.to_owned();
        let bench = |layer: &'static Layer| -> Result<(&'static Layer, Workbench)> {
            let launcher = launcher(programs, scratch, layer)?;
            let options = SandboxOptions { launcher, backend: layer.backend };
            Ok((layer, Workbench::with(options, programs, layer.has_group)?))
        };
        let benches = LAYERS.iter().map(bench).collect::<Result<Vec<_>>>()?;
        Ok(Self { benches, program, plain: Rounds::default(), taken: vec![Rounds::default(); LAYERS.len()] })
    }

    /// Each layer so many times, and the bare process before them. Not kept: what a first use alone costs.
    pub async fn warm_up(&self, spawns: usize) -> Result<()> {
        for (layer, bench) in &self.benches {
            self.spawns(layer, bench, spawns).await?;
        }
        Ok(())
    }

    pub async fn round(&mut self, spawns: usize) -> Result<()> {
        let plain = (0..spawns).map(|_| first_word(Path::new(&self.program))).collect::<Result<Vec<_>>>()?;
        self.plain.push(plain);
        for (number, (layer, bench)) in self.benches.iter().enumerate() {
            let taken = self.spawns(layer, bench, spawns).await?;
            if let Some(rounds) = self.taken.get_mut(number) {
                rounds.push(taken);
            }
        }
        Ok(())
    }

    async fn spawns(&self, layer: &Layer, bench: &Workbench, count: usize) -> Result<Vec<f64>> {
        let mut taken = Vec::with_capacity(count);
        for number in 0..u32::try_from(count)? {
            let order = self.order(layer, bench, number)?;
            let began = Instant::now();
            // The making of its group belongs to it.
            let group = bench.group(number, &usual_limits())?;
            let inmate = bench.carry_out(order, group).await.with_context(|| layer.name)?;
            taken.push(millis(began));
            // As the server does once an agent runs.
            inmate.make_ahead();
            inmate.end().await?;
        }
        Ok(taken)
    }

    /// Where the machine's own root stays, the program is at its place there.
    fn order(&self, layer: &Layer, bench: &Workbench, number: u32) -> Result<SandboxOrder> {
        let mut order = bench.plan(number, "idle").order()?;
        if layer.backend == Backend::None {
            // It refuses what only walls could keep.
            order.network = Network::Own { listeners: Vec::new(), loopback: false };
            order.host_id = None;
        }
        if layer.backend == Backend::None || layer.without.contains("tree") {
            "/".clone_into(&mut order.directory);
            order.command = vec![self.program.clone(), "idle".into()];
        }
        Ok(order)
    }

    /// The last line.
    pub fn full(&self) -> Rounds {
        self.taken.last().cloned().unwrap_or_default()
    }

    /// A line for each, beside the bare process, with what it adds to the line above.
    pub fn figures(&self) -> Vec<Figure> {
        let plain = self.plain.median();
        let mut above = plain;
        let line = |(layer, rounds): (&Layer, &Rounds)| {
            let added = rounds.median() - above;
            above = rounds.median();
            let figure = Figure::times(layer.name, rounds, 0.95).judge("p50");
            let is_whole = layer.backend == Backend::Native && layer.without.is_empty();
            let figure = if is_whole { figure.goal(Goal::at_most(P50_MAX_MS)) } else { figure };
            figure.beside("fork+exec → first word", plain).note(format!("p50 {added:+.2} ms to the line above"))
        };
        let first = Figure::times("fork+exec → first word", &self.plain, 0.95).judge("p50");
        let mut figures = vec![first.note("a process without a sandbox; everything below is up to the same word")];
        figures.extend(LAYERS.iter().zip(&self.taken).map(line));
        figures
    }
}

/// A launcher is started with words of the server's choice, so that what is left out goes through a script. It runs once.
fn launcher(programs: &Path, scratch: &Path, layer: &Layer) -> Result<PathBuf> {
    if layer.without.is_empty() {
        return Ok(programs.join("agent-os-launch"));
    }
    let open = programs.join(OPEN_LAUNCHER);
    ensure!(
        open.is_file(),
        "{OPEN_LAUNCHER}, which leaves walls out, is missing; scripts/bench.sh builds it (in the dev profile \
         scripts/build-for-tests.sh)"
    );
    let script = scratch.join(format!("without-{}", layer.without));
    fs::write(&script, format!("#!/bin/sh\nexec {} \"$@\" --without {}\n", open.display(), layer.without))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// Milliseconds from the start of the bare program to its first word.
pub fn first_word(program: &Path) -> Result<f64> {
    block_in_place(|| {
        let mut command = Command::new(program);
        command.arg("idle").env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().with_context(|| program.display().to_string())?;
        let mut word = String::new();
        let output = child.stdout.take().context("it has no output")?;
        let read = BufReader::new(output).read_line(&mut word);
        let taken = millis(began);
        child.kill()?;
        child.wait()?;
        read?;
        ensure!(word == "ready\n", "the first word of {} is '{word}'", program.display());
        Ok(taken)
    })
}
