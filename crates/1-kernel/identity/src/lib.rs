//! Who may use the gateway: bearer tokens with scopes and an end.
//!
//! A token is `aos_` + 256 random bits + a checksum, so that scanners recognise a leaked one and a typing error is told
//! from an unknown token without a look-up. Only its SHA-256 is stored: the token carries full entropy, so a slow hash
//! would add cost and no strength. It is found by its hash, hence no timing difference depends on the secret.
//!
//! Valid tokens are remembered for a moment (`remembered`): a change of one ends that before it is acknowledged.
//!
//! What a token may do are its scopes. A role is only the name under which they were given.

mod ended;
mod remembered;
mod request;
mod rotate;
mod token;

use std::sync::Arc;

use agentos_base::Ambient;
use agentos_failpoint::{Point, hit};
use agentos_store::{Arg, Row, Store, Tx};
use agentos_types::{
    Actor, AgentName, Code, Fault, Result, Role, Scope, Timestamp, TokenId, audit::AuditEvent, notify::Notice,
};
pub use ended::{count_ended, prune_ended};
use futures_util::{FutureExt, future::BoxFuture};
pub use remembered::REMEMBERED_FOR;
use remembered::{Hash, Looked, Remembered};
pub use request::{AGENTS_MAX, LIFE_DEFAULT, LIFE_MAX, NewToken};
pub use rotate::{OVERLAP_DEFAULT, OVERLAP_MAX, Rotation};
pub use token::Token;

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    pub id: TokenId,
    pub name: String,
    pub role: Option<Role>,
    pub scopes: Vec<Scope>,
    /// Agents that it may give work to by the scope `call`.
    pub agents: Vec<AgentName>,
    /// Names or patterns of the models that it may call by the scope `models`; empty: all.
    pub models: Vec<String>,
    /// First token of its line of rotations, itself if it is the first.
    pub family: TokenId,
    pub created_by: String,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tokens {
    store: Store,
    ambient: Ambient,
    remembered: Arc<Remembered>,
}

/// The columns that [`read`] reads.
macro_rules! columns {
    () => {
        "id, name, role, scopes, agents, family, created_by, created_at, expires_at, revoked_at, models"
    };
}

impl Tokens {
    pub fn new(store: Store, ambient: Ambient) -> Self {
        let remembered = Arc::new(Remembered::new(store.subscribe()));
        Self { store, ambient, remembered }
    }

    /// The row behind a presented token, if it is known, not expired and not revoked.
    pub async fn authenticate(&self, presented: &str) -> Result<Option<TokenRow>> {
        let Some(token) = Token::parse(presented) else { return Ok(None) };
        let hash = token.hash();
        let found = self.remembered.find(hash, || self.look_up(hash)).await?;
        // What is remembered may have ended since.
        let now = self.ambient.now();
        let living = found.filter(|row| row.expires_at.is_none_or(|end| end > now));
        Ok(living.map(|row| TokenRow::clone(&row)))
    }

