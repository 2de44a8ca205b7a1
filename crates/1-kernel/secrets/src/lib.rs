//! Secrets: sealed at rest, opened only for an executor at the last hop, known to the redactor while they live.
//!
//! No value ever leaves through an API, a log, an audit record or a worker's frame. A rotation keeps the old value as
//! `retiring`, so that it stays masked in whatever still prints it; revoking erases the sealed bytes of all versions. Until
//! the end of the process an erased value is masked too: a call that took it before may print it afterwards.

mod cipher;
mod replaced;
mod webhook;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use agentos_base::{
    Ambient,
    redact::{Redactor, SECRET_BYTES_MIN},
};
use agentos_failpoint::{Point, hit};
use agentos_store::{Arg, Conn, Store, Tx};
use agentos_types::{Actor, Code, Fault, Result, SecretName, Timestamp, audit::AuditEvent};
pub use cipher::SecretsKey;
pub use replaced::{count_replaced, prune_replaced};
pub use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
pub use webhook::{WEBHOOK_SIGNATURE_HEADER, webhook_signature};

/// Largest value: room for a private key or a service account file.
pub const SECRET_BYTES_MAX: usize = 16 * 1024;
/// Erased values that stay masked. A call holds one for minutes at most; a thousand changes take a person longer.
const ERASED_MASKED_MAX: usize = 1_000;

/// Takes the value out of every version of a secret.
const ERASE: &str = "UPDATE secret SET state = 'revoked', sealed = $2 WHERE name = $1 AND state <> 'revoked'";

/// A secret without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRow {
    pub name: SecretName,
    pub version: i64,
    pub state: String,
    pub created_by: String,
    pub created_at: Timestamp,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    store: Store,
    ambient: Ambient,
    key: Arc<SecretsKey>,
    redactor: Redactor,
    /// What the redactor knows: erased values, oldest first, then the live ones. Locked for each change: of two that
    /// overlap, the one that read earlier could leave the redactor without the other's value.
    masked: Arc<Mutex<Vec<SecretString>>>,
    /// Values that this process has replaced or revoked.
    changes: Arc<AtomicU64>,
}

/// What happens to the value that was active before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Previous {
    Erased,
    Retiring,
}

impl Secrets {
    /// Opens every stored secret once: a wrong key is found at the start, and the redactor knows all values before the
    /// first log line that could hold one.
    pub async fn open(store: Store, ambient: Ambient, key: SecretsKey, redactor: Redactor) -> Result<Self> {
        let secrets =
            Self { store, ambient, key: Arc::new(key), redactor, masked: Arc::default(), changes: Arc::default() };
        secrets.refresh_redactor(&mut *secrets.masked.lock().await, None).await?;
        Ok(secrets)
    }

    /// Stores a value and erases earlier ones.
    pub async fn set(&self, actor: &Actor, name: &SecretName, value: SecretString) -> Result<SecretRow> {
        self.put(actor, name, value, Previous::Erased, "secret.set").await
    }

    /// Stores a value and keeps the earlier one as `retiring`. Fails if there is none.
    pub async fn rotate(&self, actor: &Actor, name: &SecretName, value: SecretString) -> Result<SecretRow> {
        self.put(actor, name, value, Previous::Retiring, "secret.rotate").await
    }

    /// Grows with each change of a value by this process: whoever keeps a revealed one for a while knows by it that it may be
    /// another one now. Changes of other nodes are not counted.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Erases every version. Calls that need it fail from now on.
    pub async fn revoke(&self, actor: &Actor, name: &SecretName) -> Result<()> {
        let mut masked = self.masked.lock().await;
        let (ambient, actor, revoked) = (self.ambient.clone(), actor.clone(), name.clone());
        let erased = self
            .store
            .write(move |tx| {
                let erased = tx.execute(ERASE, &[(&revoked).into(), Arg::Bytes(&[])])?;
                if erased == 0 {
                    return Err(not_found(&revoked));
                }
                record(tx, &ambient, actor, "secret.revoke", &revoked);
                Ok(())
            })
            .await;
        self.changes.fetch_add(1, Ordering::AcqRel);
        erased?;
        self.refresh_redactor(&mut masked, None).await
    }

    /// Every version of every secret, without values.
    pub async fn list(&self) -> Result<Vec<SecretRow>> {
        self.store.read(|conn| rows(conn, None)).await
    }

    /// The active value, for an executor that is about to use it.
    pub async fn reveal(&self, name: &SecretName) -> Result<SecretString> {
        let (key, wanted) = (self.key.clone(), name.clone());
        self.store
            .read(move |conn| {
                let found = conn.query_one(
                    "SELECT version, sealed FROM secret WHERE name = $1 AND state = 'active'",
                    &[(&wanted).into()],
                    |row| Ok((row.integer(0)?, row.bytes(1)?)),
                )?;
                let (version, sealed) = found.ok_or_else(|| not_found(&wanted))?;
                key.open(wanted.as_str(), version, &sealed)
            })
            .await
    }

