//! The schema of a stopped installation: look at it, bring it up, take it back. A start of the server uses the same way
//! up. Whatever changes a database that holds something takes a backup first.

use std::path::{Path, PathBuf};

use agentos_base::Ambient;
use agentos_failpoint::{Point, hit};
use agentos_types::{Code, Fault, Result};

use crate::{
    Conn, Database, Dialect, Migration, Store, backup,
    link::Link,
    lock::DirectoryLock,
    migrate::{self, Applied, State},
    postgres, spool, sqlite,
    store::{apart, in_snapshot},
};

/// Who saw to it that the data can be had back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backup {
    /// One is taken before anything is changed.
    Take,
    /// The operator says that there is one.
    Taken,
    /// Nothing will stay: everything is done and taken back, to see whether it can be done.
    Trial,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Up,
    /// Reverts every migration above this number.
    Down(i64),
}

/// How the schema stands for this program.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Number of the newest applied migration.
    pub number: i64,
    /// In order of number.
    pub applied: Vec<Applied>,
    /// What this program would apply, in order.
    pub pending: Vec<&'static Migration>,
    /// Applied by a later program.
    pub unknown: Vec<i64>,
}

/// What a migration did.
#[derive(Clone, Debug)]
pub struct Migrated {
    pub from: i64,
    pub to: i64,
    /// In the order in which they were done.
    pub steps: Vec<i64>,
    pub backup: Option<PathBuf>,
}

/// Everything that a migration needs besides a connection that may do it.
pub(crate) struct Order<'o> {
    pub(crate) known: &'static [Migration],
    pub(crate) directory: &'o Path,
    pub(crate) database: Option<&'o Database>,
    pub(crate) ambient: &'o Ambient,
    pub(crate) backup: Backup,
}

/// Holds the locks of a stopped installation, so that no server starts meanwhile.
#[derive(Debug)]
pub struct Migrator {
    site: Site,
    /// Keeps the lock of the database as well.
    guard: Option<postgres::Link>,
    _lock: DirectoryLock,
}

/// What is migrated, and by whom.
#[derive(Debug)]
struct Site {
    directory: PathBuf,
    database: Option<Database>,
    ambient: Ambient,
    known: &'static [Migration],
}

impl Migrator {
    /// Fails with AOS-1101 while a server runs.
    pub fn open(directory: &Path, database: Option<Database>, ambient: Ambient) -> Result<Self> {
        Self::open_as(directory, database, ambient, migrate::MIGRATIONS)
    }

    /// As a program that knows other migrations, for tests of compatibility.
    #[doc(hidden)]
    pub fn open_as(
        directory: &Path,
        database: Option<Database>,
        ambient: Ambient,
        known: &'static [Migration],
    ) -> Result<Self> {
        let lock = DirectoryLock::take(&directory.join("store.lock"))?;
        let guard = database.as_ref().map(|database| {
            apart(|| {
                let mut link = postgres::Link::new(&database.server, postgres::Role::Writer, &ambient)?;
                link.connect().map(|()| link)
            })
        });
        let guard = guard.transpose()?;
        Ok(Self { site: Site { directory: directory.into(), database, ambient, known }, guard, _lock: lock })
    }

    /// Reads only. On Postgres as the admin role where it is given, else as the server's.
    pub fn schema(&self) -> Result<Schema> {
        let site = &self.site;
        apart(|| {
            let mut link = match &site.database {
                None => site.embedded()?,
                Some(database) => {
                    let target = database.admin.as_ref().unwrap_or(&database.server);
                    postgres::admin(target, &site.ambient)?
                }
            };
            in_snapshot(&mut link, |conn| migrate::state(conn, site.known)).map(Schema::from)
        })
    }

    /// What `migrate` would do that way, in order.
    pub fn plan(&self, way: Way) -> Result<Vec<&'static Migration>> {
        let Schema { applied, pending, unknown, .. } = self.schema()?;
        steps(&State { applied, pending, unknown }, self.site.known, way)
    }

    /// On Postgres only as the admin role.
    pub fn migrate(&self, way: Way, backup: Backup) -> Result<Migrated> {
        let site = &self.site;
        let order = Order {
            known: site.known,
            directory: &site.directory,
            database: site.database.as_ref(),
            ambient: &site.ambient,
            backup,
        };
        apart(|| {
            let mut link = match &site.database {
                None => site.embedded()?,
                Some(database) => postgres::admin(admin_of(database)?, &site.ambient)?,
            };
            migrate(&mut link, &order, way)
        })
    }

    /// Newest number that this program knows.
    pub fn known(&self) -> i64 {
        migrate::newest(self.site.known)
    }
}

impl Drop for Migrator {
    fn drop(&mut self) {
        // In order, so that a server can start at once.
        if let Some(guard) = self.guard.take() {
            let _ = apart(|| {
                guard.close();
                Ok(())
            });
        }
    }
}

