//! Arguments of `sandbox`.

use std::{path::PathBuf, time::Duration};

use agentos_protocol::sandbox::Profile;
use clap::{Args, Parser, Subcommand};

use super::Globals;
use crate::{
    host::{AllowedHost, Share},
    instant::parse_span,
    quantity::{parse_bytes, parse_cores},
};

/// `agent-os sandbox …` by itself. Building the whole tree of commands takes longer than a sandbox does, so the program
/// reads such a command line with this alone.
#[derive(Debug, Parser)]
#[command(
    name = "agent-os sandbox",
    bin_name = "agent-os sandbox",
    max_term_width = 100,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct SandboxCli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: SandboxCommands,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SandboxCommands {
    /// Run a command in a sandbox, without a server
    Run(Box<SandboxRun>),
}

#[derive(Args, Debug)]
pub(crate) struct SandboxRun {
    /// System calls there are inside: agent is the ordinary one, dev adds ptrace, strict takes programs and sockets away
    #[arg(long, value_name = "PROFILE", default_value = "agent", value_parser = parse_profile)]
    pub(crate) profile: Profile,
    /// Let it reach this host: ports 80 and 443, or the port that is named; may be given several times
    #[arg(long = "allow-host", value_name = "HOST[:PORT]", value_parser = AllowedHost::parse)]
    pub(crate) allowed_hosts: Vec<AllowedHost>,
    /// As --allow-host, and the host may be at a private address, such as a database on this machine
    #[arg(long = "allow-private", value_name = "HOST:PORT", value_parser = parse_private)]
    pub(crate) private_hosts: Vec<AllowedHost>,
    /// Show a directory or file, read-only, as /mnt/NAME or at the target; may be given several times
    #[arg(long = "ro", value_name = "PATH[:TARGET]", value_parser = Share::parse)]
    pub(crate) read_only: Vec<Share>,
    /// Show a directory that it may change; the first one is the working directory, seen as /workspace
    #[arg(long = "rw", value_name = "DIR[:TARGET]", value_parser = Share::parse)]
    pub(crate) writable: Vec<Share>,
    /// Memory of all its processes together, such as 512M or 2G
    #[arg(long = "mem", value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) memory_bytes: Option<u64>,
    /// CPU time of all its processes together, in cores, such as 1.5
    #[arg(long = "cpu", value_name = "CORES", value_parser = parse_cores)]
    pub(crate) cpu_percent: Option<u64>,
    /// Processes and threads at once
    #[arg(long = "pids", value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4_194_304))]
    pub(crate) processes: Option<u64>,
    /// Kill it after this time, such as 90s or 15m
    #[arg(long = "time", value_name = "SPAN", value_parser = parse_span)]
    pub(crate) time: Option<Duration>,
    /// Set a variable inside, or hand on an own one; nothing else is inherited but TERM and the language
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) environment: Vec<String>,
    /// Show machine-wide files of /proc, masked: Node counts processors there
    #[arg(long)]
    pub(crate) full_proc: bool,
    /// Refuse to run when this machine cannot enforce one of the limits
    #[arg(long)]
    pub(crate) strict: bool,
    /// Write what became of it to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// One service of one host, never all that a machine has.
fn parse_private(text: &str) -> Result<AllowedHost, String> {
    let allowed = AllowedHost::parse(text)?;
    match allowed.port.is_some() && !allowed.host.starts_with("*.") {
        true => Ok(allowed),
        false => Err(format!("'{text}' is not one host with its port, such as db.local:5432")),
    }
}

/// The proxy's is not for people: it has the machine's network.
fn parse_profile(text: &str) -> Result<Profile, String> {
    let profile = Profile::parse(text).filter(|profile| *profile != Profile::Proxy);
    profile.ok_or_else(|| "it is strict, agent or dev".to_owned())
}
