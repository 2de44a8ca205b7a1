//! `init`: makes an installation. Keys are made once and never overwritten; a half-made directory is refused, not repaired.

use std::path::Path;

use agentos_audit::{LogIdentity, LogWriter};
use agentos_base::{
    Ambient,
    config::{self, Config},
    fs,
};
use agentos_failpoint::{Point, hit};
use agentos_identity::{NewToken, Tokens};
use agentos_store::{Arg, Database, Sequencer, Store, StoreOptions};
use agentos_trust::{SigningKeyFile, TrustRoot};
use agentos_types::{Actor, Code, Fault, Result, Role, Timestamp, hex};
use serde::{Deserialize, Serialize};

use crate::{layout::Layout, log_key::LogKeyFiles};

/// What `installation.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installation {
    pub schema: u32,
    /// Names the node in leases and the log of this node in checkpoints.
    pub node: String,
    pub created_at: Timestamp,
}

const INSTALLATION_SCHEMA: u32 = 1;
/// The command line's own token is renewed by `agent-os token create`; it must outlast a year of no use.
const CLI_TOKEN_LIFE: std::time::Duration = agentos_identity::LIFE_MAX;

impl Installation {
    pub fn load(layout: &Layout) -> Result<Self> {
        let path = layout.installation();
        let bytes = std::fs::read(&path).map_err(|_| {
            Fault::new(Code::NOT_INITIALISED, format!("{} is not an AgentOS data directory", layout.root().display()))
                .hint(format!("run: agent-os init --data-dir {}", layout.root().display()))
        })?;
        serde_json::from_slice(&bytes)
            .map_err(|source| Fault::new(Code::NOT_INITIALISED, format!("{}: {source}", path.display())))
    }

    /// The audit log of this node.
    pub fn log_identity(&self, layout: &Layout) -> Result<LogIdentity> {
        LogKeyFiles::new(layout).identity(&self.node)
    }
}

/// Makes keys, trust root, database and the command line's token.
pub async fn init(layout: &Layout, source: &config::Source, ambient: &Ambient) -> Result<Installation> {
    refuse_existing(layout)?;
    let database = database(&config::load(&layout.config(), source)?)?;
    fs::create_private_directory(layout.root())?;
    hit(Point::InitDirectoryMade);
    // Before any key is made: a password that is wrong must not leave a half-made installation behind.
    if database.is_some() {
        require_empty(&open_store(layout, database.clone(), ambient, None)?).await?;
    }
    for directory in [layout.keys(), layout.root().join("trust"), layout.packages(), layout.work()] {
        fs::create_private_directory(&directory)?;
    }
    let installation = Installation {
        schema: INSTALLATION_SCHEMA,
        node: format!("node-{:016x}", u64::from_le_bytes(ambient.random())),
        created_at: ambient.now(),
    };
    make_keys(layout, ambient)?;
    let identity = installation.log_identity(layout)?;
    fs::replace(&layout.audit_verifier_key(), format!("{}\n", identity.verifier_key()).as_bytes(), 0o644)?;
    crate::witness::cosigner(layout, ambient, &installation.node)?;
    hit(Point::InitKeysMade);
    make_database(layout, database, ambient, identity).await?;
    hit(Point::InitTokenWritten);
    write_config(&layout.config())?;
    hit(Point::InitConfigWritten);
    // Last, because its presence means that everything else stands.
    let bytes = serde_json::to_vec_pretty(&installation).map_err(Fault::internal)?;
    fs::replace(&layout.installation(), &bytes, 0o600)?;
    Ok(installation)
}

fn refuse_existing(layout: &Layout) -> Result<()> {
    if layout.installation().exists() {
        return Err(Fault::new(
            Code::ALREADY_INITIALISED,
            format!("{} holds an installation already", layout.root().display()),
        ));
    }
    if layout.keys().exists() {
        return Err(Fault::new(
            Code::ALREADY_INITIALISED,
            format!("{} holds keys of an installation that was not finished", layout.root().display()),
        )
        .hint("look at it, then move it away or choose an empty directory"));
    }
    Ok(())
}