    async fn put(
        &self,
        actor: &Actor,
        name: &SecretName,
        value: SecretString,
        previous: Previous,
        action: &'static str,
    ) -> Result<SecretRow> {
        check_value(value.expose_secret())?;
        let mut masked = self.masked.lock().await;
        // Known before it is stored: a call may use it from the commit on.
        self.refresh_redactor(&mut masked, Some(&value)).await?;
        let (this, actor, name) = (self.clone(), actor.clone(), name.clone());
        let row = self.store.write(move |tx| this.replace(tx, actor, name, &value, previous, action)).await;
        self.changes.fetch_add(1, Ordering::AcqRel);
        hit(Point::SecretsChanged);
        self.refresh_redactor(&mut masked, None).await?;
        row
    }

    fn replace(
        &self,
        tx: &mut Tx<'_>,
        actor: Actor,
        name: SecretName,
        value: &SecretString,
        previous: Previous,
        action: &'static str,
    ) -> Result<SecretRow> {
        let newest = rows(tx, Some(&name))?.into_iter().map(|row| (row.version, row.state)).max();
        if previous == Previous::Retiring && newest.as_ref().is_none_or(|(_, state)| state != "active") {
            return Err(not_found(&name));
        }
        match previous {
            Previous::Erased => tx.execute(ERASE, &[(&name).into(), Arg::Bytes(&[])])?,
            Previous::Retiring => tx.execute(
                "UPDATE secret SET state = 'retiring' WHERE name = $1 AND state = 'active'",
                &[(&name).into()],
            )?,
        };
        let version = newest.map_or(1, |(version, _)| version + 1);
        let sealed = self.key.seal(name.as_str(), version, value, self.ambient.random())?;
        let (created_by, created_at) = (actor.label(), self.ambient.now());
        tx.execute(
            "INSERT INTO secret (name, version, state, key_id, sealed, created_by, created_at)
             VALUES ($1, $2, 'active', $3, $4, $5, $6)",
            &[
                (&name).into(),
                version.into(),
                SecretsKey::ID.into(),
                Arg::Bytes(&sealed),
                Arg::Text(&created_by),
                created_at.into(),
            ],
        )?;
        record(tx, &self.ambient, actor, action, &name);
        hit(Point::SecretsVersionInserted);
        Ok(SecretRow { name, version, state: "active".into(), created_by, created_at })
    }

    /// Hands every live value to the redactor, one that is about to live, and those that lived before.
    async fn refresh_redactor(&self, masked: &mut Vec<SecretString>, coming: Option<&SecretString>) -> Result<()> {
        let key = self.key.clone();
        let mut live = self
            .store
            .read(move |conn| {
                let live = conn.query(
                    "SELECT name, version, sealed FROM secret WHERE state <> 'revoked' ORDER BY name, version",
                    &[],
                    |row| Ok((row.text(0)?, row.integer(1)?, row.bytes(2)?)),
                )?;
                live.iter().map(|(name, version, sealed)| key.open(name, *version, sealed)).collect::<Result<Vec<_>>>()
            })
            .await?;
        masked.retain(|before| live.iter().all(|value| value.expose_secret() != before.expose_secret()));
        masked.drain(..masked.len().saturating_sub(ERASED_MASKED_MAX));
        masked.append(&mut live);
        self.redactor.know(masked.iter().chain(coming).map(|value| value.expose_secret()));
        Ok(())
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

fn rows(conn: &Conn<'_>, name: Option<&SecretName>) -> Result<Vec<SecretRow>> {
    conn.query(
        "SELECT name, version, state, created_by, created_at FROM secret
         WHERE name = $1 OR $1 IS NULL ORDER BY name, version LIMIT 10000",
        &[name.into()],
        |row| {
            Ok(SecretRow {
                name: row.parsed(0)?,
                version: row.integer(1)?,
                state: row.text(2)?,
                created_by: row.text(3)?,
                created_at: row.time(4)?,
            })
        },
    )
}

fn record(tx: &mut Tx<'_>, ambient: &Ambient, actor: Actor, action: &str, name: &SecretName) {
    let event = AuditEvent::new(ambient.event_id(), ambient.now(), actor, action, format!("secret:{name}"));
    tx.record(event);
}

fn check_value(value: &str) -> Result<()> {
    if (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&value.len()) {
        return Ok(());
    }
    Err(Fault::new(
        Code::SECRET_INVALID,
        format!("the value has {} bytes, outside {SECRET_BYTES_MIN}..={SECRET_BYTES_MAX}", value.len()),
    )
    .hint("a shorter value could not be masked in logs without masking ordinary words"))
}

fn not_found(name: &SecretName) -> Fault {
    Fault::new(Code::SECRET_NOT_FOUND, format!("no active secret is named '{name}'"))
        .hint(format!("set it with: agent-os secret set {name}"))
}
