//! What is seen from inside of a sandbox: the effect of each stage.

use std::collections::{BTreeMap, BTreeSet};

use agentos_protocol::sandbox::*;

use crate::server::{NOBODY, Server, null, order, serve};

/// As root and as a user without any rights, by both back ends that put up walls.
pub fn everywhere(check: impl Fn(&mut Server)) {
    for &backend in crate::harness::backends() {
        for user in [None, Some(NOBODY)] {
            check(&mut serve("agent", backend, user));
        }
    }
}

/// `Name:   value` lines as a map.
fn lines(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim())).collect()
}

#[test]
fn a_shell_runs_inside_and_its_end_is_told() {
    everywhere(|server| {
        assert_eq!(server.shell("echo hello; id -u; id -g; hostname; echo $$"), "hello\n1000\n1000\ninside\n2\n");
        assert_eq!(server.run(order("exit 7")).0, End::Exited(7));
        assert_eq!(server.run(order("kill -9 $$")).0, End::Signaled(9));
    });
}

#[test]
fn what_the_program_has_is_what_was_ordered() {
    everywhere(|server| {
        let program = |words: &[&str]| {
            let command = words.iter().map(ToString::to_string).collect();
            SandboxOrder { command, directory: "/tmp".into(), ..order("") }
        };
        let text = server.run(program(&["/usr/bin/cat", "/proc/self/environ"])).1;
        assert_eq!(text, "ONLY=this one\0PATH=/usr/bin:/usr/sbin\0");
        let text = server.run(program(&["/usr/bin/cat", "/proc/self/cmdline", "--", "/dev/null"])).1;
        assert_eq!(text, "/usr/bin/cat\0/proc/self/cmdline\0--\0/dev/null\0");
        assert_eq!(server.run(program(&["/usr/bin/readlink", "/proc/self/cwd"])).1, "/tmp\n");
        let text = server.run(program(&["/usr/bin/cat", "/proc/self/status", "/proc/self/stat"])).1;
        let seen = lines(&text);
        for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "SigIgn", "SigBlk"] {
            assert_eq!(seen.get(name), Some(&"0000000000000000"), "{name} in {text}");
        }
        for (name, value) in
            [("NoNewPrivs", "1"), ("Seccomp", "2"), ("Umask", "0077"), ("Uid", "1000\t1000\t1000\t1000")]
        {
            assert_eq!(seen.get(name), Some(&value), "{name} in {text}");
        }
        // proc(5): after the name in brackets come state, ppid, pgrp, session, ...; nice is field 19, policy field 41.
        let fields: Vec<_> = text.rsplit_once("(cat) ").unwrap().1.split_whitespace().collect();
        let field = |number: usize| fields[number - 3];
        assert_eq!([field(4), field(5), field(6)], ["1", "2", "2"], "parent, process group and session");
        // Without rights a raised level of the tester's stays.
        let level = if server.is_root() { 0 } else { agentos_launcher::sys::scheduling::nice_level() }.to_string();
        assert_eq!([field(19), field(41)], [&level, "0"], "nice level and scheduling policy");
    });
}

#[test]
fn only_ordered_descriptors_are_open() {
    everywhere(|server| {
        // `ls` runs in a child, so its own directory descriptor is not in the list of the shell. No pipeline: the shell
        // holds its ends for a moment.
        let listing = "ls -m /proc/$$/fd; readlink /proc/$$/fd/0 /proc/$$/fd/3; true";
        assert_eq!(server.shell(listing), "0, 1, 2\n/dev/null\n", "without a channel");
        let (_kept, channel) = agentos_launcher::sys::packets::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let descriptors = vec![Descriptor::Channel, Descriptor::Stdout];
        server.send(SandboxOrder { descriptors, ..order(listing) }, &[channel, writer.into()]);
        server.spawned();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert!(text.starts_with("0, 1, 2, 3\n/dev/null\nsocket:"), "{text}");
        assert_eq!(server.ended().0, End::Exited(0));
    });
}

