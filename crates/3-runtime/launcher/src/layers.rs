//! Which walls there are on this machine. The launcher makes one whole sandbox when it starts, whose program does nothing: no
//! wall is told of that was not up around it.

use std::os::fd::AsRawFd;

use agentos_protocol::sandbox::{
    Layer, Listener, Mount, Network, ProcView, ProcessLimits, Profile, SANDBOX_VERSION, SandboxOrder,
};

use crate::{
    Failure,
    arguments::Backend,
    channel::{MESSAGE_BYTES_MAX, Message},
    serve::{Born, Sandboxes, Setup, spawn},
    sys::{
        packets,
        process::{self, Cloned, Status},
    },
};

/// Who the trial is on the host: nobody, in the sense of the kernel's own name for him.
const NOBODY: u32 = 65534;
const WITHOUT_WALLS: &str = "the back end none puts up no walls: for development alone";

/// Each namespace alone, for the case that a whole sandbox cannot be made.
const NAMESPACES: [(&str, libc::c_int); 7] = [
    ("user", 0),
    ("mount", libc::CLONE_NEWNS),
    ("pid", libc::CLONE_NEWPID),
    ("network", libc::CLONE_NEWNET),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
];
const OTHERS: [&str; 3] = ["proc", "rights", "seccomp"];

fn layer(name: &str, is_active: bool, detail: impl Into<String>) -> Layer {
    Layer { name: name.to_owned(), is_active, detail: detail.into() }
}

pub fn probe(setup: &Setup) -> Vec<Layer> {
    if setup.backend == Backend::None {
        return without_walls();
    }
    let tried = trial(setup);
    let mut layers = match &tried {
        Ok(()) => all_up(setup),
        Err(failure) => one_by_one(setup, failure),
    };
    layers.extend(known(setup));
    layers.push(match tried {
        Ok(()) => memfd(setup),
        Err(failure) => layer("memfd", false, reason(&failure)),
    });
    layers
}

/// What the kernel tells without a trial: the walls that a sandbox goes without where the kernel does not have them.
pub fn known(setup: &Setup) -> Vec<Layer> {
    let abi = setup.landlock;
    vec![layer("landlock", abi.has_files(), abi.detail()), apparmor()]
}

fn without_walls() -> Vec<Layer> {
    let names = NAMESPACES.map(|(name, _)| name);
    let missing = names.into_iter().chain(["proc", "seccomp", "landlock", "apparmor", "memfd"]);
    let mut layers: Vec<Layer> = missing.map(|name| layer(name, false, WITHOUT_WALLS)).collect();
    layers.push(layer("rights", true, "no_new_privs alone; capabilities stay as they are"));
    layers
}

fn all_up(setup: &Setup) -> Vec<Layer> {
    let names = NAMESPACES.map(|(name, _)| name).into_iter().chain(OTHERS);
    names.map(|name| all_up_row(setup, name)).collect()
}

fn all_up_row(setup: &Setup, name: &str) -> Layer {
    match name {
        "network" if setup.profile == Profile::Proxy => layer(name, false, "the proxy dials out for the others"),
        "ipc" if !setup.is_privileged() || setup.backend == Backend::Bwrap => {
            layer(name, true, "one for each sandbox; only root may lower kernel.shmmax in it")
        }
        "proc" => layer(name, true, "hidepid, and own processes alone or the dangerous files masked"),
        "rights" => layer(name, true, "no capability in any set, secure bits locked, no_new_privs"),
        "seccomp" => {
            layer(name, true, format!("profile {}, {} instructions", setup.profile.as_str(), setup.filter.len()))
        }
        _ => layer(name, true, "one for each sandbox"),
    }
}

/// No sandbox can be made. What can be had of it is still worth telling, so that the remedy is found.
fn one_by_one(setup: &Setup, failure: &Failure) -> Vec<Layer> {
    let reason = reason(failure);
    let namespaces = NAMESPACES.map(|(name, flags)| match setup.backend {
        Backend::Native => namespace(name, flags, &reason),
        Backend::Bwrap | Backend::None => layer(name, false, reason.clone()),
    });
    namespaces.into_iter().chain(OTHERS.map(|name| layer(name, false, reason.clone()))).collect()
}

fn reason(failure: &Failure) -> String {
    format!("no sandbox starts: {}: {}", failure.stage, failure.message)
}

