//! The commands, one module for each noun: parse what is left to parse, ask the server or the host, print.

mod agent;
mod audit;
mod budget;
mod chat;
mod config;
mod migrate;
mod model;
mod process;
mod retention;
mod sandbox;
mod schedule;
mod secret;
mod server;
mod sign;
mod task;
mod token;
mod witness;

use std::{collections::BTreeMap, path::PathBuf};

use agentos_base::{Ambient, config::Source};
use agentos_client::Client;
use agentos_types::Result;

use crate::{
    args::{Command, Globals},
    console::Input,
    exit::{Exit, Outcome, Stop},
    host::Host,
    printer::Printer,
    target,
};

/// Everything that a command may touch.
pub(crate) struct Session<'h> {
    pub(crate) globals: Globals,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) ambient: Ambient,
    pub(crate) input: Input,
    pub(crate) printer: Printer,
    pub(crate) host: &'h dyn Host,
}

impl Session<'_> {
    fn data_dir(&self) -> Result<PathBuf> {
        target::data_dir(&self.globals, &self.environment)
    }

    fn client(&self) -> Result<Client> {
        target::client(&self.globals, &self.environment)
    }

    fn source(&self, flags: Vec<(String, String)>) -> Source {
        Source { environment: self.environment.clone(), flags }
    }

    /// Tells how the command ended, and returns the exit code for it.
    pub(crate) fn finish(mut self, outcome: Outcome) -> Exit {
        match outcome {
            Ok(exit) => exit,
            Err(Stop::ReaderGone) => Exit::Success,
            Err(Stop::Fault(fault)) => {
                self.printer.fault(&fault);
                Exit::of(fault.code)
            }
        }
    }
}

pub(crate) async fn run(session: &mut Session<'_>, command: Command) -> Outcome {
    match command {
        Command::Init => server::init(session).await,
        Command::Up(args) => server::up(session, args).await,
        Command::Down(args) => process::down(session, &args).await,
        Command::Status => server::status(session).await,
        Command::Doctor => server::doctor(session).await,
        Command::Migrate(command) => migrate::run(session, command).await,
        Command::Sign(args) => sign::sign(session, args).await,
        Command::Agent(command) => agent::run(session, command).await,
        Command::Task(command) => task::run(session, command).await,
        Command::Chat(args) => chat::run(session, args).await,
        Command::Schedule(command) => schedule::run(session, command).await,
        Command::Audit(command) => audit::run(session, command).await,
        Command::Witness(command) => witness::run(session, command).await,
        Command::Secret(command) => secret::run(session, command).await,
        Command::Token(command) => token::run(session, command).await,
        Command::Model(command) => model::run(session, command).await,
        Command::Provider(command) => model::run_provider(session, command).await,
        Command::Budget(command) => budget::run(session, command).await,
        Command::Retention(command) => retention::run(session, command).await,
        Command::Sandbox(command) => sandbox::run(session, command).await,
        Command::Config(command) => config::run(session, &command),
        Command::Explain(args) => config::explain(session, &args),
        Command::Completions(args) => config::completions(session, &args),
    }
}
