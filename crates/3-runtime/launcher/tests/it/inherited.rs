//! Nothing bad that a launcher inherits reaches a sandbox, and what an older kernel lacks is done the older way.

use agentos_protocol::sandbox::*;

use crate::server::{NOBODY, order, serve_with};

/// Everything bad that a parent can leave behind, done between fork and exec of the launcher.
fn spoil() -> std::io::Result<()> {
    // SAFETY: only async-signal-safe calls, with integers and pointers to live locals, in the single thread after fork.
    unsafe {
        libc::dup2(2, 17);
        libc::umask(0);
        for signal in [libc::SIGPIPE, libc::SIGTERM, libc::SIGINT, libc::SIGCHLD, libc::SIGRTMIN()] {
            libc::signal(signal, libc::SIG_IGN);
        }
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        // Refused to an unprivileged tester, who then tests less here.
        libc::setpriority(libc::PRIO_PROCESS, 0, -5);
        let batch: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const batch);
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut one);
        libc::sched_setaffinity(0, std::mem::size_of_val(&one), &raw const one);
    }
    Ok(())
}

#[test]
fn inherited_state_is_reset() {
    for user in [None, Some(NOBODY)] {
        let mut server = serve_with("agent", "native", user, spoil);
        let command = ["/usr/bin/cat", "/proc/self/status", "/proc/self/stat", "/proc/self/oom_score_adj"];
        let look = SandboxOrder { command: command.map(str::to_owned).to_vec(), ..order("") };
        let (_, text) = server.run(look);
        for line in ["SigIgn:\t0000000000000000", "SigBlk:\t0000000000000000", "Umask:\t0077"] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let processors = std::thread::available_parallelism().unwrap().get();
        let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap();
        assert!(processors == 1 || list != "0", "{list} of {processors}");
        let fields: Vec<_> = text.rsplit_once("(cat) ").unwrap().1.split_whitespace().collect();
        let (nice, policy) = (fields[19 - 3], fields[41 - 3]);
        assert_eq!(policy, "0", "{text}");
        assert!(nice.parse::<i32>().unwrap() >= 0, "{text}");
        assert!(text.ends_with("\n500\n"), "{text}");
        assert_eq!(server.shell("ls -m /proc/$$/fd"), "0, 1, 2\n");
    }
}

/// In nanoseconds, as the kernel tells it of a thread.
fn slice(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("se.slice")?.rsplit(' ').next()?.parse().ok())
}

fn takes_slices() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(12))
}

#[test]
fn the_server_is_sooner_at_a_processor_than_what_it_starts() {
    const SHORT: Option<u64> = Some(100_000);
    // The second launcher is the child of a thread that has the short slice already.
    for _ in 0..2 {
        let mut server = serve_with("agent", "native", None, || Ok(()));
        let command = ["/usr/bin/cat", "/proc/self/sched"].map(str::to_owned).to_vec();
        let inside = slice(&server.run(SandboxOrder { command, ..order("") }).1);
        let own = slice(&std::fs::read_to_string("/proc/thread-self/sched").unwrap_or_default());
        if !takes_slices() {
            println!("left out: this kernel has no slices of single threads");
            return;
        }
        assert_ne!(inside, SHORT);
        assert_eq!((inside.is_some(), own), (own.is_some(), own.and(SHORT)));
    }
}

/// As Linux 5.11: no mount_setattr.
fn older_kernel() -> std::io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let number = libc::SYS_mount_setattr as u32;
    let filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ) as u16, jt: 0, jf: 1, k: number },
        statement(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW),
    ];
    agentos_launcher::sys::set_no_new_privileges()?;
    agentos_launcher::seccomp::install(&filter)
}

#[test]
fn without_mount_setattr_the_mounts_forbid_the_same() {
    for user in [None, Some(NOBODY)] {
        let mut server = serve_with("agent", "native", user, older_kernel);
        let script = "touch /new /usr/new /etc/new 2>&1; head -c1 /proc/kcore; echo hello > /dev/null; exec /usr/bin/python3 -c '
import os
for path in (\"/\", \"/usr\", \"/tmp\", \"/dev/null\", \"/proc/sys\"): print(path, os.statvfs(path).f_flag & 15)
'";
        let full = SandboxOrder { proc: ProcView::MaskedFull, ..order(script) };
        let (end, text) = server.run(full);
        assert_eq!(end, End::Exited(0), "{text}");
        assert_eq!(text.matches("Read-only file system").count(), 3, "{text}");
        let [read_only, no_setuid, no_devices, no_programs] = [1, 2, 4, 8];
        for (target, flags) in [
            ("/", read_only | no_setuid | no_devices | no_programs),
            ("/usr", read_only | no_setuid | no_devices),
            ("/tmp", no_setuid | no_devices | no_programs),
            ("/dev/null", read_only | no_setuid | no_programs),
            ("/proc/sys", read_only | no_setuid | no_devices | no_programs),
        ] {
            assert!(text.lines().any(|line| line == format!("{target} {flags}")), "{target} {flags} in {text}");
        }
    }
}
