//! What goes well: one launcher for each profile, answers to the right orders, ends told in full.

use std::{io::Read, net::TcpListener, os::fd::OwnedFd};

use agentos_protocol::sandbox::{Descriptor, End, Profile, Rusage};
use agentos_sandbox::Ended;
use agentos_types::Code;

use crate::harness::{lives, order, sandboxes, spawn, until};

#[tokio::test]
async fn each_profile_has_one_launcher_that_is_started_at_first_use() {
    let sandboxes = sandboxes();
    assert_eq!(sandboxes.launcher_pid(Profile::Agent).await, None);
    let layers = sandboxes.layers(Profile::Agent).await.unwrap();
    assert_eq!((layers[0].is_active, layers[0].detail.as_str()), (false, "bwrap"));
    assert!(layers[1].detail.starts_with('[') && !layers[1].detail.contains("PATH"), "{}", layers[1].detail);
    let first = sandboxes.launcher_pid(Profile::Agent).await.unwrap();
    drop(spawn(&sandboxes, &["/runs"]).await.unwrap());
    assert_eq!(sandboxes.launcher_pid(Profile::Agent).await, Some(first));
    sandboxes.layers(Profile::Dev).await.unwrap();
    assert_ne!(sandboxes.launcher_pid(Profile::Dev).await, Some(first));
}

/// What a terminal sends to the server's group is not for its launchers: the server ends its sandboxes in order.
#[tokio::test]
async fn a_launcher_is_in_a_process_group_of_its_own() {
    let sandboxes = sandboxes();
    sandboxes.layers(Profile::Agent).await.unwrap();
    let pid = sandboxes.launcher_pid(Profile::Agent).await.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let group = stat.rsplit_once(") ").unwrap().1.split(' ').nth(2).unwrap();
    assert_eq!(group, pid.to_string());
}

#[tokio::test]
async fn the_end_is_told_as_it_was() {
    let sandboxes = sandboxes();
    for (script, end) in [("exit 3", End::Exited(3)), ("kill -SYS $$", End::Signaled(31)), (":", End::Exited(0))] {
        let mut running = spawn(&sandboxes, &["/ends", script]).await.unwrap();
        let expected = Ended { end, rusage: Rusage { cpu_us: 7, memory_peak_bytes: 9 }, is_launcher_lost: false };
        assert_eq!(running.ended().await, expected, "{script}");
        assert_eq!(running.ended().await, expected, "the second time");
        running.exited().await;
    }
}

#[tokio::test]
async fn descriptors_go_in_and_listeners_come_out() {
    let sandboxes = sandboxes();
    let (mut output, stdout) = std::io::pipe().unwrap();
    let mut order = order(&["/ends", "echo from inside"]);
    order.descriptors = vec![Descriptor::Stdout];
    let mut running = sandboxes.spawn(Profile::Agent, order.clone(), vec![stdout.into()]).await.unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from inside\n");
    let listeners = running.take_listeners();
    assert_eq!((listeners.len(), running.take_listeners().len()), (1, 0));
    TcpListener::from(listeners.into_iter().next().unwrap()).local_addr().unwrap();
    let fault = sandboxes.spawn(Profile::Agent, order, Vec::<OwnedFd>::new()).await.unwrap_err();
    assert_eq!(fault.code, Code::INTERNAL, "an order that names more than there is");
}

#[tokio::test]
async fn a_refusal_names_the_stage_and_the_launcher_goes_on() {
    let sandboxes = sandboxes();
    let fault = spawn(&sandboxes, &["/fails", "directory"]).await.unwrap_err();
    assert_eq!((fault.code, fault.message.as_str()), (Code::LAUNCH_FAILED, "mounts: there is no directory"));
    spawn(&sandboxes, &["/runs"]).await.unwrap();
}

#[tokio::test]
async fn many_at_once_get_each_its_own_answer() {
    let sandboxes = sandboxes();
    let mut spawns = tokio::task::JoinSet::new();
    for number in 0..100 {
        let sandboxes = sandboxes.clone();
        spawns.spawn(async move {
            match number % 2 {
                0 => drop(spawn(&sandboxes, &["/runs"]).await.unwrap()),
                _ => {
                    let fault = spawn(&sandboxes, &["/fails", &format!("number {number}")]).await.unwrap_err();
                    assert_eq!(fault.message, format!("mounts: there is no number {number}"));
                }
            }
        });
    }
    while let Some(spawned) = spawns.join_next().await {
        spawned.unwrap();
    }
}

#[tokio::test]
async fn who_drops_or_kills_a_sandbox_ends_it() {
    let sandboxes = sandboxes();
    let dropped = spawn(&sandboxes, &["/runs"]).await.unwrap();
    let pid = dropped.pid();
    assert!(lives(pid));
    drop(dropped);
    until("the dropped one is gone", || !lives(pid)).await;
    let killed = spawn(&sandboxes, &["/runs"]).await.unwrap();
    assert!(killed.end().await);
    assert!(!lives(killed.pid()));
}

#[tokio::test]
async fn with_the_last_handle_the_launcher_ends_but_not_before_what_it_has_made() {
    let sandboxes = sandboxes();
    let running = spawn(&sandboxes, &["/runs"]).await.unwrap();
    let launcher = sandboxes.launcher_pid(Profile::Agent).await.unwrap();
    drop(sandboxes);
    assert!(lives(launcher) && lives(running.pid()));
    drop(running);
    until("the launcher is gone", || !lives(launcher)).await;
}
