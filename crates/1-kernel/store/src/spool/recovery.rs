//! What a server that died has left in its spool: which records the log still lacks, and what is no honest rest.
//!
//! A machine that is lost leaves of the frames that nobody has synced whichever the disk had got to. Their callers have no answer,
//! so that the log goes without them. Every other hole is damage: a later frame says that the missing one was durable.

use std::{fs, path::Path};

use agentos_failpoint::{Point, hit};
use agentos_types::{Code, Fault, Result, audit::AuditEvent};

use super::{
    DRAIN_MAX,
    files::NAMES,
    frame::{self, Frame, Link, SpoolId},
};
use crate::{Arg, Conn, Sequencer, link::Link as Writer, store::in_snapshot};

/// Far above what two files come to: they grow beyond their turn only while the database takes nothing.
const FILE_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Row of the table `installation`.
const ROW: &str = "audit-spool";

/// How far a spool has come in the database. Stands there in one row, written with the records themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(super) spool: SpoolId,
    pub(super) number: u64,
    pub(super) link: Link,
}

impl Mark {
    pub(crate) fn read(conn: &Conn<'_>) -> Result<Option<Self>> {
        let row = conn.query_one("SELECT value FROM installation WHERE name = $1", &[ROW.into()], |row| row.text(0))?;
        row.map(|text| Self::parse(&text).ok_or_else(|| damaged("the mark in the database cannot be read"))).transpose()
    }

    pub(crate) fn write(&self, conn: &Conn<'_>) -> Result<()> {
        conn.execute(
            "INSERT INTO installation (name, value) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            &[ROW.into(), Arg::Text(&self.to_text())],
        )
        .map(drop)
    }

    pub(super) fn to_text(self) -> String {
        format!("{:032x} {} {:032x}", u128::from_be_bytes(self.spool), self.number, u128::from_be_bytes(self.link))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let spool = u128::from_str_radix(words.next()?, 16).ok()?.to_be_bytes();
        let number = words.next()?.parse().ok()?;
        let link = u128::from_str_radix(words.next()?, 16).ok()?.to_be_bytes();
        words.next().is_none().then_some(Self { spool, number, link })
    }
}

/// What the log still lacks, in order.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub(super) frames: Vec<(Mark, Vec<AuditEvent>)>,
    /// Something lies behind it that nobody was answered for.
    pub(super) is_torn: bool,
}

/// Puts into the log what a dead server has left, and takes its files away. Before anything else is written.
pub(crate) fn recover(directory: &Path, link: &mut Writer, sequencer: &mut dyn Sequencer) -> Result<()> {
    let mark = in_snapshot(link, Mark::read)?;
    let Left { frames, is_torn } = left(directory, mark)?;
    let records: usize = frames.iter().map(|(_, events)| events.len()).sum();
    let mut frames = frames.into_iter().peekable();
    // Whole frames, so that the mark is always between two.
    while frames.peek().is_some() {
        let (mut events, mut mark) = (Vec::new(), None);
        while events.len() < DRAIN_MAX
            && let Some((last, held)) = frames.next()
        {
            mark = Some(last);
            events.extend(held);
        }
        let sealed = seal(link, sequencer, &events, mark);
        sequencer.settled(sealed.is_ok());
        if sealed.is_err() {
            link.roll_back();
        }
        sealed?;
    }
    hit(Point::StoreSpoolCleared);
    if records > 0 {
        tracing::info!(records, "records that were durable when the server died are in the log now");
    }
    if is_torn {
        tracing::warn!(
            "the last records before the server died were not complete on the disk; nobody was answered for them"
        );
    }
    super::clear(directory).map_err(|source| {
        Fault::new(Code::STORE_UNAVAILABLE, "the files of waiting records cannot be removed").detail(source)
    })
}

fn seal(link: &mut Writer, sequencer: &mut dyn Sequencer, events: &[AuditEvent], mark: Option<Mark>) -> Result<()> {
    link.begin_write()?;
    let conn = link.conn();
    sequencer.seal(&conn, events)?;
    mark.map_or(Ok(()), |mark| mark.write(&conn))?;
    link.commit(&[])
}

/// Reads both files. There are none after an orderly end.
pub(super) fn left(directory: &Path, mark: Option<Mark>) -> Result<Left> {
    let (mut frames, mut is_torn) = (Vec::new(), false);
    for name in NAMES {
        let path = directory.join(name);
        let unreadable = |source: std::io::Error| {
            Fault::new(Code::STORE_UNAVAILABLE, "the records that wait for the log cannot be read")
                .detail(format!("{}: {source}", path.display()))
        };
        match fs::metadata(&path) {
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(unreadable(source)),
            Ok(found) if found.len() > FILE_BYTES_MAX => return Err(damaged(&format!("{name} is no file of ours"))),
            Ok(_) => {}
        }
        let (sound, torn) = frame::scan(&fs::read(&path).map_err(unreadable)?);
        frames.extend(sound);
        is_torn |= torn;
    }
    let taken = judge(frames, mark)?;
    is_torn |= taken.has_more;
    let frames = taken.frames.iter().map(|frame| {
        let mark = Mark { spool: frame.head.spool, number: frame.head.number, link: frame.link };
        Ok((mark, frame.events()?))
    });
    Ok(Left { frames: frames.collect::<Result<_>>()?, is_torn })
}

pub(super) struct Taken {
    pub(super) frames: Vec<Frame>,
    /// Sound frames follow that nobody was answered for.
    has_more: bool,
}

pub(super) fn judge(mut frames: Vec<Frame>, mark: Option<Mark>) -> Result<Taken> {
    if frames.is_empty() {
        return Ok(Taken { frames, has_more: false });
    }
    let Some(mark) = mark.filter(|mark| frames.iter().all(|frame| frame.head.spool == mark.spool)) else {
        return Err(foreign());
    };
    if frames.iter().any(|frame| frame.head.number == mark.number && frame.link != mark.link) {
        return Err(foreign());
    }
    frames.retain(|frame| frame.head.number > mark.number);
    frames.sort_by_key(|frame| frame.head.number);
    let (mut taken, mut number, mut link) = (Vec::new(), mark.number, mark.link);
    let mut rest = frames.into_iter().peekable();
    while let Some(frame) = rest.next_if(|frame| Some(frame.head.number) == number.checked_add(1)) {
        if frame.head.previous != link {
            return Err(damaged("a record does not follow the one before it"));
        }
        (number, link) = (frame.head.number, frame.link);
        taken.push(frame);
    }
    let has_more = rest.peek().is_some();
    if rest.any(|later| later.head.number == number || later.head.durable > number) {
        return Err(damaged(&format!("frame {} was durable and is gone", number.saturating_add(1))));
    }
    Ok(Taken { frames: taken, has_more })
}

fn damaged(what: &str) -> Fault {
    Fault::new(Code::AUDIT_TAMPERED, format!("records that wait for the audit log are damaged: {what}"))
        .hint("keep the data directory; restore the newest verified backup, or give the records up by moving audit-spool.0 and audit-spool.1 away")
}

fn foreign() -> Fault {
    Fault::new(Code::AUDIT_TAMPERED, "records that wait for the audit log belong to another history of this database")
        .hint("was the database restored without its audit-spool files, or they without it? restore both, or give the records up by moving audit-spool.0 and audit-spool.1 away")
}
