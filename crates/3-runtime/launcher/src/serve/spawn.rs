//! One order made into a process: what this profile and back end may do at all, then the clone, the map of users, the go.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use agentos_protocol::sandbox::{Descriptor, INNER_ID, Mount, Network, Profile, SandboxOrder};

use crate::{
    Failure,
    arguments::Backend,
    channel::{self, GO},
    child::{self, Belongings, Child, HandOver, User},
    left_out,
    order::{self, without_walls},
    sys::{files, mount::Tree, packets, process},
};

use super::{
    sandboxes::{Born, Sandboxes},
    setup::Setup,
};

pub fn spawn(
    setup: &Setup,
    sandboxes: &Sandboxes,
    order: SandboxOrder,
    descriptors: Vec<OwnedFd>,
) -> Result<Born, Failure> {
    let failed = |stage: &'static str| move |message: String| Failure { stage, message };
    if !sandboxes.has_room() {
        return Err(failed("order")("this launcher has as many sandboxes as it can have".into()));
    }
    check_permitted(setup, &order).map_err(failed("order"))?;
    let order = if setup.backend == Backend::None { without_walls(&order) } else { order };
    let given: Vec<(Descriptor, OwnedFd)> = order.descriptors.iter().copied().zip(descriptors).collect();
    let trees = trees(setup, &order).map_err(failed("mounts"))?;
    let devices = devices(setup, &order).map_err(failed("mounts"))?;
    let plan = order::plan(setup.profile, &order).map_err(|error| failed("plan")(format!("the plan: {error}")))?;
    let plan = memory(c"plan", &plan).map_err(failed("plan"))?;
    let handed_over = match setup.backend {
        Backend::Bwrap => Some(hand_over(&order).map_err(failed("bwrap"))?),
        Backend::Native | Backend::None => None,
    };
    let (ours, theirs) = packets::pair().map_err(|error| failed("channel")(format!("the channel: {error}")))?;
    if handed_over.is_some() {
        packets::tell_senders(ours.as_fd()).map_err(|error| failed("channel")(format!("the channel: {error}")))?;
    }
    let cgroup = given.iter().find(|(kind, _)| *kind == Descriptor::Cgroup).map(|(_, directory)| directory.as_fd());
    let cloned = process::clone(namespaces(setup.backend, &order), cgroup);
    let (pid, pidfd) = match cloned.map_err(|error| failed("clone")(clone_error(&error)))? {
        process::Cloned::Parent { pid, pidfd } => (pid, pidfd),
        process::Cloned::Child => {
            drop(ours);
            become_child(
                setup,
                &order,
                (trees, devices),
                Belongings {
                    channel: theirs,
                    plan: plan.as_fd(),
                    init: setup.init.as_ref().map(AsFd::as_fd),
                    given: &given,
                    hand_over: handed_over
                        .as_ref()
                        .map(|(order, complaints)| HandOver { order: order.as_fd(), complaints: complaints.as_fd() }),
                },
            )
        }
    };
    drop(theirs);
    let born =
        Born { id: order.id, pid, pidfd, channel: ours, complaints: handed_over.map(|(_, complaints)| complaints) };
    match map_users(setup, &order, pid) {
        Ok(()) => {
            // A child that has failed by now has said why, and that is read like any other word of it.
            let _ = packets::send(born.channel.as_raw_fd(), GO, &[], true);
            Ok(born)
        }
        Err(message) => {
            let _ = process::kill_by_pidfd(born.pidfd.as_fd(), libc::SIGKILL);
            let _ = process::reap(pid, true);
            Err(failed("user")(message))
        }
    }
}

/// The first steps of the child, while it still has the launcher's descriptors: its cgroups, then order among what it has.
fn become_child(
    setup: &Setup,
    order: &SandboxOrder,
    (trees, devices): (Vec<Tree>, Option<Tree>),
    belongings: Belongings<'_>,
) -> ! {
    // Until it is sorted, failures go by the unsorted channel.
    let unsorted = belongings.channel.as_raw_fd();
    let fail = |stage: &str, message: String| -> ! {
        let _ = packets::send(unsorted, &channel::failed(stage, &message), &[], true);
        process::end(126)
    };
    for (kind, descriptor) in belongings.given {
        if *kind == Descriptor::CgroupProcs
            && let Err(error) = files::write_all(descriptor.as_fd(), b"0")
        {
            fail("cgroup", format!("the cgroup could not be entered: {error}"));
        }
    }
    if let Err(message) = child::sort(belongings, trees.iter().chain(&devices)) {
        fail("descriptors", message);
    }
    let user = if is_other_user(setup, order) { User::Other } else { User::Own };
    let stages = match setup.backend {
        Backend::Native => child::NATIVE,
        Backend::Bwrap => child::BWRAP_OUTSIDE,
        Backend::None => child::NONE,
    };
    child::run(
        stages,
        &mut Child {
            order,
            profile: setup.profile,
            filter: &setup.filter,
            landlock: setup.landlock,
            user,
            trees,
            volunteers_for_oom: setup.volunteers_for_oom,
            devices,
            has_all_processors: setup.has_all_processors,
            has_init: setup.init.is_some(),
            program: &setup.program_path,
        },
    )
}

