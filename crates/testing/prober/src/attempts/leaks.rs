//! What tells of the host, or was left open by those who started the sandbox.

use std::{fs, sync::OnceLock};

use crate::{Attempt, Facts, Outcome, Wall::*};

pub const ATTEMPTS: &[Attempt] = &[
    Attempt {
        name: "inherited-descriptors",
        what: "descriptors that somebody forgot to close",
        walls: &[Inheritance],
        run: inherited,
    },
    Attempt { name: "inherited-environment", what: "variables of the server", walls: &[Inheritance], run: environment },
    Attempt { name: "host-name", what: "the name of the host", walls: &[Names], run: host_name },
    Attempt {
        name: "cgroup-path",
        what: "the own place among the host's cgroups",
        walls: &[CgroupNames],
        run: cgroup_path,
    },
    Attempt {
        name: "words-of-init",
        what: "paths of the host in the first process's command line",
        walls: &[Inheritance],
        run: words_of_init,
    },
    Attempt {
        name: "memory-of-host",
        what: "how much memory the machine has (sysinfo): a number, of no use to an attacker",
        walls: &[],
        run: memory_of_host,
    },
];

/// Of the program's start, before it opened anything.
static DESCRIPTORS: OnceLock<Vec<i32>> = OnceLock::new();

pub fn note_descriptors() {
    let list = fs::read_dir("/proc/self/fd").map(|list| {
        let numbers = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        // Without the one that reads the directory, which is gone again.
        numbers.filter(|number| fs::read_link(format!("/proc/self/fd/{number}")).is_ok()).collect()
    });
    let _ = DESCRIPTORS.set(list.unwrap_or_default());
}

fn inherited(_: &Facts) -> Outcome {
    let Some(open) = DESCRIPTORS.get().filter(|open| open.len() >= 3) else {
        return Outcome::broken("descriptors could not be listed");
    };
    let more: Vec<_> = open.iter().filter(|number| **number > 3).collect();
    Outcome::open_if(!more.is_empty(), format!("{more:?}"))
}

fn environment(facts: &Facts) -> Outcome {
    let own = fs::read("/proc/self/environ").unwrap_or_default();
    let found = String::from_utf8_lossy(&own).contains(&facts.secret);
    Outcome::open_if(found, "the secret of the launcher's environment")
}

fn host_name(facts: &Facts) -> Outcome {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| uname());
    match name {
        Ok(name) => Outcome::open_if(name.trim() == facts.host_name, name.trim()),
        Err(error) => Outcome::broken(error.to_string()),
    }
}

fn uname() -> std::io::Result<String> {
    let mut names = [0_u8; 65 * 6];
    crate::kernel::call(libc::SYS_uname, &[names.as_mut_ptr() as usize])
        .map_err(|errno| std::io::Error::from_raw_os_error(errno.0))?;
    let name = names[65..130].split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn cgroup_path(_: &Facts) -> Outcome {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let deeper = text.lines().find(|line| !line.ends_with(":/"));
    Outcome::open_if(deeper.is_some(), deeper.unwrap_or("none"))
}

fn words_of_init(facts: &Facts) -> Outcome {
    let words = fs::read("/proc/1/cmdline").unwrap_or_default();
    let text = String::from_utf8_lossy(&words).replace('\0', " ");
    Outcome::open_if(text.contains(&facts.host_directory) || text.contains(&facts.secret), text)
}

fn memory_of_host(_: &Facts) -> Outcome {
    // SAFETY: the structure is plain data, for which zero is a valid value, and lives through the call.
    let total = unsafe {
        let mut information: libc::sysinfo = std::mem::zeroed();
        libc::sysinfo(&raw mut information);
        information.totalram
    };
    Outcome::open_if(total > 0, format!("{total} bytes"))
}
