//! Which walls there are on this machine, found by putting them up once around a child that does nothing else.

use agentos_protocol::sandbox::Layer;

use crate::{
    arguments::Backend,
    landlock::Abi,
    sys::process::{self, Cloned, Status},
};

fn layer(name: &str, is_active: bool, detail: impl Into<String>) -> Layer {
    Layer { name: name.to_owned(), is_active, detail: detail.into() }
}

const NAMESPACES: [(&str, libc::c_int); 7] = [
    ("user-namespace", 0),
    ("mount-namespace", libc::CLONE_NEWNS),
    ("pid-namespace", libc::CLONE_NEWPID),
    ("network-namespace", libc::CLONE_NEWNET),
    ("ipc-namespace", libc::CLONE_NEWIPC),
    ("uts-namespace", libc::CLONE_NEWUTS),
    ("cgroup-namespace", libc::CLONE_NEWCGROUP),
];

pub fn probe(backend: Backend) -> Vec<Layer> {
    let mut layers: Vec<Layer> = NAMESPACES.iter().map(|(name, flags)| namespace(backend, name, *flags)).collect();
    let abi = Abi::probe();
    layers.push(layer("landlock", backend != Backend::None && abi.has_files(), abi.detail()));
    layers
}

fn namespace(backend: Backend, name: &str, flags: libc::c_int) -> Layer {
    if backend == Backend::None {
        return layer(name, false, "the back end none has no walls");
    }
    match process::clone(libc::CLONE_NEWUSER | flags, None) {
        Ok(Cloned::Child) => process::end(0),
        Ok(Cloned::Parent { pid, .. }) => match process::reap(pid, true) {
            Ok(Some(reaped)) if reaped.status == Status::Exited(0) => layer(name, true, "one for each sandbox"),
            _ => layer(name, false, "the child that tried it did not end well"),
        },
        Err(error) => layer(name, false, format!("clone3: {error}")),
    }
}
