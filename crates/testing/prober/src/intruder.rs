//! `agent-os-intruder`: what the AppArmor profiles close, tried where no other wall closes it.
//!
//! It takes no arguments, so that it can stand where an agent, a command or the egress proxy would. `scripts/vm/parts-armor`
//! puts what it looks for on a machine, leaves all other walls out, and compares what it says here with and without the
//! profiles. One line for each attempt: `intruder CLASS NAME open`, or `closed` with the reason.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::TcpListener,
    os::unix::{fs::chroot, net::UnixStream},
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use agentos_prober::kernel::{Errno, call};

/// Who is kept from it by a profile: everybody, the agent (and commands), the proxy; or nobody, because it is work. `raw` is
/// everybody too, but the machine's network, which the proxy has, is closed to it without any profile. `socket` is what only
/// kernels with AppArmor's mediation of Unix sockets could close.
struct Try {
    class: &'static str,
    name: &'static str,
    run: fn() -> io::Result<()>,
}

const fn try_(class: &'static str, name: &'static str, run: fn() -> io::Result<()>) -> Try {
    Try { class, name, run }
}

const TRIES: &[Try] = &[
    try_("both", "file-of-the-boot-loader", || read("/boot/file")),
    try_("both", "the-same-by-way-of-proc", || read("/proc/self/root/boot/file")),
    try_("both", "the-same-from-within", || std::env::set_current_dir("/boot").and_then(|()| read("file"))),
    try_("both", "list-of-the-boot-loader", || fs::read_dir("/boot").map(drop)),
    try_("both", "file-of-the-kernel", || read("/sys/kernel/uevent_seqnum")),
    try_("both", "disk", || read("/dev/vdb")),
    try_("both", "new-program-among-the-systems", make),
    try_("both", "namespace-of-names", || system_call(libc::SYS_unshare, &[libc::CLONE_NEWUTS as usize])),
    try_("raw", "raw-socket", || socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
    try_("agent", "netlink-socket", || socket(libc::AF_NETLINK, libc::SOCK_RAW, 0)),
    try_("proxy", "file-of-somebody-else", || read("/disk/shown/file")),
    try_("proxy", "file-in-a-home", || read("/root/private")),
    try_("proxy", "another-program", || execute("/disk/shown/busybox")),
    try_("socket", "container-manager", || UnixStream::connect("/run/docker/sock").map(drop)),
    try_("nobody", "own-status", || read("/proc/self/status")),
    try_("nobody", "null", || write("/dev/null")),
    try_("nobody", "tcp", || TcpListener::bind("127.0.0.1:0").map(drop)),
    // The last, because it changes what every path means.
    try_("both", "another-root", || chroot("/tmp")),
];

fn main() -> ExitCode {
    let mut lines = String::new();
    for Try { class, name, run } in TRIES {
        let outcome = match run() {
            Ok(()) => "open".to_owned(),
            Err(error) => format!("closed {}", Errno::of(&error).name()),
        };
        lines.push_str(&format!("intruder {class} {name} {outcome}\n"));
    }
    // Standard error is the one stream that an agent, a command and the proxy all have.
    match io::stderr().write_all(lines.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn read(path: &str) -> io::Result<()> {
    File::open(path)?.read_exact(&mut [0])
}

fn write(path: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(b"x")
}

/// Named after this program, because agent and proxy are there at the same time, and empty, because the proxy may write no
/// file at all.
fn make() -> io::Result<()> {
    let own = std::env::args_os().next().unwrap_or_default();
    let path = Path::new("/usr/lib/open").join(Path::new(&own).file_name().unwrap_or_default());
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    fs::remove_file(path)
}

fn execute(path: &str) -> io::Result<()> {
    let mut command = Command::new(Path::new(path));
    command.arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().map(drop)
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    let arguments = [family, kind | libc::SOCK_CLOEXEC, protocol].map(|number| number as usize);
    system_call(libc::SYS_socket, &arguments)
}

fn system_call(number: libc::c_long, arguments: &[usize]) -> io::Result<()> {
    call(number, arguments).map(drop).map_err(|Errno(number)| io::Error::from_raw_os_error(number))
}
