//! The page of the documentation: the catalogue as tables.

use std::fmt::Write as _;

use crate::catalogue::{GROUPS, Wall};

pub fn tables() -> String {
    let mut text = String::new();
    for group in GROUPS {
        let _ = write!(text, "\n### {}\n\n| attempt | what is tried | stopped by |\n|---|---|---|\n", group.title);
        for attempt in group.attempts {
            let walls: Vec<&str> = attempt.walls.iter().map(|wall| title(*wall)).collect();
            let walls = if walls.is_empty() { "open, harmless".to_owned() } else { walls.join(", ") };
            let _ = writeln!(text, "| `{}` | {} | {walls} |", attempt.name, attempt.what);
        }
    }
    text
}

fn title(wall: Wall) -> &'static str {
    match wall {
        Wall::Mounts => "mounts",
        Wall::Root => "detached root",
        Wall::Proc => "masked `/proc`",
        Wall::Processes => "process namespace",
        Wall::Network => "network namespace",
        Wall::Ipc => "IPC namespace",
        Wall::Names => "name namespace",
        Wall::CgroupNames => "cgroup namespace",
        Wall::Capabilities => "no capabilities",
        Wall::Limits => "limits",
        Wall::Landlock => "Landlock",
        Wall::Seccomp => "system call filter",
        Wall::Init => "closed init",
        Wall::Quota => "quota of the workspace",
        Wall::Cgroup => "memory of the cgroup",
        Wall::MemoryFiles => "no programs in memory",
        Wall::Inheritance => "nothing inherited",
        Wall::Machine => "some machines",
        Wall::Kernel => "kernel",
    }
}
