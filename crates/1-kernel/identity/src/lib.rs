//! Who may use the gateway: bearer tokens with scopes and an end.
//!
//! A token is `aos_` + 256 random bits + a checksum, so that scanners recognise a leaked one and a typing error is told
//! from an unknown token without a look-up. Only its SHA-256 is stored: the token carries full entropy, so a slow hash
//! would add cost and no strength. It is found by its hash, hence no timing difference depends on the secret.

mod token;

use std::time::Duration;

use agentos_base::Ambient;
use agentos_store::{Arg, Row, Store, Tx};
use agentos_types::{Actor, Code, Fault, Result, Scope, Timestamp, TokenId, audit::AuditEvent};
pub use token::Token;

/// Life of a token whose maker named none.
pub const LIFE_DEFAULT: Duration = Duration::from_secs(90 * 86_400);
/// Longest life: what never ends is never rotated.
pub const LIFE_MAX: Duration = Duration::from_secs(366 * 86_400);
const NAME_CHARS_MAX: usize = 100;

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    pub id: TokenId,
    pub name: String,
    pub scopes: Vec<Scope>,
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
}

impl Tokens {
    pub fn new(store: Store, ambient: Ambient) -> Self {
        Self { store, ambient }
    }

    /// The row behind a presented token, if it is known, not expired and not revoked.
    pub async fn authenticate(&self, presented: &str) -> Result<Option<TokenRow>> {
        let Some(token) = Token::parse(presented) else { return Ok(None) };
        let (hash, now) = (token.hash(), self.ambient.now());
        self.store
            .read(move |conn| {
                conn.query_one(
                    "SELECT id, name, scopes, created_by, created_at, expires_at, revoked_at FROM token
                     WHERE hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)",
                    &[Arg::Bytes(&hash), now.into()],
                    read,
                )
            })
            .await
    }

    /// Makes a token. The returned text is shown once and stored nowhere.
    pub async fn create(
        &self,
        actor: &Actor,
        name: &str,
        scopes: &[Scope],
        life: Option<Duration>,
    ) -> Result<(Token, TokenRow)> {
        let life = life.unwrap_or(LIFE_DEFAULT);
        check_request(name, scopes, life)?;
        let token = Token::generate(self.ambient.random());
        let now = self.ambient.now();
        let row = TokenRow {
            id: self.ambient.token_id(),
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            created_by: actor.label(),
            created_at: now,
            expires_at: Some(now.after(life)),
            revoked_at: None,
        };
        let (hash, stored, ambient, actor) = (token.hash(), row.clone(), self.ambient.clone(), actor.clone());
        self.store.write(move |tx| insert(tx, &ambient, actor, &stored, &hash)).await?;
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
                let row = tx.query_one(
                    "SELECT id, name, scopes, created_by, created_at, expires_at, revoked_at FROM token WHERE id = $1",
                    &[(&id).into()],
                    read,
                )?;
                let row = row.ok_or_else(|| Fault::new(Code::TOKEN_NOT_FOUND, format!("no token has the id {id}")))?;
                tx.record(AuditEvent::new(ambient.event_id(), ambient.now(), actor, "token.revoke", id.as_str()));
                Ok(row)
            })
            .await
    }

    /// Newest first; revoked and expired ones stay visible.
    pub async fn list(&self) -> Result<Vec<TokenRow>> {
        self.store
            .read(|conn| {
                conn.query(
                    "SELECT id, name, scopes, created_by, created_at, expires_at, revoked_at FROM token
                     ORDER BY id DESC LIMIT 10000",
                    &[],
                    read,
                )
            })
            .await
    }
}

fn insert(tx: &mut Tx<'_>, ambient: &Ambient, actor: Actor, row: &TokenRow, hash: &[u8]) -> Result<()> {
    let scopes = row.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ");
    tx.execute(
        "INSERT INTO token (id, name, hash, scopes, created_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            (&row.id).into(),
            Arg::Text(&row.name),
            Arg::Bytes(hash),
            Arg::Text(&scopes),
            Arg::Text(&row.created_by),
            row.created_at.into(),
            row.expires_at.into(),
        ],
    )?;
    let event = AuditEvent::new(ambient.event_id(), ambient.now(), actor, "token.create", row.id.as_str());
    tx.record(event.fact("name", row.name.clone()).fact("scopes", scopes));
    Ok(())
}

fn read(row: &Row<'_>) -> Result<TokenRow> {
    let scopes = row.text(2)?;
    Ok(TokenRow {
        id: row.parsed(0)?,
        name: row.text(1)?,
        // A scope that this version does not know grants nothing.
        scopes: Scope::ALL.into_iter().filter(|scope| scopes.split(' ').any(|held| held == scope.as_str())).collect(),
        created_by: row.text(3)?,
        created_at: row.time(4)?,
        expires_at: row.time_or_null(5)?,
        revoked_at: row.time_or_null(6)?,
    })
}

fn check_request(name: &str, scopes: &[Scope], life: Duration) -> Result<()> {
    let refuse = |what: String| Err(Fault::new(Code::BODY_INVALID, what));
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return refuse(format!("a token's name has 1 to {NAME_CHARS_MAX} characters"));
    }
    if scopes.is_empty() {
        return refuse("a token needs at least one scope".into());
    }
    if life.is_zero() || life > LIFE_MAX {
        return refuse(format!("a token lives 1 to {} seconds", LIFE_MAX.as_secs()));
    }
    Ok(())
}
