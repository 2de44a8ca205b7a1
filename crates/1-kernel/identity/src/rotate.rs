//! Rotation: a successor with the same name and rights, and an end for the old token that leaves time to swap them.

use std::time::Duration;

use agentos_store::Tx;
use agentos_types::{Actor, Code, Fault, Result, Timestamp, TokenId, audit::AuditEvent, notify::Notice};

use crate::{LIFE_DEFAULT, Token, TokenRow, Tokens, find, insert, request::check_life};

/// How long the old token works on when nobody says how long.
pub const OVERLAP_DEFAULT: Duration = Duration::from_secs(3_600);
/// Two tokens that live longer side by side are two tokens, not a rotation.
pub const OVERLAP_MAX: Duration = Duration::from_secs(30 * 86_400);

/// How a token is rotated.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    pub overlap: Duration,
    /// Life of the successor; that of the old token if absent.
    pub life: Option<Duration>,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { overlap: OVERLAP_DEFAULT, life: None }
    }
}

impl Tokens {
    /// Makes the successor, and lets the old token end after the overlap, never later than it would have ended. Successor
    /// and new end are one transaction. The returned text is shown once and stored nowhere.
    pub async fn rotate(&self, actor: &Actor, id: &TokenId, rotation: Rotation) -> Result<(Token, TokenRow)> {
        check(&rotation)?;
        let token = Token::generate(self.ambient.random());
        let (hash, successor_id) = (token.hash(), self.ambient.token_id());
        let (id, ambient, actor) = (id.clone(), self.ambient.clone(), actor.clone());
        let successor = self
            .store
            .write(move |tx| {
                let (now, old) = (ambient.now(), find(tx, &id)?);
                refuse_ended(tx, &old, now)?;
                let whole = old.expires_at.map_or(LIFE_DEFAULT, |end| end.since(old.created_at));
                let overlap_end = now.after(rotation.overlap);
                let old_ends_at = old.expires_at.map_or(overlap_end, |end| end.min(overlap_end));
                let successor = TokenRow {
                    id: successor_id,
                    created_by: actor.label(),
                    created_at: now,
                    expires_at: Some(now.after(rotation.life.unwrap_or(whole))),
                    ..old
                };
                insert(tx, &successor, &hash)?;
                tx.execute("UPDATE token SET expires_at = $2 WHERE id = $1", &[(&id).into(), old_ends_at.into()])?;
                tx.announce(Notice::Tokens);
                let event = AuditEvent::new(ambient.event_id(), now, actor, "token.rotate", id.as_str());
                let event = event.fact("successor", successor.id.as_str()).fact("old_ends_at", old_ends_at.as_micros());
                tx.record(crate::described(event, &successor));
                Ok(successor)
            })
            .await?;
        Ok((token, successor))
    }
}

fn check(rotation: &Rotation) -> Result<()> {
    if rotation.overlap > OVERLAP_MAX {
        return Err(Fault::new(
            Code::BODY_INVALID,
            format!("an overlap has at most {} seconds", OVERLAP_MAX.as_secs()),
        ));
    }
    rotation.life.map_or(Ok(()), check_life)
}

/// Only the living end of a line is rotated, so that a line has at most two living tokens and its rights one holder.
fn refuse_ended(tx: &Tx<'_>, old: &TokenRow, now: Timestamp) -> Result<()> {
    let ended = |message: String| Err(Fault::new(Code::TOKEN_ENDED, message));
    if old.revoked_at.is_some() {
        return ended(format!("{} is revoked", old.id));
    }
    if old.expires_at.is_some_and(|end| end <= now) {
        return ended(format!("{} is expired", old.id));
    }
    let successor: Option<TokenId> = tx.query_one(
        "SELECT id FROM token WHERE family = $1 AND created_at >= $2 AND id <> $3 AND revoked_at IS NULL
           AND (expires_at IS NULL OR expires_at > $4) ORDER BY created_at DESC LIMIT 1",
        &[(&old.family).into(), old.created_at.into(), (&old.id).into(), now.into()],
        |row| row.parsed(0),
    )?;
    match successor {
        Some(successor) => ended(format!("{} was rotated already; its successor is {successor}", old.id)),
        None => Ok(()),
    }
}
