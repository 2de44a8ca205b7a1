//! Commands of agents: each in a fresh sandbox over the agent's workspace, in a group below the agent's own, with tighter
//! limits and without a way out, so that what a tool runs can neither starve nor reach the agent that asked for it.

mod capture;

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use agentos_limits::{Group, GroupLimits, Resource};
use agentos_protocol::{
    sandbox::{End, Mount, Profile},
    syscall::CommandEnd,
};
use agentos_sandbox::{
    Ended, Evidence, Reason, Running, Sandboxes,
    plan::{HostRoot, Plan, PlanLimits},
};
use agentos_types::{AgentName, Code, Fault, Result};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    quarters::{Quarter, Quarters, gone},
    surroundings::Surroundings,
};
pub use capture::Captured;
use capture::Pipes;

/// Of the agent's own limits: what it runs must hit a limit before the agent does.
const MEMORY_SHARE: u64 = 75;
const PROCESSES_SHARE: u64 = 50;
/// A shell with a few programs.
const PROCESSES_MIN: u64 = 16;
/// From the end of the last process to the end of its pipes. Nobody holds them any more then.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs commands of agents that live. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Commands {
    pub sandboxes: Sandboxes,
    pub host: Arc<HostRoot>,
    pub quarters: Quarters,
}

/// One command.
#[derive(Clone, Debug)]
pub struct Command {
    pub agent: AgentName,
    /// A bare name is looked up in the system's directories inside; otherwise an absolute path inside.
    pub words: Vec<String>,
    /// A read-only file inside: path and content.
    pub file: Option<(String, String)>,
    pub stdin: Vec<u8>,
    /// Wall time, from the moment at which there is room for it.
    pub timeout: Duration,
    /// Bytes kept of each output stream; the rest is read and thrown away.
    pub output_bytes: u64,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandReport {
    pub end: CommandEnd,
    pub stdout: Captured,
    pub stderr: Captured,
    pub wall: Duration,
    pub cpu: Duration,
    pub memory_peak_bytes: u64,
}

impl Commands {
    /// Whoever stops waiting ends the command.
    pub async fn run(&self, command: Command) -> Result<CommandReport> {
        let quarter = self.quarters.of(&command.agent)?;
        let (room, over) = (quarter.room.clone(), quarter.over.clone());
        let _room = tokio::select! {
            room = timeout(command.timeout, room.acquire_owned()) => {
                room.map_err(|_| busy(&command))?.map_err(Fault::internal)?
            }
            () = over.cancelled() => return Err(gone(&command.agent)),
        };
        // Held by nobody who only waits: what is around a life goes with it.
        let surroundings = quarter.enter(&command.agent)?;
        let (place, order, own) = (self.host.clone(), command.clone(), quarter.clone());
        let made = spawn_blocking(move || prepare(place, &own, &surroundings, order)).await;
        let (plan, group) = made.map_err(Fault::internal)??;
        let outcome = self.carry_out(command, plan, &group, &quarter, over).await;
        // Waits for what is left inside, which blocks.
        let _ = spawn_blocking(move || drop(group)).await;
        outcome
    }

