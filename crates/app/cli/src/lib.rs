//! The command line `agent-os`: its arguments, one function for each command, and one printer.
//!
//! Commands talk to a running server through the API's client. The few that need the server's own code in this process
//! (`init`, `up`, `doctor`, `migrate`) go through the trait [`Host`], which the program implements. Arguments, environment, clock
//! and the three standard streams are passed in, so that a test runs any command line in its own process.

mod args;
mod commands;
mod console;
mod exit;
mod host;
mod input;
mod instant;
mod printer;
mod reference;
mod server_file;
mod table;
mod target;
mod views;

use std::{collections::BTreeMap, ffi::OsString};

use agentos_base::Ambient;
use clap::{CommandFactory, FromArgMatches};

pub use console::Console;
pub use exit::Exit;
pub use host::{
    DoctorReport, Host, InitReport, MadeFile, MigrateOrder, MigrateReport, MigrateStep, MigrateWay, MigrationLine,
    UpOptions, UpReport,
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
    let parsed = command().try_get_matches_from(args).and_then(|matches| args::Cli::from_arg_matches(&matches));
    let args::Cli { globals, command } = match parsed {
        Ok(cli) => cli,
        Err(error) => return printer::print_usage(&mut console, &error),
    };
    let Console { input, output, errors } = console;
    let printer = printer::Printer::new(globals.output, globals.quiet, output, errors);
    let mut session = commands::Session { globals, environment, ambient, input, printer, host };
    let outcome = Box::pin(commands::run(&mut session, command)).await;
    session.finish(outcome)
}
