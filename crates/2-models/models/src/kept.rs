//! Answers that are given again, as they lie in the store: under a client's idempotency key, and in the exact cache of its agent
//! or token. An answer belongs to who was billed for it, and nobody else finds it. It is written in the transaction of the
//! call's outcome, so that who was answered finds the answer after any crash.
//!
//! The rows of an owner have a bound in bytes; above it the oldest go. Each write takes some of what has ended with it, the
//! retention the rest.

use std::sync::Arc;

use agentos_monitor::Beside;
use agentos_store::{Conn, Tx};
use agentos_types::{Code, Envelope, Fault, Result, Timestamp};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A larger body is not kept.
pub(crate) const BODY_BYTES_MAX: usize = 4 << 20;
/// Rows that have ended and go with one write: more than it adds, so that they cannot pile up while somebody writes.
const ENDED_MAX: i64 = 8;
/// Rows that are looked at at once to make room, and how often. What needs more room than that is not kept.
const OLDEST: i64 = 64;
const ROUNDS_MAX: usize = 64;

/// An answer as it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub status: u16,
    pub content_type: String,
    /// What its client was told of how it came.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// `PROVIDER/MODEL` that wrote it.
    pub target: Option<String>,
    /// When it was kept.
    pub at: Timestamp,
}

/// Why an answer is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its client may ask again under the same idempotency key.
    Key,
    /// The operator has given its caller a cache.
    Cache,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Key => "key",
            Kind::Cache => "cache",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let known = [Kind::Key, Kind::Cache].into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| Fault::new(Code::STORE_CORRUPT, "a stored value cannot be read").detail(text.to_owned()))
    }
}

/// Where an answer lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub kind: Kind,
    /// Who was billed.
    pub owner: String,
    pub id: String,
}

/// An answer with what was asked.
#[derive(Debug)]
pub(crate) struct Found {
    pub request_sha256: String,
    pub answer: Answer,
}

/// An answer on its way to its place.
#[derive(Clone, Debug)]
pub(crate) struct Keeping {
    pub place: Place,
    pub request_sha256: String,
    pub answer: Arc<Sealed>,
    pub at: Timestamp,
    pub expires_at: Timestamp,
    /// Of all rows of this kind and owner.
    pub bytes_max: u64,
}

/// An answer in its envelope.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    status: u16,
    content_type: String,
    target: Option<String>,
    envelope: Envelope,
}

#[derive(Serialize, Deserialize)]
struct Content {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// Of what is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl Answer {
    pub fn seal(&self) -> Result<Sealed> {
        let text = std::str::from_utf8(&self.body).ok().map(str::to_owned);
        let body_base64 = text.is_none().then(|| BASE64_STANDARD.encode(&self.body));
        let envelope = Envelope::seal(&Content { headers: self.headers.clone(), body: text, body_base64 })?;
        let (content_type, target) = (self.content_type.clone(), self.target.clone());
        Ok(Sealed { status: self.status, content_type, target, envelope })
    }
}

impl Sealed {
    fn open(self, at: Timestamp) -> Result<Answer> {
        let content: Content = self.envelope.open()?;
        let body = match (content.body, content.body_base64) {
            (Some(text), _) => text.into_bytes(),
            (None, encoded) => BASE64_STANDARD.decode(encoded.unwrap_or_default()).map_err(Fault::internal)?,
        };
        let Self { status, content_type, target, .. } = self;
        Ok(Answer { status, content_type, headers: content.headers, body: body.into(), target, at })
    }
}

/// The answer at this place, if it has not ended.
pub(crate) fn find(conn: &Conn<'_>, place: &Place, now: Timestamp) -> Result<Option<Found>> {
    let found = conn.query_one(
        "SELECT request_sha256, status, content_type, target, at, answer_key, answer FROM model_answer
         WHERE kind = $1 AND owner = $2 AND id = $3 AND expires_at > $4",
        &[place.kind.as_str().into(), (&place.owner).into(), (&place.id).into(), now.into()],
        |row| {
            let envelope = Envelope { key_id: row.integer(5)?, bytes: row.bytes(6)? };
            let status = u16::try_from(row.integer(1)?).map_err(Fault::internal)?;
            let (content_type, target) = (row.text(2)?, row.text_or_null(3)?);
            Ok((row.text(0)?, row.time(4)?, Sealed { status, content_type, target, envelope }))
        },
    )?;
    found.map(|(request_sha256, at, sealed)| Ok(Found { request_sha256, answer: sealed.open(at)? })).transpose()
}

