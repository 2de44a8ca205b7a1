//! The throw-away cluster of one run of tests: made by the first test process, used by all, ended by a watcher.
//!
//! A run is all processes of one parent (the test runner). Everything lies in one directory; the lock beside it is held
//! while the cluster is made or ended, and each test process holds a shared lock on `users` as long as it lives. The
//! watcher ends the cluster when nobody does and the parent is gone, or after half a minute without a user.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt, process::parent_id},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::fs::{FlockOperation, flock};
use tokio_postgres::Config;

use crate::{client, programs};

/// The role that owns the tables, and the role of the server.
pub(crate) const ADMIN: &str = "agent_os_admin";
pub(crate) const SERVER: &str = "agent_os_server";

const COMMON: &str = "listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = 64MB
wal_level = minimal
max_wal_senders = 0
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
";
/// Speed over durability: only the machine's crash could lose anything, and then the tests are lost as well.
const FAST: &str = "fsync = off
full_page_writes = off
";
/// As it is by default, with room for a few minutes of work between two checkpoints.
const DURABLE: &str = "max_wal_size = 1GB
";

/// Arguments: directory, lock beside it, process of the runner.
const WATCHER: &str = r#"
idle=0
while :; do
  sleep 1
  gone=no; kill -0 "$3" 2>/dev/null || gone=yes
  if flock -n -x "$1/users" true; then idle=$((idle + 1)); else idle=0; fi
  if [ "$idle" -gt 30 ] || { [ "$idle" -gt 0 ] && [ "$gone" = yes ]; }; then
    exec flock -x "$2" sh -c '
      flock -n -x "$1/users" true || exec sh -c "$4" watcher "$1" "$2" "$3" "$4"
      kill -QUIT "$(head -n 1 "$1/data/postmaster.pid")"
      while [ -e "$1/data/postmaster.pid" ]; do sleep 0.1; done
      rm -rf "$1"
      kill -0 "$3" 2>/dev/null || rm -f "$2"
    ' end "$1" "$2" "$3" "$4"
  fi
done
"#;

#[derive(Debug)]
pub(crate) struct Cluster {
    directory: PathBuf,
    port: u16,
    superuser: String,
    _user: File,
}

/// Not secrets: the cluster is reachable from this machine alone, for the time of the tests.
pub(crate) fn password_of(role: &str) -> String {
    format!("{role}-password")
}