fn namespace(name: &str, flags: libc::c_int, reason: &str) -> Layer {
    match process::clone(libc::CLONE_NEWUSER | flags, None) {
        Ok(Cloned::Child) => process::end(0),
        Ok(Cloned::Parent { pid, .. }) => match process::reap(pid, true) {
            Ok(Some(reaped)) if reaped.status == Status::Exited(0) => {
                layer(name, false, format!("could be made alone, but {reason}"))
            }
            _ => layer(name, false, "the process that tried it did not end well"),
        },
        Err(error) => layer(name, false, format!("could not be made: {error}")),
    }
}

fn apparmor() -> Layer {
    match std::fs::read_to_string("/sys/module/apparmor/parameters/enabled") {
        Ok(text) if text.trim() == "Y" => layer("apparmor", true, "profiles that an order names are entered"),
        _ => layer("apparmor", false, "not active in this kernel"),
    }
}

/// The filter of system calls closes memory files everywhere; the kernel's own setting is the second lock.
fn memfd(setup: &Setup) -> Layer {
    let is_known = std::fs::exists("/proc/sys/vm/memfd_noexec").unwrap_or(false);
    let by_kernel = is_known && setup.is_privileged() && setup.backend == Backend::Native;
    let detail = match by_kernel {
        true => "closed for execution by filter and kernel, where an order asks for it",
        false => {
            "closed for execution by the filter alone, where an order asks for it (vm.memfd_noexec: root, Linux 6.3)"
        }
    };
    layer("memfd", true, detail)
}

/// A sandbox like any other, whose program is this one.
fn trial(setup: &Setup) -> Result<(), Failure> {
    let network = match setup.profile {
        Profile::Proxy => Network::Host,
        _ => Network::Own { listeners: vec![Listener::Tcp(80), Listener::Udp(53)], loopback: false },
    };
    let order = SandboxOrder {
        version: SANDBOX_VERSION,
        id: 0,
        command: vec!["/program".into(), "--nothing".into()],
        environment: Default::default(),
        directory: "/".into(),
        hostname: "trial".into(),
        host_id: setup.is_privileged().then_some(NOBODY),
        host_gid: None,
        mounts: vec![
            Mount::Bind {
                source: setup.program_path.to_string_lossy().into_owned(),
                target: "/program".into(),
                writable: false,
                executable: true,
            },
            Mount::Tmpfs { target: "/tmp".into(), bytes: 4096, inodes: 16, executable: false },
            Mount::Devices { shm_bytes: 4096 },
        ],
        proc: ProcView::Processes,
        network,
        limits: ProcessLimits { open_files: 64, file_bytes: 0, ..ProcessLimits::default() },
        anonymous_programs: false,
        nice: 0,
        processors: None,
        apparmor: None,
        descriptors: Vec::new(),
    };
    let born = spawn(setup, &Sandboxes::new(false), order, Vec::new())?;
    let said = listen(&born);
    // Its word, or its end, has come already.
    let _ = process::reap(born.pid, true);
    said
}

/// Until the program runs, or it is clear that it will not.
fn listen(born: &Born) -> Result<(), Failure> {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    // Ends: a first process says four messages at most, and its end is the last one.
    while let Ok(packet) = packets::receive(born.channel.as_raw_fd(), &mut buffer, true) {
        match Message::decode(buffer.get(..packet.length).unwrap_or_default()) {
            Some(Message::Started) => return Ok(()),
            Some(Message::Failed { stage, message }) => {
                return Err(Failure { stage: known_stage(&stage), message });
            }
            Some(_) => {}
            None => break,
        }
    }
    let complaint = born.complaints.as_ref().map(crate::serve::text_of).unwrap_or_default();
    Err(Failure { stage: "start", message: format!("its first process ended without a word {}", complaint.trim_end()) })
}

/// The stages' names are fixed; this finds the one that was said.
fn known_stage(said: &str) -> &'static str {
    use crate::child::{BWRAP_INSIDE, BWRAP_OUTSIDE, NATIVE};
    let mut stages = [NATIVE, BWRAP_OUTSIDE, BWRAP_INSIDE].into_iter().flatten().copied().flatten();
    stages.find(|stage| stage.name == said).map_or("start", |stage| stage.name)
}