#[test]
fn the_tree_is_the_ordered_one_and_cannot_be_changed() {
    everywhere(|server| {
        assert_eq!(
            server.shell("ls -A / /dev /etc /tmp"),
            "/:\nbin\ndev\netc\nlib\nlib64\nproc\ntmp\nusr\n\n\
            /dev:\nfd\nfull\nnull\nrandom\nshm\nstderr\nstdin\nstdout\nurandom\nzero\n\n/etc:\npasswd\n\n/tmp:\n"
        );
        assert_eq!(server.shell("cat /etc/passwd; id -un"), "agent:x:1000:1000::/:/bin/sh\nagent\n");
        for attempt in [
            "touch /new",
            "touch /usr/new",
            "touch /etc/new",
            "echo x >> /etc/passwd",
            "chmod 777 /etc/passwd",
            "rm /bin",
            "mkdir /dev/new",
            "touch /dev/new",
            "chmod 777 /",
            "mount -t tmpfs none /tmp",
            "umount /proc",
            "chroot / true",
            "cp /usr/bin/true /tmp/x && chmod 700 /tmp/x && /tmp/x",
            "cp /usr/bin/true /dev/shm/x && chmod 700 /dev/shm/x && /dev/shm/x",
            "head -c 2000000 /dev/zero > /tmp/big",
            "for i in $(seq 100); do touch /tmp/$i || exit 1; done",
        ] {
            let (end, text) = server.run(order(attempt));
            assert_ne!(end, End::Exited(0), "{attempt}: {text}");
        }
        assert_eq!(
            server.shell("head -c 5 /dev/zero | wc -c; echo x > /dev/null; head -c 3 /dev/urandom | wc -c"),
            "5\n3\n"
        );
        let mounts = server.shell("cat /proc/self/mountinfo /proc/self/mounts /proc/self/mountstats");
        assert_eq!(mounts, "", "the root is on no list of mounts");
    });
}

#[test]
fn a_writable_bind_is_writable_and_executable_and_nothing_leads_out_of_it() {
    everywhere(|server| {
        let directory = tempfile::tempdir().unwrap();
        let shared = directory.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        let owner = if server.is_root() { crate::server::HOST_ID } else { NOBODY };
        for path in [directory.path(), &shared] {
            std::os::unix::fs::chown(path, Some(owner), Some(owner)).unwrap();
        }
        std::fs::write(directory.path().join("secret"), "outside").unwrap();
        std::os::unix::fs::symlink("../secret", shared.join("link")).unwrap();
        let source = shared.canonicalize().unwrap().to_string_lossy().into_owned();
        let with = |script: &str, source: &str| {
            let mut order = order(script);
            order.mounts.push(Mount::Bind {
                source: source.into(),
                target: "/workspace".into(),
                writable: true,
                executable: true,
            });
            order
        };
        let (end, text) = server.run(with(
            "cp /usr/bin/true /workspace/x; /workspace/x && echo ran; cat /workspace/link /workspace/../secret",
            &source,
        ));
        assert_eq!(end, End::Exited(1), "{text}");
        assert!(text.starts_with("ran\n") && text.matches("No such file").count() == 2, "{text}");
        assert!(shared.join("x").exists());
        let link = directory.path().join("to");
        std::os::unix::fs::symlink(&shared, &link).unwrap();
        for bad in [link.to_string_lossy().into_owned(), format!("{}/x", link.to_string_lossy())] {
            server.send(with("true", &bad), &[]);
            let (stage, message) = server.failed();
            assert!(stage == "mounts" && message.contains("link"), "{stage}: {message}");
        }
        server.send(with("true", "/does/not/exist"), &[]);
        assert!(server.failed().1.contains("/does/not/exist: No such file"));
    });
}

#[test]
fn proc_shows_own_processes_alone() {
    everywhere(|server| {
        let text = server.shell(
            "cd /proc; ls -d *; cat /proc/1/environ /proc/1/cmdline 2>&1; ls /proc/1 2>&1; kill -9 1; kill -0 2",
        );
        assert!(!text.contains("cpuinfo") && !text.contains("kcore") && !text.contains("sys"), "{text}");
        assert!(!text.lines().any(|line| line == "1"), "the init is hidden: {text}");
        let full = SandboxOrder {
            proc: ProcView::MaskedFull,
            ..order(
                "head -1 /proc/meminfo; grep -c processor /proc/cpuinfo; \
            for f in kcore keys sysrq-trigger timer_list kallsyms interrupts kmsg; do head -c1 /proc/$f 2>/dev/null | wc -c; done; \
            ls -A /proc/acpi /proc/scsi /proc/bus 2>/dev/null | grep -v : ; echo 1 > /proc/sysrq-trigger; echo x > /proc/sys/kernel/hostname || echo read-only",
            )
        };
        let (_, text) = server.run(full);
        assert!(text.starts_with("MemTotal:") && text.contains("read-only"), "{text}");
        let zeros = text.lines().filter(|line| *line == "0").count();
        assert_eq!(zeros, 7, "masked files are empty: {text}");
    });
}

