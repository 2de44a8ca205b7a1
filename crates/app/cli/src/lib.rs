//! The command line `agent-os`: its arguments, one function for each command, and one printer.
//!
//! Commands talk to a running server through the API's client. The few that need the server's own code in this process
//! (`init`, `up`, `doctor`, `migrate`, `sandbox`) go through the trait [`Host`], which the program implements. Arguments, environment, clock
//! and the three standard streams are passed in, so that a test runs any command line in its own process.

mod args;
mod commands;
mod console;
mod exit;
mod host;
mod input;
mod instant;
mod printer;
mod quantity;
mod reference;
mod server_file;
mod table;
mod target;
mod views;

use std::{collections::BTreeMap, ffi::OsString};

use agentos_base::Ambient;
use clap::{CommandFactory, FromArgMatches, Parser};

pub use console::Console;
pub use exit::Exit;
pub use host::{
    AllowedHost, Denial, DoctorReport, Host, InitReport, MadeFile, MigrateOrder, MigrateReport, MigrateStep,
    MigrateWay, MigrationLine, NotEnforced, RunOrder, RunReport, RunUsage, Share, UpOptions, UpReport, Wall,
};
pub use reference::reference_markdown;
pub use server_file::ServerFile;
pub use target::{AUDIT_VERIFIER_KEY_FILE, DATABASE_FILE, PUBLISHER_KEY_FILE, TOKEN_FILE};

/// Name of the program.
pub const PROGRAM: &str = "agent-os";

/// One call of the program.
#[derive(Debug)]
pub struct Invocation {
    /// The words of the command line, the program's name first.
    pub args: Vec<OsString>,
    pub environment: BTreeMap<String, String>,
    pub ambient: Ambient,
    pub console: Console,
}

/// The whole command tree, for help, completions and the reference page.
pub fn command() -> clap::Command {
    args::Cli::command()
}

/// Runs one command line to its end. Everything that a person reads has been printed when this returns.
pub async fn run(invocation: Invocation, host: &dyn Host) -> Exit {
    let Invocation { args, environment, ambient, mut console } = invocation;
    let args::Cli { globals, command } = match parse(args) {
        Ok(cli) => cli,
        Err((error, wrong)) => return printer::print_usage(&mut console, &error, wrong),
    };
    let Console { input, output, errors } = console;
    let printer = printer::Printer::new(globals.output, globals.quiet, output, errors);
    let mut session = commands::Session { globals, environment, ambient, input, printer, host };
    let outcome = Box::pin(commands::run(&mut session, command)).await;
    session.finish(outcome)
}

/// True for the command lines that are read, and should be run, with as little around them as can be: those of `sandbox`.
pub fn is_lean(args: &[OsString]) -> bool {
    args.get(1).is_some_and(|word| word == "sandbox")
}

/// With the error comes the exit code of a wrong usage.
fn parse(args: Vec<OsString>) -> Result<args::Cli, (clap::Error, Exit)> {
    if is_lean(&args) {
        let args::SandboxCli { globals, command } =
            args::SandboxCli::try_parse_from(args.into_iter().skip(1)).map_err(|error| (error, Exit::NotRun))?;
        return Ok(args::Cli { globals, command: args::Command::Sandbox(command) });
    }
    let matches = command().try_get_matches_from(args).and_then(|matches| args::Cli::from_arg_matches(&matches));
    matches.map_err(|error| (error, Exit::Usage))
}
