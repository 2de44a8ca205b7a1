//! `up --detach`: starts this program again as the server and waits until it reports that it is ready.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::Stdio,
    time::Duration,
};

use agentos_cli::{UpOptions, UpReport};
use agentos_types::{Code, Fault, Result};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    sync::oneshot,
    time::timeout,
};

use crate::{layout::Layout, programs};

/// A start migrates and recovers; one that takes longer is stuck.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Tail of the log in which a failed start is looked for.
const LOG_TAIL_BYTES: usize = 16 * 1024;

pub async fn up(options: UpOptions, ready: oneshot::Sender<UpReport>) -> Result<()> {
    let layout = Layout::new(&options.data_dir);
    crate::install::Installation::load(&layout)?;
    let log = open_log(&layout.server_log())?;
    let mut child = command(&options, log)?
        .spawn()
        .map_err(|source| Fault::new(Code::LAUNCH_FAILED, "the server could not be started").detail(source))?;
    let stdout = child.stdout.take().ok_or_else(|| Fault::internal("the server has no standard output"))?;
    let mut lines = BufReader::new(stdout).lines();
    let printed = match timeout(READY_TIMEOUT, lines.next_line()).await {
        Ok(Ok(Some(line))) => line,
        Ok(_) => {
            // Closed without a report: it has failed and says why in its log.
            let _ = timeout(READY_TIMEOUT, child.wait()).await;
            return Err(reason_of_failure(&layout.server_log()));
        }
        Err(_) => {
            return Err(Fault::new(
                Code::NOT_RUNNING,
                format!("the server was not ready within {} s", READY_TIMEOUT.as_secs()),
            )
            .hint(format!("read {}", layout.server_log().display())));
        }
    };
    let report: UpReport = serde_json::from_str(&printed).map_err(Fault::internal)?;
    // The receiver prints; without one there is nobody to tell.
    let _ = ready.send(report);
    Ok(())
}

fn command(options: &UpOptions, log: File) -> Result<Command> {
    let mut command = Command::new(programs::own_path()?);
    command.arg("--output").arg("jsonl").arg("--data-dir").arg(&options.data_dir).arg("up");
    if let Some(port) = options.port {
        command.arg("--port").arg(port.to_string());
    }
    for (key, value) in &options.source.flags {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    // A group of its own: an interrupt at the terminal that started it is not meant for the server.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
    Ok(command)
}

fn open_log(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| Fault::new(Code::STORE_UNAVAILABLE, format!("{}: {source}", path.display())))
}

/// The last `error[AOS-…]: …` line of the log, as the fault that it was.
fn reason_of_failure(log: &Path) -> Fault {
    let bytes = std::fs::read(log).unwrap_or_default();
    let tail = bytes.get(bytes.len().saturating_sub(LOG_TAIL_BYTES)..).unwrap_or_default();
    let text = String::from_utf8_lossy(tail);
    let mut found = None;
    for line in text.lines() {
        if let Some((code, message)) = line.strip_prefix("error[").and_then(|rest| rest.split_once("]: ")) {
            found = code.parse().ok().map(|code| Fault::new(code, message));
        } else if let Some(hint) = line.strip_prefix("hint: ") {
            found = found.map(|fault: Fault| fault.hint(hint));
        }
    }
    found.unwrap_or_else(|| {
        Fault::new(Code::NOT_RUNNING, "the server ended before it was ready").hint(format!("read {}", log.display()))
    })
}
