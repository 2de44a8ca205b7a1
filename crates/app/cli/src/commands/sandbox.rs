//! `sandbox run`: what the command prints is its own; ours is the report, and notes on standard error.

use std::collections::BTreeMap;

use super::Session;
use crate::{
    args::{SandboxCommands, SandboxRun},
    exit::{Exit, Outcome, Stop, usage},
    host::RunOrder,
    target,
};

/// What a terminal and a language need. Nothing else of the caller's environment goes inside unasked.
const HANDED_ON: [&str; 8] = ["TERM", "COLORTERM", "NO_COLOR", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ"];

pub(super) async fn run(session: &mut Session<'_>, command: SandboxCommands) -> Outcome {
    let SandboxCommands::Run(args) = command;
    match run_command(session, *args).await {
        // Whatever stopped it, the command did not run, and no status of a command may be mistaken for that.
        Err(Stop::Fault(fault)) => {
            session.printer.fault(&fault);
            Ok(Exit::NotRun)
        }
        other => other,
    }
}

async fn run_command(session: &mut Session<'_>, args: SandboxRun) -> Outcome {
    let environment = environment(&session.environment, &args.environment)?;
    let order = RunOrder {
        command: args.command,
        profile: args.profile,
        allowed_hosts: args.allowed_hosts,
        private_hosts: args.private_hosts,
        read_only: args.read_only,
        writable: args.writable,
        memory_bytes: args.memory_bytes,
        cpu_percent: args.cpu_percent,
        processes: args.processes,
        time: args.time,
        environment,
        full_proc: args.full_proc,
        is_strict: args.strict,
        is_counted: args.report.is_some(),
        // Without a home there is no installation that could be shown.
        closed: target::data_dir(&session.globals, &session.environment).into_iter().collect(),
    };
    let report = session.host.sandbox_run(order).await?;
    for missing in &report.not_enforced {
        session.printer.note(&format!("note: {} is not enforced: {}", missing.what, missing.reason));
    }
    if report.exit_status.is_none() {
        session.printer.note(&format!("the command {}", report.message));
    }
    if let Some(file) = args.report {
        let text = serde_json::to_vec_pretty(&report).map_err(agentos_types::Fault::internal)?;
        // The command has run: its status counts, and what could not be written is said.
        if let Err(error) = std::fs::write(&file, [text.as_slice(), b"\n"].concat()) {
            session
                .printer
                .fault(&usage(format!("the report {}: {error}", file.display()), "name a file that can be written"));
        }
    }
    Ok(Exit::Command(report.status))
}

fn environment(own: &BTreeMap<String, String>, asked: &[String]) -> Outcome<BTreeMap<String, String>> {
    let mut all: BTreeMap<String, String> =
        HANDED_ON.into_iter().filter_map(|name| Some((name.to_owned(), own.get(name)?.clone()))).collect();
    for text in asked {
        match text.split_once('=') {
            Some((name, value)) => drop(all.insert(name.to_owned(), value.to_owned())),
            None => match own.get(text) {
                Some(value) => drop(all.insert(text.clone(), value.clone())),
                None => return Err(usage(format!("the variable {text} is not set"), "write --env NAME=VALUE").into()),
            },
        }
    }
    Ok(all)
}
