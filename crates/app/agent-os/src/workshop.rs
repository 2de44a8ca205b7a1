//! The port of the tools for commands, bound to the supervisor, which knows where each agent lives.

use agentos_supervisor::{Command, CommandReport, Commands};
use agentos_tools::{Captured, Finished, Job, Workshop};
use agentos_types::Result;
use async_trait::async_trait;

pub struct SupervisedWorkshop(pub Commands);

#[async_trait]
impl Workshop for SupervisedWorkshop {
    async fn run(&self, job: Job) -> Result<Finished> {
        let Job { agent, command: words, file, stdin, timeout, output_bytes } = job;
        let command = Command { agent, words, file, stdin, timeout, output_bytes };
        let CommandReport { end, stdout, stderr, wall, cpu, memory_peak_bytes } = self.0.run(command).await?;
        let captured = |stream: agentos_supervisor::Captured| Captured { kept: stream.kept, bytes: stream.bytes };
        Ok(Finished { end, stdout: captured(stdout), stderr: captured(stderr), wall, cpu, memory_peak_bytes })
    }
}
