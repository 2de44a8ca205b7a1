//! A database of its own for each test, on either back end.
//!
//! Postgres is a throw-away cluster that the first test of a run makes with `initdb` and that all tests of the run share;
//! it ends by itself when the run is over. A test that needs Postgres and finds none fails and says what to install or
//! how to leave these tests out: it never passes without having run. [`Proxy`] stands between a server and its database
//! when the way there is what a test is about.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture that cannot be made fails the test"
)]

mod client;
mod cluster;
mod programs;
mod proxy;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use cluster::Cluster;
pub use cluster::DurableCluster;
pub use proxy::{Arrives, CutAt, Proxy, Rules, Way};

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    /// A database without a row. On Postgres an earlier test may have brought its schema up to date already, because
    /// making a database costs more than most tests.
    pub fn scratch(self) -> Scratch {
        match self {
            Self::Sqlite => Scratch { database: None },
            Self::Postgres => Scratch { database: Some(ScratchDatabase::take()) },
        }
    }

    /// A database that nobody has touched, for tests of migrations and rights.
    pub fn blank(self) -> Scratch {
        match self {
            Self::Sqlite => Scratch { database: None },
            Self::Postgres => Scratch { database: Some(ScratchDatabase::create(true)) },
        }
    }
}

/// A database that goes away with this value. On SQLite it is a file in the directory of the test, and nothing here.
#[derive(Debug)]
pub struct Scratch {
    database: Option<ScratchDatabase>,
}

impl Scratch {
    /// URLs of the server's role and of the role that owns the tables, on Postgres.
    pub fn urls(&self) -> Option<(&str, &str)> {
        self.database.as_ref().map(|database| (database.url.as_str(), database.admin_url.as_str()))
    }

    /// The Postgres behind it.
    pub fn postgres(&self) -> &ScratchDatabase {
        self.database.as_ref().expect("this test runs on SQLite")
    }
}

/// One database of the cluster.
#[derive(Debug)]
pub struct ScratchDatabase {
    name: String,
    pub url: String,
    pub admin_url: String,
    cluster: &'static Cluster,
    /// Not to be used again.
    spent: AtomicBool,
}

impl ScratchDatabase {
    fn take() -> Self {
        let cluster = Cluster::of_this_run();
        match cluster.take_used() {
            Some(name) => Self::at(cluster, name, false),
            None => Self::create(false),
        }
    }

    fn create(spent: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let cluster = Cluster::of_this_run();
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("t_{}_{number}", std::process::id());
        cluster.run("postgres", &format!("CREATE DATABASE {name} OWNER {} TEMPLATE template0", cluster::ADMIN));
        Self::at(cluster, name, spent)
    }

    fn at(cluster: &'static Cluster, name: String, spent: bool) -> Self {
        let url = |role| cluster.url(role, &cluster::password_of(role), &name);
        let (url, admin_url) = (url(cluster::SERVER), url(cluster::ADMIN));
        Self { url, admin_url, name, cluster, spent: AtomicBool::new(spent) }
    }

    /// URL of another role.
    pub fn url_as(&self, role: &str, password: &str) -> String {
        self.cluster.url(role, password, &self.name)
    }

    /// Runs statements as the superuser, behind everybody's back.
    pub fn run(&self, sql: &str) {
        self.spent.store(true, Ordering::SeqCst);
        self.cluster.run(&self.name, sql);
    }

    /// Clears dead row versions now, and not when the server pleases.
    pub fn vacuum(&self) {
        self.cluster.run(&self.name, "VACUUM");
    }

    /// The first column of the last row that a superuser sees.
    pub fn ask(&self, sql: &str) -> Option<String> {
        self.cluster.ask(&self.name, sql)
    }

    /// The schema, without what differs from call to call.
    pub fn schema_dump(&self) -> String {
        self.dump(&["--schema-only", "--no-comments"])
    }

    /// Every row of every table as text, followed by every value of bytes as it is.
    pub fn data_dump(&self) -> Vec<u8> {
        let text = self.dump(&["--data-only", "--inserts"]);
        let mut dump = text.clone().into_bytes();
        for value in text.split("\\x").skip(1) {
            let digits: Vec<u8> = value.bytes().take_while(u8::is_ascii_hexdigit).collect();
            let pairs = digits.chunks_exact(2).filter_map(|pair| std::str::from_utf8(pair).ok());
            dump.extend(pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()));
        }
        dump
    }

    /// Schema and rows as statements that [`ScratchDatabase::run`] takes.
    pub fn whole_dump(&self) -> String {
        self.dump(&["--inserts", "--no-comments"])
    }

    /// Puts a backup in the custom format into this database.
    pub fn restore(&self, backup: &Path) {
        let url = self.url_as("postgres", self.cluster.superuser_password());
        // Read here: the program runs as another user, whom the backup keeps out.
        let file = std::fs::File::open(backup).unwrap();
        let mut restore = programs::command("pg_restore");
        let output = restore.args(["--exit-on-error", "--dbname"]).arg(&url).stdin(file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn dump(&self, arguments: &[&str]) -> String {
        let url = self.url_as("postgres", self.cluster.superuser_password());
        let output = programs::command("pg_dump").args(arguments).arg(&url).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Ends every connection to this database, as a restart of the server would.
    pub fn disconnect_all(&self) {
        self.cluster.run(
            "postgres",
            &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", self.name),
        );
    }

    /// Lets nobody in from now on, or everybody again.
    pub fn refuse_connections(&self, refuse: bool) {
        self.cluster.run("postgres", &format!("ALTER DATABASE {} ALLOW_CONNECTIONS {}", self.name, !refuse));
    }

    /// Certificate of the authority that signed the server's.
    pub fn authority(&self) -> PathBuf {
        self.cluster.authority()
    }

    /// Address of the server.
    pub fn port(&self) -> u16 {
        self.cluster.port()
    }

    /// Directory of the server's socket.
    pub fn socket_directory(&self) -> &Path {
        self.cluster.socket_directory()
    }
}

impl Drop for ScratchDatabase {
    fn drop(&mut self) {
        // A failing test already says why; the cluster goes away with whatever is left.
        let spent = self.spent.load(Ordering::SeqCst) || std::thread::panicking();
        if !spent && self.cluster.try_run(&self.name, EMPTY).is_ok() {
            self.cluster.give_back(&self.name);
        } else {
            let _ = self.cluster.try_run("postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}

/// Takes every session and every row away; the schema and the memory of its migrations stay.
const EMPTY: &str = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid();
SET session_replication_role = replica;
DO $$ DECLARE held record; BEGIN
  FOR held IN SELECT tablename FROM pg_tables WHERE schemaname = 'agent_os' AND tablename <> 'schema_migration' LOOP
    EXECUTE format('DELETE FROM agent_os.%I', held.tablename);
  END LOOP;
END $$";
