//! What goes wrong: launchers that die, hang or talk nonsense, and who no longer waits.

use std::time::Duration;

use agentos_protocol::sandbox::{End, Profile};
use agentos_sandbox::{Backend, SandboxOptions, Sandboxes};
use agentos_types::Code;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{lives, pid_in, sandboxes, spawn, until};

async fn signal_launcher(sandboxes: &Sandboxes, signal: Signal) -> u32 {
    let pid = sandboxes.launcher_pid(Profile::Agent).await.unwrap();
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
    pid
}

#[tokio::test]
async fn a_launcher_that_is_killed_takes_its_sandboxes_with_it_and_the_next_spawn_starts_another() {
    let sandboxes = sandboxes();
    let mut running = spawn(&sandboxes, &["/runs"]).await.unwrap();
    let first = signal_launcher(&sandboxes, Signal::KILL).await;
    let ended = running.ended().await;
    assert!(ended.is_launcher_lost && ended.end == End::Killed, "{ended:?}");
    assert!(!lives(running.pid()));
    let _next = spawn(&sandboxes, &["/runs"]).await.unwrap();
    assert_ne!(sandboxes.launcher_pid(Profile::Agent).await, Some(first));
}

#[tokio::test]
async fn orders_under_way_fail_with_their_launcher() {
    let sandboxes = sandboxes();
    sandboxes.layers(Profile::Agent).await.unwrap();
    let (late, died) = tokio::join!(spawn(&sandboxes, &["/is-late"]), spawn(&sandboxes, &["/dies"]));
    for fault in [late.unwrap_err(), died.unwrap_err()] {
        assert_eq!(fault.code, Code::LAUNCHER_LOST);
        assert!(fault.message.contains("signal: 9"), "{fault}");
    }
    spawn(&sandboxes, &["/runs"]).await.unwrap();
}

#[tokio::test]
async fn a_launcher_that_breaks_the_protocol_is_ended() {
    let sandboxes = sandboxes();
    let mut running = spawn(&sandboxes, &["/runs"]).await.unwrap();
    let launcher = sandboxes.launcher_pid(Profile::Agent).await.unwrap();
    let fault = spawn(&sandboxes, &["/babbles"]).await.unwrap_err();
    assert!(fault.message.contains("does not keep to the protocol"), "{fault}");
    assert!(running.ended().await.is_launcher_lost);
    until("the launcher is gone", || !lives(launcher)).await;
}

#[tokio::test]
async fn a_launcher_that_hangs_is_ended_after_two_orders_without_an_answer() {
    let sandboxes = sandboxes();
    let mut running = spawn(&sandboxes, &["/runs"]).await.unwrap();
    let launcher = signal_launcher(&sandboxes, Signal::STOP).await;
    // From here on waiting costs nothing: time goes on when nobody has anything to do.
    tokio::time::pause();
    for _ in 0..2 {
        let fault = spawn(&sandboxes, &["/runs"]).await.unwrap_err();
        assert_eq!(fault.code, Code::LAUNCHER_LOST);
        assert!(fault.message.contains("no sandbox within"), "{fault}");
    }
    tokio::time::resume();
    assert!(running.ended().await.is_launcher_lost);
    until("the launcher is gone", || !lives(launcher)).await;
    spawn(&sandboxes, &["/runs"]).await.unwrap();
}

#[tokio::test]
async fn a_sandbox_that_comes_after_its_time_is_killed() {
    let sandboxes = sandboxes();
    sandboxes.layers(Profile::Agent).await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(50), spawn(&sandboxes, &["/is-late"])).await;
    assert!(given_up.is_err());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let _other = spawn(&sandboxes, &["/wakes", file.to_str().unwrap()]).await.unwrap();
    let late = pid_in(&file).await;
    until("the late one is gone", || !lives(late)).await;
}

#[tokio::test]
async fn a_launcher_that_is_missing_or_cannot_start_is_told() {
    let options = |path: &str| SandboxOptions { launcher: path.into(), backend: Backend::Native };
    assert_eq!(Sandboxes::open(options("/nowhere")).unwrap_err().code, Code::LAUNCHER_MISSING);
    for (path, reason) in [("/etc/passwd", "could not be started"), ("/bin/false", "exit status: 1")] {
        let fault = Sandboxes::open(options(path)).unwrap().layers(Profile::Agent).await.unwrap_err();
        assert_eq!(fault.code, Code::LAUNCHER_NOT_READY);
        assert!(fault.message.contains(reason), "{fault}");
    }
}