    fn look_up(&self, hash: Hash) -> BoxFuture<'static, Looked> {
        let (store, now) = (self.store.clone(), self.ambient.now());
        let query = move |conn: &agentos_store::Conn<'_>| {
            conn.query_one(
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM token WHERE hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)"
                ),
                &[Arg::Bytes(&hash), now.into()],
                read,
            )
        };
        async move { Ok(store.read(query).await?.map(Arc::new)) }.boxed()
    }

    /// Makes a token. The returned text is shown once and stored nowhere.
    pub async fn create(&self, actor: &Actor, new: NewToken) -> Result<(Token, TokenRow)> {
        new.check()?;
        let token = Token::generate(self.ambient.random());
        let (id, now) = (self.ambient.token_id(), self.ambient.now());
        let row = TokenRow {
            family: id.clone(),
            id,
            name: new.name,
            role: new.role,
            scopes: new.scopes,
            agents: new.agents,
            models: new.models,
            created_by: actor.label(),
            created_at: now,
            expires_at: Some(now.after(new.life.unwrap_or(LIFE_DEFAULT))),
            revoked_at: None,
        };
        let (hash, stored, ambient, actor) = (token.hash(), row.clone(), self.ambient.clone(), actor.clone());
        self.store
            .write(move |tx| {
                insert(tx, &stored, &hash)?;
                let event =
                    AuditEvent::new(ambient.event_id(), ambient.now(), actor, "token.create", stored.id.as_str());
                tx.record(described(event, &stored));
                Ok(())
            })
            .await?;
        Ok((token, row))
    }

    /// From the next request on the token is refused.
    pub async fn revoke(&self, actor: &Actor, id: &TokenId) -> Result<TokenRow> {
        let (id, ambient, actor) = (id.clone(), self.ambient.clone(), actor.clone());
        self.store
            .write(move |tx| {
                tx.execute(
                    "UPDATE token SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
                    &[(&id).into(), ambient.now().into()],
                )?;
                let row = find(tx, &id)?;
                tx.announce(Notice::Tokens);
                tx.record(AuditEvent::new(ambient.event_id(), ambient.now(), actor, "token.revoke", id.as_str()));
                Ok(row)
            })
            .await
    }

    /// Newest first; revoked and expired ones stay visible.
    pub async fn list(&self) -> Result<Vec<TokenRow>> {
        self.store
            .read(|conn| {
                conn.query(concat!("SELECT ", columns!(), " FROM token ORDER BY id DESC LIMIT 10000"), &[], read)
            })
            .await
    }
}

fn find(tx: &Tx<'_>, id: &TokenId) -> Result<TokenRow> {
    let found = tx.query_one(concat!("SELECT ", columns!(), " FROM token WHERE id = $1"), &[id.into()], read)?;
    found.ok_or_else(|| Fault::new(Code::TOKEN_NOT_FOUND, format!("no token has the id {id}")))
}

fn insert(tx: &mut Tx<'_>, row: &TokenRow, hash: &[u8]) -> Result<()> {
    tx.execute(
        "INSERT INTO token (id, name, hash, role, scopes, agents, family, created_by, created_at, expires_at, models)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        &[
            (&row.id).into(),
            Arg::Text(&row.name),
            Arg::Bytes(hash),
            row.role.map(Role::as_str).into(),
            Arg::Text(&words(&row.scopes, |scope| scope.as_str())),
            Arg::Text(&words(&row.agents, AgentName::as_str)),
            (&row.family).into(),
            Arg::Text(&row.created_by),
            row.created_at.into(),
            row.expires_at.into(),
            Arg::Text(&words(&row.models, String::as_str)),
        ],
    )?;
    hit(Point::IdentityTokenInserted);
    Ok(())
}

/// What a record of a new token tells about its rights.
fn described(event: AuditEvent, row: &TokenRow) -> AuditEvent {
    let event = event.fact("name", row.name.clone()).fact("scopes", words(&row.scopes, |scope| scope.as_str()));
    let event = match row.role {
        Some(role) => event.fact("role", role.as_str()),
        None => event,
    };
    let event = if row.agents.is_empty() { event } else { event.fact("agents", words(&row.agents, AgentName::as_str)) };
    if row.models.is_empty() { event } else { event.fact("models", words(&row.models, String::as_str)) }
}

/// Scopes, names of agents and patterns of models hold no spaces.
fn words<T>(items: &[T], word: impl Fn(&T) -> &str) -> String {
    items.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn read(row: &Row<'_>) -> Result<TokenRow> {
    let (scopes, agents, models) = (row.text(3)?, row.text(4)?, row.text(10)?);
    Ok(TokenRow {
        id: row.parsed(0)?,
        name: row.text(1)?,
        role: row.text_or_null(2)?.as_deref().and_then(Role::parse),
        // A scope or an agent that this version cannot read grants nothing.
        scopes: Scope::ALL.into_iter().filter(|scope| scopes.split(' ').any(|held| held == scope.as_str())).collect(),
        agents: agents.split(' ').filter_map(|name| name.parse().ok()).collect(),
        models: models.split_whitespace().map(str::to_owned).collect(),
        family: row.parsed(5)?,
        created_by: row.text(6)?,
        created_at: row.time(7)?,
        expires_at: row.time_or_null(8)?,
        revoked_at: row.time_or_null(9)?,
    })
}