impl Cluster {
    pub(crate) fn of_this_run() -> &'static Self {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(|| {
            let runner = parent_id();
            let base = std::env::temp_dir();
            let directory = base.join(format!("agent-os-postgres-{runner}"));
            let lock_path = base.join(format!("agent-os-postgres-{runner}.lock"));
            let lock = open(&lock_path);
            flock(&lock, FlockOperation::LockExclusive).unwrap();
            if !directory.join("ready").exists() {
                make(&directory, &lock_path, runner);
            }
            let user = open(&directory.join("users"));
            flock(&user, FlockOperation::LockShared).unwrap();
            let mut ready = String::new();
            File::open(directory.join("ready")).unwrap().read_to_string(&mut ready).unwrap();
            let (port, superuser) = ready.split_once(' ').unwrap();
            Self { port: port.parse().unwrap(), superuser: superuser.to_owned(), directory, _user: user }
        })
    }

    pub(crate) fn url(&self, role: &str, password: &str, database: &str) -> String {
        format!("postgres://{role}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) fn run(&self, database: &str, sql: &str) {
        self.try_run(database, sql).unwrap();
    }

    pub(crate) fn try_run(&self, database: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
        client::ask(self.superuser(database), sql.to_owned()).map(drop)
    }

    pub(crate) fn ask(&self, database: &str, sql: &str) -> Option<String> {
        client::ask(self.superuser(database), sql.to_owned()).unwrap()
    }

    pub(crate) fn superuser_password(&self) -> &str {
        &self.superuser
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.join("authority.pem")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn socket_directory(&self) -> &Path {
        &self.directory
    }

    /// Name of a database that a test has given back.
    pub(crate) fn take_used(&self) -> Option<String> {
        let used = fs::read_dir(self.directory.join("used")).unwrap();
        // Two tests may see the same one; only one of them removes it.
        used.flatten()
            .find(|entry| fs::remove_file(entry.path()).is_ok())
            .map(|entry| entry.file_name().into_string().unwrap())
    }

    pub(crate) fn give_back(&self, name: &str) {
        fs::write(self.directory.join("used").join(name), "").unwrap();
    }

    fn superuser(&self, database: &str) -> Config {
        superuser(self.port, &self.superuser, database)
    }
}

fn superuser(port: u16, password: &str, database: &str) -> Config {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user("postgres").password(password).dbname(database);
    config.ssl_mode(tokio_postgres::config::SslMode::Disable);
    config
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

/// A cluster of its own that is as durable as the disk, for measurements. Ends when it is dropped.
#[derive(Debug)]
pub struct DurableCluster {
    cluster: Cluster,
    count: AtomicU32,
}

impl DurableCluster {
    /// In a directory that everybody may pass through.
    pub fn start(directory: &Path) -> Self {
        let directory = directory.join("postgres");
        let (port, superuser) = start(&directory, DURABLE);
        let user = open(&directory.join("users"));
        let cluster = Cluster { directory, port, superuser, _user: user };
        Self { cluster, count: AtomicU32::new(0) }
    }

    /// URLs of the server's role and of the owner for a database that nobody has used.
    pub fn database(&self) -> (String, String) {
        let name = format!("b_{}", self.count.fetch_add(1, Ordering::SeqCst));
        self.cluster.run("postgres", &format!("CREATE DATABASE {name} OWNER {ADMIN} TEMPLATE template0"));
        let url = |role| self.cluster.url(role, &password_of(role), &name);
        (url(SERVER), url(ADMIN))
    }
}

/// For the end of the processes of a killed server, and for its return.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

impl DurableCluster {
    pub fn port(&self) -> u16 {
        self.cluster.port
    }

    /// SIGKILL to the server's first process, as the kernel does when memory runs out. The others end when they see it.
    pub fn kill(&self) {
        let data = self.cluster.directory.join("data");
        let pid_file = data.join("postmaster.pid");
        let text = fs::read_to_string(&pid_file).unwrap();
        let pid = text.lines().next().and_then(|line| rustix::process::Pid::from_raw(line.parse().ok()?)).unwrap();
        let group = children_of(pid.as_raw_nonzero().get());
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let until = std::time::Instant::now() + PATIENCE;
        while group.iter().any(|child| is_running(*child)) {
            assert!(std::time::Instant::now() < until, "processes of a killed Postgres do not end");
            std::thread::yield_now();
        }
        // Where nobody buries the dead, the number still exists and the next start would take it for a running server.
        let _ = fs::remove_file(pid_file);
        let socket = self.cluster.directory.join(format!(".s.PGSQL.{}", self.cluster.port));
        let _ = fs::remove_file(socket.with_extension(format!("{}.lock", self.cluster.port)));
        let _ = fs::remove_file(socket);
    }

    /// The same cluster again, on the same port; it recovers from its log first.
    pub fn start_again(&self) {
        let mut start = programs::command("pg_ctl");
        start.args(["start", "--wait", "--silent", "--pgdata"]).arg(self.cluster.directory.join("data"));
        start.arg("--log").arg(self.cluster.directory.join("log"));
        succeed(&mut start);
    }
}

fn children_of(parent: i32) -> Vec<i32> {
    let stat = |pid: i32| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let parent_of = |pid: i32| stat(pid)?.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<i32>().ok();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// Alive, and not only waiting to be buried.
fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

impl Drop for DurableCluster {
    fn drop(&mut self) {
        let mut stop = programs::command("pg_ctl");
        stop.args(["stop", "--wait", "--silent", "--mode=immediate", "--pgdata"])
            .arg(self.cluster.directory.join("data"));
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn make(directory: &Path, lock: &Path, runner: u32) {
    let (port, secret) = start(directory, FAST);
    open(&directory.join("users"));
    fs::create_dir(directory.join("used")).unwrap();
    watch(directory, lock, runner);
    // Last, because its presence means that everything else stands.
    fs::write(directory.join("ready"), format!("{port} {secret}")).unwrap();
}

fn start(directory: &Path, settings: &str) -> (u16, String) {
    // What a run that was killed has left.
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    let data = directory.join("data");
    let secret = password_of("postgres");
    let password_file = directory.join("password");
    fs::write(&password_file, &secret).unwrap();
    own(directory);
    own(&password_file);
    let mut initdb = programs::command("initdb");
    initdb.args(["--no-sync", "--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]);
    initdb.arg("--pwfile").arg(&password_file).arg("--pgdata").arg(&data);
    succeed(&mut initdb);
    certificate(directory, &data);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut file = OpenOptions::new().append(true).open(data.join("postgresql.conf")).unwrap();
    write!(file, "{COMMON}{settings}port = {port}\nunix_socket_directories = '{}'\n", directory.display()).unwrap();
    let mut start = programs::command("pg_ctl");
    start.args(["start", "--wait", "--silent", "--pgdata"]).arg(&data).arg("--log").arg(directory.join("log"));
    succeed(&mut start);
    let roles = [ADMIN, SERVER].map(|role| format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", password_of(role)));
    client::ask(superuser(port, &secret, "postgres"), roles.join("; ")).unwrap();
    (port, secret)
}

fn watch(directory: &Path, lock: &Path, runner: u32) {
    let mut watcher = Command::new("setsid");
    // Forks and ends: the watcher has no parent among the tests.
    watcher
        .args(["--fork", "sh", "-c", WATCHER, "watcher"])
        .arg(directory)
        .arg(lock)
        .arg(runner.to_string())
        .arg(WATCHER);
    watcher.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/").process_group(0);
    assert!(watcher.status().expect("setsid of util-linux").success());
}

fn certificate(directory: &Path, data: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem();
    for (path, text) in [
        (directory.join("authority.pem"), &certificate),
        (data.join("server.crt"), &certificate),
        (data.join("server.key"), &key.serialize_pem()),
    ] {
        fs::write(&path, text).unwrap();
        let mode = if path.ends_with("server.key") { 0o600 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        own(&path);
    }
}

/// Gives a file to the user who runs the server.
fn own(path: &Path) {
    if let Some(user) = programs::other_user() {
        std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    }
}

/// Output goes to files: a server that is started inherits it and would keep the runner's pipes open.
fn succeed(command: &mut Command) {
    let mut log = std::env::temp_dir();
    log.push(format!("agent-os-postgres-{}.log", std::process::id()));
    let file = File::create(&log).unwrap();
    command.stdout(file.try_clone().unwrap()).stderr(file);
    let status = command.status().unwrap_or_else(|source| panic!("{command:?}: {source}"));
    let text = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::remove_file(&log);
    assert!(status.success(), "{command:?}: {text}");
}