fn make_keys(layout: &Layout, ambient: &Ambient) -> Result<()> {
    let root = SigningKeyFile::generate(&ambient.random());
    let publisher = SigningKeyFile::generate(&ambient.random());
    root.save(&layout.root_key())?;
    publisher.save(&layout.publisher_key())?;
    SigningKeyFile::generate(&ambient.random()).save(&layout.audit_key())?;
    let seal: [u8; 32] = ambient.random();
    fs::create_private(&layout.secrets_key(), hex::encode(&seal).as_bytes(), Code::SECRET_KEY_UNUSABLE)?;
    TrustRoot::create(&root, &publisher.public(), "operator", ambient.now())?.save(&layout.trust_root())
}

async fn make_database(
    layout: &Layout,
    database: Option<Database>,
    ambient: &Ambient,
    identity: LogIdentity,
) -> Result<()> {
    let writer = LogWriter::new(identity, ambient.clone());
    let store = open_store(layout, database, ambient, Some(Box::new(writer)))?;
    require_empty(&store).await?;
    let tokens = Tokens::new(store, ambient.clone());
    let made = NewToken { life: Some(CLI_TOKEN_LIFE), ..NewToken::of_role("command line", Role::Admin) };
    let (token, _) = tokens.create(&Actor::System, made).await?;
    hit(Point::InitDatabaseMade);
    fs::create_private(&layout.cli_token(), token.expose().as_bytes(), Code::STORE_UNAVAILABLE)
}

fn open_store(
    layout: &Layout,
    database: Option<Database>,
    ambient: &Ambient,
    sequencer: Option<Box<dyn Sequencer>>,
) -> Result<Store> {
    Store::open(StoreOptions {
        directory: layout.root().to_owned(),
        database,
        queue_max: 64,
        readers: 1,
        sequencer,
        ambient: ambient.clone(),
    })
}

async fn require_empty(store: &Store) -> Result<()> {
    if count_logs(store, None).await? == 0 {
        return Ok(());
    }
    Err(Fault::new(Code::ALREADY_INITIALISED, "the database holds an installation already")
        .hint("use the data directory that belongs to it, or an empty database"))
}

/// The database that the configuration names; none means the embedded one.
pub fn database(config: &Config) -> Result<Option<Database>> {
    match (config.database_url(), config.database_admin_url()) {
        (Some(url), admin_url) => Ok(Some(Database::parse(url, admin_url)?.keeping_time())),
        (None, None) => Ok(None),
        (None, Some(_)) => {
            Err(Fault::new(Code::CONFIG_INVALID_VALUE, "DATABASE_ADMIN_URL is set without DATABASE_URL")
                .hint("set both: the server itself never works as the admin role"))
        }
    }
}

/// Refuses a database that is not the one of this data directory: another one, or none yet.
pub async fn require_own(store: &Store, node: &str) -> Result<()> {
    if count_logs(store, Some(node.to_owned())).await? > 0 {
        return Ok(());
    }
    Err(Fault::new(Code::NOT_INITIALISED, "the database does not belong to this data directory")
        .hint("is DATABASE_URL the one that agent-os init was given?"))
}

/// Audit logs in the database: the first record of one is its installation.
async fn count_logs(store: &Store, node: Option<String>) -> Result<i64> {
    let count = move |conn: &agentos_store::Conn<'_>| {
        let sql = "SELECT count(*) FROM audit_frontier WHERE log = $1 OR $1 IS NULL";
        conn.query_one(sql, &[Arg::from(node.as_ref())], |row| row.integer(0))
    };
    Ok(store.read(count).await?.unwrap_or(0))
}

fn write_config(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let text = "# Settings of this installation. List all of them with: agent-os config schema\n";
    fs::replace(path, text.as_bytes(), 0o600)
}

/// Reads the key that seals secrets: 64 hex digits.
pub fn secrets_key(layout: &Layout) -> Result<[u8; 32]> {
    let path = layout.secrets_key();
    let text = fs::read_private(&path, Code::SECRET_KEY_UNUSABLE)?;
    let malformed = || Fault::new(Code::SECRET_KEY_UNUSABLE, format!("{} does not hold 64 hex digits", path.display()));
    let digits = std::str::from_utf8(&text).map_err(|_| malformed())?;
    hex::decode(digits.trim()).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_postgres_the_product_leaves_leases_to_the_clock_of_the_database() {
        let url = "postgres://server:password@localhost/agent_os".to_owned();
        let source = config::Source { environment: [("DATABASE_URL".to_owned(), url)].into(), flags: Vec::new() };
        let config = config::load(Path::new("/nonexistent/agent-os.toml"), &source).unwrap();
        assert!(database(&config).unwrap().unwrap().keeps_time());
    }
}