impl Beside for Keeping {
    fn write(&self, tx: &mut Tx<'_>) -> Result<()> {
        take_ended(tx, self.at, ENDED_MAX)?;
        remove(tx, &self.place)?;
        let bytes = self.bytes();
        if !make_room(tx, &self.place, bytes, self.bytes_max)? {
            return Ok(());
        }
        let Self { place, answer, .. } = self;
        tx.execute(
            "INSERT INTO model_answer (kind, owner, id, request_sha256, status, content_type, target, answer_key, answer,
                                       bytes, at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            &[
                place.kind.as_str().into(),
                (&place.owner).into(),
                (&place.id).into(),
                (&self.request_sha256).into(),
                i64::from(answer.status).into(),
                (&answer.content_type).into(),
                answer.target.as_deref().into(),
                answer.envelope.key_id.into(),
                (&answer.envelope.bytes).into(),
                bytes.into(),
                self.at.into(),
                self.expires_at.into(),
            ],
        )?;
        tx.execute(
            "INSERT INTO model_answer_use (kind, owner, bytes) VALUES ($1, $2, $3)
             ON CONFLICT (kind, owner) DO UPDATE SET bytes = model_answer_use.bytes + excluded.bytes",
            &[place.kind.as_str().into(), (&place.owner).into(), bytes.into()],
        )
        .map(drop)
    }
}

impl Keeping {
    /// As the bound counts: what is stored, with something for the row and its indexes.
    fn bytes(&self) -> i64 {
        const ROW: usize = 512;
        let Sealed { content_type, target, envelope, .. } = &*self.answer;
        let text = content_type.len() + target.as_ref().map_or(0, String::len) + 2 * self.place.owner.len();
        i64::try_from(ROW + text + envelope.bytes.len()).unwrap_or(i64::MAX)
    }
}

/// Oldest first, until so many bytes more fit. `false`: they cannot.
fn make_room(tx: &Tx<'_>, place: &Place, bytes: i64, bytes_max: u64) -> Result<bool> {
    let most = i64::try_from(bytes_max).unwrap_or(i64::MAX).saturating_sub(bytes);
    if most < 0 {
        return Ok(false);
    }
    for _ in 0..ROUNDS_MAX {
        let mut used = used(tx, place)?;
        if used <= most {
            return Ok(true);
        }
        let oldest = tx.query(
            "SELECT id, bytes FROM model_answer WHERE kind = $1 AND owner = $2 ORDER BY at, id LIMIT $3",
            &[place.kind.as_str().into(), (&place.owner).into(), OLDEST.into()],
            |row| Ok((row.text(0)?, row.integer(1)?)),
        )?;
        for (id, freed) in oldest {
            if used <= most {
                break;
            }
            remove(tx, &Place { id, ..place.clone() })?;
            used -= freed;
        }
    }
    Ok(used(tx, place)? <= most)
}

fn used(tx: &Tx<'_>, place: &Place) -> Result<i64> {
    let found = tx.query_one(
        "SELECT bytes FROM model_answer_use WHERE kind = $1 AND owner = $2",
        &[place.kind.as_str().into(), (&place.owner).into()],
        |row| row.integer(0),
    )?;
    Ok(found.unwrap_or_default())
}

/// The row with its part of the sum. Whether there was one does not matter.
fn remove(tx: &Tx<'_>, Place { kind, owner, id }: &Place) -> Result<()> {
    let bytes = tx.query_one(
        "SELECT bytes FROM model_answer WHERE kind = $1 AND owner = $2 AND id = $3",
        &[kind.as_str().into(), owner.into(), id.into()],
        |row| row.integer(0),
    )?;
    let Some(bytes) = bytes else { return Ok(()) };
    tx.execute(
        "DELETE FROM model_answer WHERE kind = $1 AND owner = $2 AND id = $3",
        &[kind.as_str().into(), owner.into(), id.into()],
    )?;
    tx.execute(
        "UPDATE model_answer_use SET bytes = bytes - $3 WHERE kind = $1 AND owner = $2",
        &[kind.as_str().into(), owner.into(), bytes.into()],
    )?;
    Ok(())
}

/// How many rows had ended before this instant.
pub fn count_ended_answers(conn: &Conn<'_>, before: Timestamp) -> Result<u64> {
    let found =
        conn.query_one("SELECT count(*) FROM model_answer WHERE expires_at <= $1", &[before.into()], |row| {
            row.integer(0)
        })?;
    Ok(found.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(0))
}

/// Takes at most so many of them away, of whomever they are, and tells how many.
pub fn prune_ended_answers(tx: &mut Tx<'_>, before: Timestamp, rows_max: i64) -> Result<u64> {
    let taken = take_ended(tx, before, rows_max)?;
    tx.execute("DELETE FROM model_answer_use WHERE bytes <= 0", &[])?;
    Ok(taken)
}

fn take_ended(tx: &Tx<'_>, before: Timestamp, rows_max: i64) -> Result<u64> {
    let ended = tx.query(
        "SELECT kind, owner, id FROM model_answer WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2",
        &[before.into(), rows_max.into()],
        |row| Ok((row.text(0)?, row.text(1)?, row.text(2)?)),
    )?;
    for (kind, owner, id) in &ended {
        remove(tx, &Place { kind: Kind::parse(kind)?, owner: owner.clone(), id: id.clone() })?;
    }
    Ok(ended.len() as u64)
}