#[test]
fn the_network_leads_nowhere() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    everywhere(|server| {
        let script = format!(
            "python3 -c '
import socket
print(open(\"/proc/self/net/dev\").read())
for where in ((\"127.0.0.1\", {port}), (\"8.8.8.8\", 53), (\"::1\", {port})):
    try: socket.create_connection(where, 2); print(\"open\", where)
    except OSError as error: print(type(error).__name__)
'"
        );
        let text = server.shell(&script);
        assert!(text.contains(" lo:") && !text.contains("eth") && !text.contains("open"), "{text}");
    });
}

#[test]
fn processors_are_given_in_turn_and_cannot_be_changed() {
    let all = std::thread::available_parallelism().unwrap().get();
    let script = "import os
print(*os.sched_getaffinity(0))
try: os.sched_setaffinity(0, range(1024)); print('changed')
except PermissionError: print('refused')";
    everywhere(|server| {
        let mut given = BTreeSet::new();
        for _ in 0..all {
            let command = ["/usr/bin/python3", "-c", script].map(str::to_owned).to_vec();
            let (end, text) = server.run(SandboxOrder { command, processors: Some(1), ..order("") });
            let Some((processor, "refused\n")) = text.split_once('\n') else { panic!("{end:?} {text}") };
            given.insert(processor.to_owned());
        }
        assert_eq!(given.len(), all, "{given:?}");
    });
}

#[test]
fn limits_are_as_ordered_and_cannot_be_raised() {
    everywhere(|server| {
        let mut order = order("cat /proc/self/limits; ulimit -n 65 || echo no; nice");
        order.nice = 7;
        order.limits = ProcessLimits {
            address_space_bytes: Some(1 << 31),
            cpu_seconds: Some(77),
            open_files: 64,
            file_bytes: 1 << 20,
            processes: Some(50),
        };
        let (_, text) = server.run(order);
        for (name, value) in [
            ("Max address space", "2147483648"),
            ("Max cpu time", "77"),
            ("Max open files", "64"),
            ("Max file size", "1048576"),
            // Of one byte: none, and no program of the machine is started for it.
            ("Max core file size", "1"),
            ("Max pending signals", "4096"),
            ("Max nice priority", "0"),
            ("Max realtime priority", "0"),
            ("Max processes", "50"),
        ] {
            let row = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
            let values: Vec<_> = row[name.len()..].split_whitespace().take(2).collect();
            // The signal that tells of spent CPU time comes a second before the one that kills.
            let hard = if value == "77" { "78" } else { value };
            assert_eq!(values, [value, hard], "{row}");
        }
        assert!(text.ends_with("no\n7\n"), "{text}");
    });
}

#[test]
fn memory_files_run_only_where_they_may() {
    let script = "exec python3 -c '
import os
fd = os.memfd_create(\"x\", 0x10)
os.write(fd, b\"#!/bin/sh\\necho ran\\n\"); os.execve(f\"/proc/self/fd/{fd}\", [\"x\"], {})'";
    everywhere(|server| {
        let closed = SandboxOrder { anonymous_programs: false, ..order(script) };
        let (_, text) = server.run(closed);
        assert!(text.contains("PermissionError"), "{text}");
        let sealed = "exec python3 -c 'import os; os.write(os.memfd_create(\"x\", 8), b\"data\"); print(\"written\")'";
        let (_, text) = server.run(SandboxOrder { anonymous_programs: false, ..order(sealed) });
        assert_eq!(text, "written\n", "one that can never be executed is there");
        let (_, text) = server.run(order(script));
        assert!(!text.contains("memfd_create") && text.contains("ran"), "{text}");
    });
}

#[test]
fn standard_streams_are_the_given_ones() {
    let mut server = serve("agent", "native", None);
    let (end, _) = {
        server.send(SandboxOrder { descriptors: vec![Descriptor::Stdin], ..order("read line; exit 3") }, &[null()]);
        server.spawned();
        server.ended()
    };
    assert_eq!(end, End::Exited(3));
}