impl Site {
    fn embedded(&self) -> Result<Link> {
        let path = self.directory.join(Store::FILE_NAME);
        // Opening would make a new one.
        if !path.exists() {
            return Err(Fault::new(Code::NOT_INITIALISED, format!("there is no database {}", path.display()))
                .hint("run: agent-os init, or set DATABASE_URL if the installation lives on Postgres"));
        }
        Link::sqlite_writer(&path)
    }
}

impl From<State> for Schema {
    fn from(state: State) -> Self {
        Self { number: state.schema(), applied: state.applied, pending: state.pending, unknown: state.unknown }
    }
}

fn admin_of(database: &Database) -> Result<&postgres::Target> {
    database.admin.as_ref().ok_or_else(|| {
        Fault::new(Code::STORE_ROLE, "the server's role may not migrate")
            .hint("set DATABASE_ADMIN_URL to the role that owns the tables")
    })
}

/// The migrations that lie on the way, in the order in which it passes them.
fn steps(state: &State, known: &'static [Migration], way: Way) -> Result<Vec<&'static Migration>> {
    match way {
        Way::Up => Ok(state.pending.clone()),
        Way::Down(target) => migrate::to_revert(state, known, target),
    }
}

/// Judges, backs up, and changes all in one transaction. The caller keeps every server out.
pub(crate) fn migrate(link: &mut Link, order: &Order<'_>, way: Way) -> Result<Migrated> {
    let before = in_snapshot(link, |conn| migrate::state(conn, order.known))?;
    let planned = steps(&before, order.known, way)?;
    if let (Way::Down(_), None) = (way, order.database) {
        spool::require_none(order.directory)?;
    }
    // A database without a schema has nothing to lose.
    let is_owed = order.backup == Backup::Take && !planned.is_empty() && !before.applied.is_empty();
    let backup = if is_owed { Some(back_up(link, order, before.schema())?) } else { None };
    link.begin_write()?;
    let outcome = change(&link.conn(), order, way);
    match outcome {
        Ok(steps) if order.backup == Backup::Trial => {
            link.roll_back();
            Ok(migrated(&before, &steps, way, None))
        }
        Ok(steps) => {
            if !steps.is_empty() {
                hit(Point::StoreMigrationComplete);
            }
            link.commit(&[])?;
            let done = migrated(&before, &steps, way, backup);
            if !steps.is_empty() {
                let path = done.backup.as_ref().map(|path| path.display().to_string());
                tracing::info!(from = done.from, to = done.to, backup = path, "the schema was changed");
            }
            Ok(done)
        }
        Err(fault) => {
            link.roll_back();
            Err(fault)
        }
    }
}

fn migrated(before: &State, steps: &[i64], way: Way, backup: Option<PathBuf>) -> Migrated {
    let from = before.schema();
    let to = match way {
        Way::Up => steps.last().copied().unwrap_or(from),
        Way::Down(_) => {
            let stays = before.applied.iter().map(|applied| applied.number).filter(|number| !steps.contains(number));
            stays.max().unwrap_or(0)
        }
    };
    Migrated { from, to, steps: steps.to_vec(), backup }
}

fn change(conn: &Conn<'_>, order: &Order<'_>, way: Way) -> Result<Vec<i64>> {
    if conn.dialect() == Dialect::Postgres {
        postgres::enter(conn)?;
    }
    let (steps, state) = match way {
        Way::Up => migrate::up(conn, order.known, order.ambient.now())?,
        Way::Down(target) => {
            let steps = migrate::down(conn, order.known, target)?;
            // A way down makes tables again, on which nobody has rights yet. Below the first there are none.
            if let Some(database) = order.database.filter(|_| target > 0) {
                postgres::grant(conn, &database.server.user)?;
            }
            return Ok(steps);
        }
    };
    // What an older program knows of the rights would take those of newer tables away, or give too many.
    if let Some(database) = order.database.filter(|_| state.unknown.is_empty()) {
        postgres::grant(conn, &database.server.user)?;
    }
    Ok(steps)
}

fn back_up(link: &mut Link, order: &Order<'_>, schema: i64) -> Result<PathBuf> {
    let (extension, bytes) = match order.database {
        None => ("db", sqlite::bytes(&order.directory.join(Store::FILE_NAME))),
        Some(_) => ("dump", in_snapshot(link, postgres::dump_bytes)?),
    };
    let subject = backup::Subject { directory: order.directory, schema, now: order.ambient.now(), extension, bytes };
    backup::take(&subject, |path| match (&*link, order.database) {
        (Link::Sqlite(connection), _) => sqlite::copy(connection, path),
        (Link::Postgres(_), Some(database)) => postgres::dump(admin_of(database)?, path),
        (Link::Postgres(_), None) => Err(Fault::internal("a connection to no database")),
    })
}
