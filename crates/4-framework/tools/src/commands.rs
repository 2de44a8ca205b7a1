//! `shell.exec` and `code.run`. What is run, with which bounds, and what is told of it is decided here; the sandbox itself is
//! made behind the port [`Workshop`].

use std::time::Duration;

use agentos_authority::Authorized;
use agentos_monitor::Call;
use agentos_protocol::syscall::{
    CodeRun, CommandEnd, CommandResult, Language, Output, ShellExec,
    commands::{OUTPUT_DEFAULT_BYTES, TIMEOUT_DEFAULT_MS, interpreter, quoted},
};
use agentos_types::{AgentName, Fault, Result};
use async_trait::async_trait;

use crate::content;

/// Where code of `code.run` lies inside. Read-only, and gone with the sandbox.
const CODE_FILE: &str = "/app/code";

/// Runs one program in a fresh sandbox over the workspace of an agent, tighter than the agent's own and without any way out.
#[async_trait]
pub trait Workshop: Send + Sync {
    async fn run(&self, job: Job) -> Result<Finished>;
}

/// One program to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub agent: AgentName,
    /// The program is a bare name, looked up in the system's directories inside, or an absolute path inside.
    pub command: Vec<String>,
    /// A read-only file inside: path and content.
    pub file: Option<(String, String)>,
    pub stdin: Vec<u8>,
    pub timeout: Duration,
    /// Bytes kept of each output stream.
    pub output_bytes: u64,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    pub end: CommandEnd,
    pub stdout: Captured,
    pub stderr: Captured,
    pub wall: Duration,
    pub cpu: Duration,
    pub memory_peak_bytes: u64,
}

/// The beginning of a stream, and how long all of it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    pub kept: Vec<u8>,
    pub bytes: u64,
}

pub(crate) async fn exec(workshop: &dyn Workshop, call: &Authorized<Call>, args: ShellExec) -> Result<CommandResult> {
    let mut job = job(call, args.stdin, args.timeout_ms, args.max_bytes);
    job.command = one_command(args.pipeline)?;
    finished(workshop, job).await
}

pub(crate) async fn run(workshop: &dyn Workshop, call: &Authorized<Call>, args: CodeRun) -> Result<CommandResult> {
    let mut job = job(call, args.stdin, args.timeout_ms, args.max_bytes);
    let file = format!("{CODE_FILE}.{}", extension(args.language));
    job.command = vec![interpreter(args.language.as_str()).to_owned(), file.clone()];
    job.command.extend(args.arguments);
    job.file = Some((file, args.code));
    finished(workshop, job).await
}

fn job(call: &Authorized<Call>, stdin: Option<String>, timeout_ms: Option<u64>, max_bytes: Option<u64>) -> Job {
    Job {
        agent: call.caller().agent.clone(),
        command: Vec::new(),
        file: None,
        stdin: stdin.unwrap_or_default().into_bytes(),
        timeout: Duration::from_millis(timeout_ms.unwrap_or(TIMEOUT_DEFAULT_MS)),
        output_bytes: max_bytes.unwrap_or(OUTPUT_DEFAULT_BYTES),
    }
}

/// A single program is started as it is. Pipes are made by bash, which sees every word quoted: nothing in a word is read by it.
/// `pipefail`: the status is that of the last program that failed.
fn one_command(pipeline: Vec<Vec<String>>) -> Result<Vec<String>> {
    let mut stages = pipeline;
    if stages.len() == 1 {
        return stages.pop().ok_or_else(|| Fault::internal("a pipeline without a program"));
    }
    let line = stages.iter().map(|words| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "));
    // By `env`, so that bash takes no word for one of its own: what runs is a program.
    let script = line.map(|words| format!("/usr/bin/env -- {words}")).collect::<Vec<_>>().join(" | ");
    Ok(vec!["/bin/bash".into(), "--norc".into(), "-o".into(), "pipefail".into(), "-c".into(), script])
}

fn extension(language: Language) -> &'static str {
    match language {
        Language::Python => "py",
        Language::Javascript => "mjs",
        Language::Bash => "sh",
    }
}

async fn finished(workshop: &dyn Workshop, job: Job) -> Result<CommandResult> {
    let Finished { end, stdout, stderr, wall, cpu, memory_peak_bytes } = workshop.run(job).await?;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Ok(CommandResult {
        end,
        stdout: output(stdout),
        stderr: output(stderr),
        wall_ms: millis(wall),
        cpu_ms: millis(cpu),
        memory_peak_bytes,
    })
}

/// A cut in the middle of a character would make base64 of a text, so such a cut moves back.
fn output(captured: Captured) -> Output {
    let Captured { mut kept, bytes } = captured;
    let truncated = (kept.len() as u64) < bytes;
    if truncated
        && let Err(error) = std::str::from_utf8(&kept)
        && error.error_len().is_none()
    {
        kept.truncate(error.valid_up_to());
    }
    let (text, encoding) = content::encode(kept);
    Output { text, encoding, bytes, truncated }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_word_is_read_by_the_shell_that_makes_the_pipes() {
        let words = |text: &[&str]| text.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(one_command(vec![words(&["echo", "$(id)"])]).unwrap(), ["echo", "$(id)"]);
        let piped = one_command(vec![words(&["printf", "a'b; $(id) `id`\\n"]), words(&["exit", "3"])]).unwrap();
        assert_eq!(piped.last().unwrap(), r"/usr/bin/env -- printf 'a'\''b; $(id) `id`\n' | /usr/bin/env -- exit 3");
        assert_eq!(piped.first().unwrap(), "/bin/bash");
    }

    #[test]
    fn a_cut_does_not_tear_a_character() {
        let cut = output(Captured { kept: "aä".as_bytes()[..2].to_vec(), bytes: 3 });
        assert_eq!((cut.text.as_str(), cut.encoding.as_str(), cut.truncated), ("a", "utf-8", true));
        let binary = output(Captured { kept: vec![0xff, b'a'], bytes: 2 });
        assert_eq!((binary.text.as_str(), binary.encoding.as_str(), binary.truncated), ("/2E=", "base64", false));
    }
}
