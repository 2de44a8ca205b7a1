//! Several calls in one round trip: all leave before the first answer is waited for.
//!
//! A call whose answer nobody needs (a savepoint, an event, an audit record) is kept and leaves ahead of the next one that
//! somebody waits for. The server answers in the order of the calls, and refuses all that follow a failure.

use std::{future::poll_fn, pin::Pin, task::Poll};

use futures_util::future::{MaybeDone, maybe_done};
use tokio_postgres::{Error, Row};

use crate::Arg;

/// One thing that the server is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call<'a> {
    /// Without parameters, such as COMMIT.
    Script(&'a str),
    Execute(&'static str, &'a [Arg<'a>]),
    Query(&'static str, &'a [Arg<'a>]),
}

#[derive(Debug)]
pub(super) enum Answer {
    Done,
    Count(u64),
    Rows(Vec<Row>),
}

/// A call that waits for the next round trip.
#[derive(Debug)]
pub(super) enum Later {
    /// A savepoint begins an operation.
    Mark(&'static str),
    Statement(&'static str, Vec<Kept>),
}

impl Later {
    pub(super) fn is_mark(&self) -> bool {
        matches!(self, Self::Mark(_))
    }

    pub(super) fn args(&self) -> Vec<Arg<'_>> {
        match self {
            Self::Mark(_) => Vec::new(),
            Self::Statement(_, args) => args.iter().map(Kept::lend).collect(),
        }
    }

    /// `args` are those of [`Later::args`].
    pub(super) fn call<'a>(&'a self, args: &'a [Arg<'a>]) -> Call<'a> {
        match self {
            Self::Mark(script) => Call::Script(script),
            Self::Statement(sql, _) => Call::Execute(sql, args),
        }
    }
}

/// A parameter that outlives its caller.
#[derive(Debug)]
pub(super) enum Kept {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Kept {
    pub(super) fn of(arg: &Arg<'_>) -> Self {
        match *arg {
            Arg::Null => Self::Null,
            Arg::Integer(number) => Self::Integer(number),
            Arg::Text(text) => Self::Text(text.to_owned()),
            Arg::Bytes(bytes) => Self::Bytes(bytes.to_owned()),
        }
    }

    fn lend(&self) -> Arg<'_> {
        match self {
            Self::Null => Arg::Null,
            Self::Integer(number) => Arg::Integer(*number),
            Self::Text(text) => Arg::Text(text),
            Self::Bytes(bytes) => Arg::Bytes(bytes),
        }
    }
}

/// Begins all, in this order, then waits for all, also after a failure: an answer that is still on its way would be taken
/// for somebody else's.
pub(super) async fn in_order<F>(calls: impl Iterator<Item = F>) -> Vec<Result<Answer, Error>>
where
    F: Future<Output = Result<Answer, Error>>,
{
    let mut calls: Vec<Pin<Box<MaybeDone<F>>>> = calls.map(|call| Box::pin(maybe_done(call))).collect();
    poll_fn(|context| {
        for call in &mut calls {
            let _ = call.as_mut().poll(context);
        }
        Poll::Ready(())
    })
    .await;
    let mut answers = Vec::with_capacity(calls.len());
    for mut call in calls {
        call.as_mut().await;
        answers.extend(call.as_mut().take_output());
    }
    answers
}
