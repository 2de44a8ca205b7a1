//! The document of models in force on this node: read at the start, replaced as a whole by a revision of its own, followed when
//! another node replaces it. A revision that this program cannot use is told of, and the one before stays in force.

use agentos_base::Ambient;
use agentos_catalog::Catalog;
use agentos_router::{Config, Document, Router};
use agentos_store::{Conn, Store, Tx};
use agentos_types::{Actor, Code, Fault, Result, Timestamp, audit::AuditEvent, hex, notify::Notice};
use sha2::{Digest, Sha256};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

/// Earlier documents that are kept to look back on.
const REVISIONS_KEPT: i64 = 100;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct ModelDocument {
    store: Store,
    ambient: Ambient,
    catalog: Catalog,
    pub router: Router,
}

/// One revision as it is stored.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub revision: i64,
    /// JSON.
    pub text: String,
    pub set_by: Option<String>,
    pub set_at: Option<Timestamp>,
}

/// Who changes the document, and from what.
#[derive(Clone, Debug)]
pub struct Change {
    pub actor: Actor,
    pub request_id: String,
    /// `models.set`, `model.disable`, `provider.set`.
    pub action: &'static str,
    pub resource: String,
    /// The revision that it was made from; `None` takes the one in force.
    pub from: Option<i64>,
}

impl ModelDocument {
    pub async fn open(store: Store, ambient: Ambient) -> Result<Self> {
        let catalog = Catalog::vendored()?;
        let stored = store.read(newest).await?;
        let config = compile(&stored, &catalog).or_else(|fault| {
            tracing::error!(%fault, revision = stored.revision, "the stored document of models cannot be used; no model can be called");
            Config::new(Document::default(), catalog.clone(), 0)
        })?;
        Ok(Self { store, ambient, catalog, router: Router::new(config) })
    }

    pub async fn stored(&self) -> Result<Stored> {
        self.store.read(newest).await
    }

    /// Changes the newest document and puts the result in force. `edit` may be asked more than once, when somebody else was
    /// faster and no revision was named.
    pub async fn change(&self, change: Change, edit: impl Fn(&mut Document) -> Result<()>) -> Result<Stored> {
        const ROUNDS_MAX: usize = 5;
        for _ in 0..ROUNDS_MAX {
            let before = self.stored().await?;
            if change.from.is_some_and(|from| from != before.revision) {
                return Err(changed(before.revision));
            }
            let mut document = document_of(&before)?;
            edit(&mut document)?;
            let text = serde_json::to_string(&document).map_err(Fault::internal)?;
            let revision = before.revision + 1;
            // Compiled before it is stored: what cannot be used is never in force anywhere.
            let config = Config::new(document, self.catalog.clone(), number(revision))?;
            let stored =
                Stored { revision, text, set_by: Some(change.actor.label()), set_at: Some(self.ambient.now()) };
            if self.write(&change, &stored).await? {
                self.swap(config);
                return Ok(stored);
            }
        }
        Err(changed(self.stored().await?.revision))
    }

    /// False if somebody else has stored this revision.
    async fn write(&self, change: &Change, stored: &Stored) -> Result<bool> {
        let sha256 = hex::encode(&Sha256::digest(stored.text.as_bytes()));
        let event = AuditEvent::new(
            self.ambient.event_id(),
            self.ambient.now(),
            change.actor.clone(),
            change.action,
            change.resource.clone(),
        )
        .correlation(change.request_id.as_str())
        .fact("revision", stored.revision)
        .fact("document_sha256", sha256);
        let stored = stored.clone();
        let work = move |tx: &mut Tx<'_>| {
            if !insert(tx, &stored)? {
                return Ok(false);
            }
            tx.record(event);
            tx.announce(Notice::Models);
            Ok(true)
        };
        self.store.write(work).await
    }

    /// Never back to an older one: the answer to a change and the hint of a newer one may cross.
    fn swap(&self, config: Config) {
        if config.revision() > self.router.config().revision() {
            self.router.swap(config);
        }
    }

    /// Puts in force what other nodes have stored.
    pub async fn follow(self, mut notices: broadcast::Receiver<Notice>, shutdown: CancellationToken) {
        loop {
            let notice = tokio::select! {
                () = shutdown.cancelled() => return,
                notice = notices.recv() => notice,
            };
            match notice {
                Ok(Notice::Models | Notice::Missed) | Err(RecvError::Lagged(_)) => {
                    if let Err(fault) = self.refresh().await {
                        tracing::error!(%fault, detail = fault.detail, "a new document of models cannot be used; the one before stays");
                    }
                }
                Ok(_) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn refresh(&self) -> Result<()> {
        let stored = self.stored().await?;
        if number(stored.revision) > self.router.config().revision() {
            self.swap(compile(&stored, &self.catalog)?);
        }
        Ok(())
    }
}

fn changed(revision: i64) -> Fault {
    Fault::new(Code::MODELS_CHANGED, format!("the document of models is at revision {revision} by now"))
        .hint("read it again and make the change in what it says now")
        .fact("revision", revision)
}

fn number(revision: i64) -> u64 {
    revision.unsigned_abs()
}

fn compile(stored: &Stored, catalog: &Catalog) -> Result<Config> {
    Config::new(document_of(stored)?, catalog.clone(), number(stored.revision))
}

fn document_of(stored: &Stored) -> Result<Document> {
    if stored.revision == 0 { Ok(Document::default()) } else { Document::from_json(&stored.text) }
}

fn newest(conn: &Conn<'_>) -> Result<Stored> {
    let found = conn.query_one(
        "SELECT revision, document, set_by, set_at FROM model_config ORDER BY revision DESC LIMIT 1",
        &[],
        |row| {
            let (set_by, set_at) = (Some(row.text(2)?), Some(row.time(3)?));
            Ok(Stored { revision: row.integer(0)?, text: row.text(1)?, set_by, set_at })
        },
    )?;
    Ok(found.unwrap_or_default())
}

fn insert(tx: &Tx<'_>, stored: &Stored) -> Result<bool> {
    let added = tx.execute(
        "INSERT INTO model_config (revision, document, set_by, set_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (revision) DO NOTHING",
        &[
            stored.revision.into(),
            stored.text.as_str().into(),
            stored.set_by.as_deref().into(),
            stored.set_at.unwrap_or_default().0.into(),
        ],
    )?;
    tx.execute("DELETE FROM model_config WHERE revision <= $1", &[(stored.revision - REVISIONS_KEPT).into()])?;
    Ok(added > 0)
}
