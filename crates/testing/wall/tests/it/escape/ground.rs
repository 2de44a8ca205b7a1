//! What an attacker looks for outside: a secret, services, a process of the same user. One for each sandbox.

use std::{
    fs,
    io::Write,
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{PermissionsExt, symlink},
            net::{SocketAddr, UnixListener},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use agentos_prober::Facts;
use tempfile::TempDir;

pub const OPEN_FILES: u64 = 64;
pub const PROCESSES: u64 = 48;
pub const FILE_BYTES: u64 = 16 << 20;
pub const TMP_BYTES: u64 = 12 << 20;
pub const TMP_INODES: u64 = 512;
pub const SHM_BYTES: u64 = 12 << 20;
pub const WORKSPACE_BYTES: u64 = 40 << 20;
pub const WORKSPACE_FILES: u64 = 512;

/// Ends with everything in it when dropped.
pub struct Ground {
    directory: TempDir,
    pub facts: Facts,
    victim: Child,
    semaphores: Option<String>,
    _sockets: (TcpListener, Option<TcpListener>, UnixListener, UnixListener),
}

impl Ground {
    /// `user` is who the sandbox is outside.
    pub fn new(user: u32) -> Self {
        // Not below /tmp, where a sandbox has something of its own.
        let directory = tempfile::Builder::new().prefix("wall-").tempdir_in("/var/tmp").unwrap();
        let at = |name: &str| directory.path().join(name);
        open_to_all(directory.path());
        for name in ["app", "workspace", "shared"] {
            fs::create_dir(at(name)).unwrap();
            open_to_all(&at(name));
        }
        fs::copy(program("agent-os-prober"), at("app/prober")).unwrap();
        open_to_all(&at("app/prober"));
        let secret = format!("secret-{}", directory.path().display());
        write_for_all(&at("secret"), &secret);
        symlink("/", at("app/root-of-host")).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let second = TcpListener::bind(("::1", port)).ok();
        let abstract_name = format!("wall-{}-{port}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let named = UnixListener::bind(at("socket")).unwrap();
        open_to_all(&at("socket"));
        let (semaphores, semaphore_key) = semaphores();
        let facts = Facts {
            secret_path: at("secret").display().to_string(),
            secret,
            host_directory: directory.path().display().to_string(),
            host_name: fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned(),
            host_process: 0,
            tcp_port: port,
            udp_port: echo(),
            abstract_name,
            socket_path: at("socket").display().to_string(),
            semaphore_key,
            raised_program: raised(&at("app/raised")),
            is_network_closed: true,
            file_bytes_max: FILE_BYTES,
            open_files_max: OPEN_FILES,
            processes_max: PROCESSES,
            tmp_bytes_max: TMP_BYTES,
            tmp_inodes_max: TMP_INODES,
            shm_bytes_max: SHM_BYTES,
            workspace_bytes_max: WORKSPACE_BYTES,
            workspace_files_max: WORKSPACE_FILES,
            memory_bytes_max: None,
        };
        let sockets = (tcp, second, UnixListener::bind_addr(&address).unwrap(), named);
        let mut ground = Self { directory, facts, victim: victim(user), semaphores, _sockets: sockets };
        ground.facts.host_process = i32::try_from(ground.victim.id()).unwrap();
        ground
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A program of the product.
    pub fn program(&self, name: &str) -> PathBuf {
        program(name)
    }

    pub fn victim_lives(&mut self) -> bool {
        self.victim.try_wait().unwrap().is_none()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        if let Some(number) = &self.semaphores {
            let _ = Command::new("ipcrm").args(["-s", number]).status();
        }
    }
}

/// Beside the tests, as cargo has built it.
fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.exists(), "{} is missing: run scripts/build-for-tests.sh", path.display());
    path
}

/// File rights are no wall here: whoever gets to the place may do everything.
fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
}

pub fn write_for_all(path: &Path, text: &str) {
    fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).unwrap();
    open_to_all(path);
}

fn victim(user: u32) -> Child {
    let mut command = Command::new("sleep");
    command.arg("600").stdin(Stdio::null());
    if rustix::process::geteuid().is_root() {
        command.uid(user).gid(user);
    }
    command.spawn().unwrap()
}

/// Answers each packet; ends with the test's process.
fn echo() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    port
}

/// Its number, and its key. A machine without the program has none that could be found.
fn semaphores() -> (Option<String>, i32) {
    let made = Command::new("ipcmk").args(["-S", "1", "-p", "0666"]).output();
    let text = made.map(|made| String::from_utf8_lossy(&made.stdout).into_owned()).unwrap_or_default();
    let Some(number) = text.trim().rsplit(' ').next().filter(|word| word.parse::<u32>().is_ok()) else {
        return (None, 1);
    };
    let table = fs::read_to_string("/proc/sysvipc/sem").unwrap();
    let row =
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|row| row.get(1) == Some(&number));
    let key = row.and_then(|row| row.first()?.parse().ok()).unwrap();
    (Some(number.to_owned()), key)
}

/// Only root can make a program of root with the setuid bit and all capabilities.
fn raised(path: &Path) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    fs::copy(program("agent-os-prober"), path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o6755)).unwrap();
    let capabilities: Vec<u8> =
        [0x0200_0001, u32::MAX, 0, u32::MAX, 0].into_iter().flat_map(u32::to_le_bytes).collect();
    let flags = rustix::fs::XattrFlags::empty();
    let _ = rustix::fs::setxattr(path, "security.capability", &capabilities, flags);
    Some("/app/raised".to_owned())
}