    async fn carry_out(
        &self,
        command: Command,
        mut plan: Plan,
        group: &Group,
        quarter: &Quarter,
        over: CancellationToken,
    ) -> Result<CommandReport> {
        let (pipes, mut given) = Pipes::make(command.stdin, command.output_bytes)?;
        given.extend(group.descriptors()?);
        let descriptors: Vec<OwnedFd>;
        (plan.descriptors, descriptors) = given.into_iter().unzip();
        let order = spawn_blocking(move || plan.order()).await.map_err(Fault::internal)??;
        let began = Instant::now();
        let sandboxes = self.sandboxes.in_cell(quarter.cell);
        let mut running = sandboxes.spawn(Profile::Agent, order, descriptors).await.inspect_err(|fault| {
            if fault.code == Code::LAUNCHER_LOST {
                quarter.lose_launcher();
            }
        })?;
        let until = began + command.timeout;
        let init = running.pid();
        quarter.count(|beside| beside.begin(init));
        let (ended, timed_out, (stdout, stderr)) =
            pipes.carry(see_off(&mut running, group, until, over), DRAIN_TIMEOUT).await;
        let wall = began.elapsed();
        quarter.count(|beside| beside.end(init, &ended.rusage));
        let usage = group.usage();
        let evidence = Evidence {
            oom_kills: usage.memory.map_or(0, |memory| memory.oom_kills),
            processes_refused: usage.processes.map_or(0, |processes| processes.refused),
            // The workspace is the agent's; without a life there is nobody to tell.
            is_disk_full: quarter.surroundings.upgrade().is_some_and(|surroundings| surroundings.is_disk_full()),
            cpu_seconds_max: Some(quarter.limits.cpu_seconds),
            ..Evidence::default()
        };
        if ended.is_launcher_lost {
            quarter.lose_launcher();
            return Err(Fault::new(Code::LAUNCHER_LOST, "the command was killed because its launcher had ended"));
        }
        Ok(CommandReport {
            end: if timed_out { CommandEnd::TimedOut } else { end_of(&ended, &evidence) },
            stdout,
            stderr,
            wall,
            cpu: Duration::from_micros(usage.cpu.map_or(ended.rusage.cpu_us, |cpu| cpu.total_us)),
            memory_peak_bytes: usage
                .memory
                .and_then(|memory| memory.peak_bytes)
                .unwrap_or(ended.rusage.memory_peak_bytes),
        })
    }
}

/// Waits for the end, and brings it about when the time is over or the agent has ended. True: the time was over.
async fn see_off(running: &mut Running, group: &Group, until: Instant, over: CancellationToken) -> (Ended, bool) {
    let is_late = tokio::select! {
        ended = timeout_at(until, running.ended()) => match ended {
            Ok(ended) => return (ended, false),
            Err(_) => true,
        },
        () = over.cancelled() => false,
    };
    running.kill();
    group.kill();
    (running.ended().await, is_late)
}

/// The group and the plan. Makes directories: not for async threads.
fn prepare(
    host: Arc<HostRoot>,
    quarter: &Quarter,
    surroundings: &Surroundings,
    command: Command,
) -> Result<(Plan, Group)> {
    let share = |value: u64, percent: u64| value.saturating_mul(percent) / 100;
    let processes = share(u64::from(quarter.limits.processes), PROCESSES_SHARE).max(PROCESSES_MIN);
    let limits = GroupLimits {
        memory_bytes: Some(share(quarter.limits.memory_bytes, MEMORY_SHARE)),
        processes: Some(processes),
        ..surroundings.limits(&quarter.limits)
    };
    let group = surroundings.group().child("command", &limits)?;
    let bounds = |resource: Resource| group.missing().iter().all(|(missing, _)| *missing != resource);
    let mut plan = Plan::new(host, command.words);
    // What an agent needs for itself (debuggers, other run-times) its tools do not get by the way.
    plan.loopback = quarter.sandbox.loopback;
    plan.anonymous_programs = quarter.sandbox.anonymous_programs;
    plan.tmp_bytes = quarter.sandbox.tmp_bytes;
    plan.workspace = Some(surroundings.mount());
    plan.host_id = surroundings.host_id();
    plan.files = command.file.into_iter().map(|(target, content)| Mount::File { target, content }).collect();
    plan.limits = PlanLimits {
        memory_bytes: limits.memory_bytes,
        processes: (!bounds(Resource::Processes)).then_some(processes),
        ..PlanLimits::of(&quarter.limits, bounds(Resource::Memory))
    };
    Ok((plan, group))
}

fn end_of(ended: &Ended, evidence: &Evidence) -> CommandEnd {
    let status = match ended.end {
        End::Exited(status) => status,
        // As shells tell it.
        End::Signaled(signal) => 128 + signal,
        End::Killed => 137,
    };
    match Reason::of(ended, evidence) {
        Reason::Exit(status) => CommandEnd::Exited { status },
        Reason::Signal(signal) => CommandEnd::Signaled { signal },
        Reason::Memory => CommandEnd::OutOfMemory,
        Reason::Processes => CommandEnd::ProcessLimit { status },
        Reason::Disk | Reason::FileSize => CommandEnd::DiskFull { status },
        Reason::CpuTime => CommandEnd::CpuTime,
        Reason::Seccomp => CommandEnd::FilterKilled,
        Reason::Killed | Reason::LauncherLost => CommandEnd::Signaled { signal: 9 },
    }
}

fn busy(command: &Command) -> Fault {
    Fault::new(
        Code::RATE_LIMITED,
        format!("agent '{}' runs as many commands at once as it may, and none ended in time", command.agent),
    )
    .retry_after(command.timeout)
}