/// What no order can loosen, because it is fixed when the launcher starts.
fn check_permitted(setup: &Setup, order: &SandboxOrder) -> Result<(), String> {
    if setup.backend == Backend::None {
        return check_without_walls(order);
    }
    match (setup.profile, &order.network) {
        (Profile::Proxy, Network::Own { .. }) => return Err("the profile proxy has the machine's network".into()),
        (Profile::Proxy, Network::Host) | (_, Network::Own { .. }) => {}
        (profile, Network::Host) => {
            return Err(format!("the profile {} never has the machine's network", profile.as_str()));
        }
    }
    match (setup.is_privileged(), order.host_id) {
        (true, None) => {
            Err("a launcher that runs as root needs a host_id: nothing inside may be the host's root".into())
        }
        (false, Some(id)) if id != setup.user => {
            Err(format!("host_id {id} is not the launcher's own user {}, and only root may map another", setup.user))
        }
        (false, _) if order.host_gid.is_some_and(|id| id != setup.group) => {
            Err(format!("host_gid is not the launcher's own group {}, and only root may map another", setup.group))
        }
        _ => Ok(()),
    }
}

/// For development. The layers say that nothing walls the program off; what would be an answer to a question of its own is
/// refused, not left out.
fn check_without_walls(order: &SandboxOrder) -> Result<(), String> {
    let has_listeners = matches!(&order.network, Network::Own { listeners, .. } if !listeners.is_empty());
    let wanted = [
        (has_listeners, "listeners in a network of its own"),
        (order.host_id.is_some(), "another user"),
        (order.apparmor.is_some(), "an AppArmor profile"),
    ];
    match wanted.iter().find(|(is_wanted, _)| *is_wanted) {
        Some((_, what)) => Err(format!("the back end none has no walls, and the order wants {what}")),
        None => Ok(()),
    }
}

fn is_other_user(setup: &Setup, order: &SandboxOrder) -> bool {
    order.host_id.is_some_and(|id| id != setup.user)
}

fn namespaces(backend: Backend, order: &SandboxOrder) -> libc::c_int {
    if backend != Backend::Native {
        return 0;
    }
    let wanted = namespaces_of(order);
    wanted & !left_out::namespaces()
}

fn namespaces_of(order: &SandboxOrder) -> libc::c_int {
    let common = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    match order.network {
        Network::Host => common,
        Network::Own { .. } => common | libc::CLONE_NEWNET,
    }
}

fn clone_error(error: &io::Error) -> String {
    let why = match error.raw_os_error() {
        Some(libc::EPERM) => " (are user namespaces forbidden here? see agent-os doctor)",
        Some(libc::ENOSPC) => " (user.max_user_namespaces or a sibling of it is reached)",
        Some(libc::EAGAIN) => " (the limit of processes is reached)",
        _ => "",
    };
    format!("the namespaces could not be made: {error}{why}")
}

/// With rights of its own the launcher copies the trees itself: it sees places that the child's user does not.
fn trees(setup: &Setup, order: &SandboxOrder) -> Result<Vec<Tree>, String> {
    if setup.backend != Backend::Native || setup.init.is_none() {
        return Ok(Vec::new());
    }
    let copies = order.mounts.iter().filter_map(|mount| match mount {
        Mount::Bind { source, writable, executable, .. } => Some(child::copy(source, *writable, *executable)),
        _ => None,
    });
    copies.collect()
}

fn devices(setup: &Setup, order: &SandboxOrder) -> Result<Option<Tree>, String> {
    if !order.mounts.iter().any(|mount| matches!(mount, Mount::Devices { .. })) {
        return Ok(None);
    }
    match &setup.devices {
        Some(folder) => {
            child::devices::copy_folder(folder).map(Some).map_err(|error| format!("/dev could not be copied: {error}"))
        }
        // Without the right to make nodes the child binds those of the machine.
        None => Ok(setup.devices_for_one.take()),
    }
}

fn memory(name: &std::ffi::CStr, bytes: &[u8]) -> Result<OwnedFd, String> {
    let failed = |error: io::Error| format!("no memory for the plan: {error}");
    let file = files::memory_file(name).map_err(failed)?;
    files::write_all(file.as_fd(), bytes).map_err(failed)?;
    Ok(file)
}

/// The order, and an empty file for what the back end prints.
fn hand_over(order: &SandboxOrder) -> Result<(OwnedFd, OwnedFd), String> {
    let bytes = serde_json::to_vec(order).map_err(|error| format!("the order: {error}"))?;
    Ok((memory(c"order", &bytes)?, memory(c"complaints", b"")?))
}

/// One user and one group inside, and no other: everything else is nobody's there.
fn map_users(setup: &Setup, order: &SandboxOrder, pid: i32) -> Result<(), String> {
    if setup.backend != Backend::Native {
        return Ok(());
    }
    let user = order.host_id.unwrap_or(setup.user);
    let own = if is_other_user(setup, order) { user } else { setup.group };
    let group = order.host_gid.unwrap_or(own);
    let rows = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{INNER_ID} {user} 1")),
        ("gid_map", format!("{INNER_ID} {group} 1")),
    ];
    rows.iter().try_for_each(|(name, text)| {
        fs::write(format!("/proc/{pid}/{name}"), text).map_err(|error| format!("{name} could not be written: {error}"))
    })
}

/// What a back end has printed, for a failure without any other word.
pub fn text_of(file: &OwnedFd) -> String {
    let mut bytes = vec![0; 1024];
    let length = files::read_at(file.as_fd(), &mut bytes, 0).unwrap_or(0);
    String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned()
}
