//! `agentos_sdk::run` on the inherited descriptor 3, in a process of its own: this test program, started again.

use std::{
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use agentos_protocol::{KernelFrame, WorkerFrame};
use agentos_sdk::{TaskContext, TaskError, Value, json};
use tokio::net::UnixStream;

use crate::kernel::{Kernel, PATIENCE, task};

const ROLE: &str = "AGENTOS_SDK_TEST_ROLE";

/// Shows what a program that the worker starts would inherit.
async fn list_descriptors_of_a_child(_: TaskContext, _: Value) -> Result<Value, TaskError> {
    let output = Command::new("/bin/ls").args(["-l", "/proc/self/fd"]).stdin(Stdio::null()).output();
    Ok(json!(String::from_utf8_lossy(&output.unwrap().stdout)))
}

/// Does nothing unless it was started as a worker by the tests below.
#[tokio::test]
async fn worker() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let first = agentos_sdk::run(list_descriptors_of_a_child).await;
    let again = agentos_sdk::run(list_descriptors_of_a_child).await;
    eprintln!("first: {first:?}");
    eprintln!("again: {again:?}");
}

/// This test program as a worker; `redirection` decides what it finds as descriptor 3.
fn worker_process(redirection: &str, stdin: Stdio) -> Command {
    let script = format!("exec \"$0\" --exact process::worker --nocapture {redirection}");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap());
    command.env(ROLE, "worker").stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn messages(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn the_inherited_socket_is_served_and_not_handed_on() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let stdin = Stdio::from(OwnedFd::from(theirs));
    let child = worker_process("3<&0 </dev/null", stdin).spawn().unwrap();
    let mut kernel = Kernel::over(UnixStream::from_std(ours).unwrap());
    kernel.shake_hands().await;
    kernel.give(&task(1), 1, json!(null)).await;
    let WorkerFrame::Done { output, .. } = kernel.receive().await else { panic!("not done") };
    let listing = output.as_str().unwrap();
    assert!(
        listing.contains("/dev/null") && !listing.contains("socket:"),
        "a child would inherit the socket: {listing}"
    );
    kernel.send(&KernelFrame::Shutdown { grace_ms: 60_000 }).await;
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output());
    let output = tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap().unwrap();
    let text = messages(&output);
    assert!(text.contains("first: Ok(())"), "{text}");
    assert!(text.contains("taken before"), "the socket can be taken once: {text}");
}

#[test]
fn without_the_socket_the_worker_says_who_should_start_it() {
    for redirection in ["3<&-", "3</dev/null"] {
        let output = worker_process(redirection, Stdio::null()).output().unwrap();
        let text = messages(&output);
        assert!(text.contains("this process was not started by AgentOS"), "{redirection}: {text}");
    }
}
