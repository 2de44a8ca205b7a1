//! A stream that broke off after its first event, written on by a model that takes the beginning of its answer as a prefill: if the
//! route wants it, and only while all that was delivered is one block of plain text. A call of a tool, thoughts, a second answer
//! or a form that is asked for cannot be joined; then the stream ends with its error, as any other.
//!
//! The join is told in the stream, the figures at its end are the sums of all parts, and each attempt is billed by itself.
//!
//! Not here: who writes on (the router), and when (the pump).

use std::sync::{Arc, PoisonError};

use agentos_base::Share;
use agentos_router::{Operation, Target};
use agentos_wire::{Delta, Failure, Object, Protocol, Role, StreamReader, StreamWriter, Usage, read_ask, sse::Frame};
use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    ModelCall,
    attempt::{Asking, Given, Live, Missed, Translator},
    engine::Inner,
    fates::Fates,
    pump::{HEARTBEAT, Pump},
};

/// Of all streams together that may have to be continued: their requests, and what was delivered of them.
pub(crate) const CONTINUED_BYTES_MAX: usize = 64 << 20;

/// What came of trying to write on.
pub(crate) enum WrittenOn {
    /// The pump has another stream by now.
    Joined,
    ClientGone,
}

/// Kept beside a stream.
pub(crate) struct Continuation {
    inner: Arc<Inner>,
    call: ModelCall,
    fates: Fates,
    /// Of the room for all of them.
    share: Share,
    /// Reads what is passed through; what is translated is read already.
    reader: Option<StreamReader>,
    begin: Option<Begin>,
    text: String,
    /// Nothing but one block of text was delivered, and it is open.
    is_plain: bool,
    /// Of the parts before this one; then its beginning is none, and its figures are a part of the sum.
    before: Option<Usage>,
}

#[derive(Clone)]
struct Begin {
    id: String,
    model: String,
    created_s: Option<u64>,
}

impl Continuation {
    /// `None`: this stream could not be joined, or there is no room to remember it.
    pub fn of(inner: &Arc<Inner>, call: &ModelCall, live: &Live, target: &Target) -> Option<Self> {
        let needs = &call.peek.needs;
        let is_formed = needs.json_schema || needs.json_object || needs.logprobs || needs.audio || needs.thinking;
        let is_bound = needs.stored_input || needs.hosted_tools;
        if !target.may_continue || call.peek.choices != 1 || is_formed || is_bound {
            return None;
        }
        let reader = match &live.translator {
            Some(Translator { emulation: Some(_), .. }) => return None,
            Some(_) => None,
            // Ids and numbers of a stream of Responses that was passed through cannot be written on.
            None if !matches!(call.operation, Operation::Chat | Operation::Messages) => return None,
            None => Some(StreamReader::new(live.protocol)),
        };
        let share = inner.continued.hold(call.body.len()).ok()?;
        Some(Self {
            inner: inner.clone(),
            call: call.clone(),
            fates: Fates::default(),
            share,
            reader,
            begin: None,
            text: String::new(),
            is_plain: true,
            before: None,
        })
    }

    /// A frame that is passed through.
    pub fn frame(&mut self, frame: &Frame) {
        if !self.is_plain || frame.is_comment() {
            return;
        }
        // A block that is closed cannot be written on, and the deltas do not tell of it.
        let closes = |data: &[u8]| data.windows(CLOSES.len()).any(|window| window == CLOSES);
        let is_closed = self.call.operation == Operation::Messages && closes(&frame.data);
        match self.reader.as_mut().map(|reader| reader.frame(frame)) {
            Some(Ok(deltas)) if !is_closed => deltas.iter().for_each(|delta| self.heard(delta)),
            _ => self.is_plain = false,
        }
    }

    /// A delta on its way to the client's writer. `None`: it is not for the client.
    pub fn delta(&mut self, delta: Delta) -> Option<Delta> {
        let is_second = self.before.is_some();
        if !(is_second && matches!(delta, Delta::Begin { .. })) {
            self.heard(&delta);
        }
        match (delta, self.before) {
            (Delta::Begin { .. }, Some(_)) => None,
            (Delta::Usage(usage), Some(before)) => Some(Delta::Usage(sum(before, usage))),
            (delta, _) => Some(delta),
        }
    }

    fn heard(&mut self, delta: &Delta) {
        match delta {
            Delta::Begin { id, model, created_s } => {
                self.begin = Some(Begin { id: id.clone(), model: model.clone(), created_s: *created_s });
            }
            Delta::Text { choice: 0, text } if self.share.take(text.len()).is_ok() => self.text.push_str(text),
            Delta::Usage(_) => {}
            // Of Messages: a block of another kind.
            Delta::Extra(extra) => self.is_plain &= !extra.names().any(|name| name.starts_with("content_block")),
            _ => self.is_plain = false,
        }
    }

    /// What was delivered, if a model can write on from it. Providers refuse a prefill that ends in blanks, and without them the
    /// joint would be another text.
    fn prefill(&self) -> Option<&str> {
        let is_open = self.is_plain && self.begin.is_some() && !self.text.is_empty();
        let ask = read_ask(self.call.protocol(), &self.call.body).ok()?;
        // The client has begun the answer itself.
        let is_begun = ask.turns.last().is_none_or(|turn| turn.role == Role::Assistant);
        (is_open && !is_begun && !self.text.ends_with(char::is_whitespace)).then_some(&*self.text)
    }

    /// One in the state in which the delivered events have left their reader.
    fn writer(&self) -> Option<StreamWriter> {
        let ask = read_ask(self.call.protocol(), &self.call.body).ok()?;
        let Begin { id, model, created_s } = self.begin.clone()?;
        let mut writer = StreamWriter::new(self.call.protocol(), &ask);
        // Delivered already.
        drop(writer.delta(&Delta::Begin { id, model, created_s }));
        drop(writer.delta(&Delta::Text { choice: 0, text: self.text.clone() }));
        Some(writer)
    }
}

/// As it stands in an event of Messages, whatever its field `event` says. In a text it is quoted otherwise; should it be found there
/// all the same, nothing is joined.
const CLOSES: &[u8] = b"content_block_stop";

fn sum(before: Usage, usage: Usage) -> Usage {
    Usage {
        input: before.input.saturating_add(usage.input),
        cache_read: before.cache_read.saturating_add(usage.cache_read),
        cache_write: before.cache_write.saturating_add(usage.cache_write),
        cache_write_1h: before.cache_write_1h.saturating_add(usage.cache_write_1h),
        output: before.output.saturating_add(usage.output),
        reasoning: before.reasoning.saturating_add(usage.reasoning),
    }
}

/// Asks for the rest. `None`: nobody can, and the stream stays broken.
pub(crate) async fn write_on(pump: &mut Pump, failure: &Failure) -> Option<WrittenOn> {
    pump.continuation.as_ref()?.prefill()?;
    // First of all the provider stops, and what it has done is settled.
    pump.live.body.stop();
    let counted = pump.live.stake.counted(&pump.live.tap, false);
    pump.live.stake.settle(counted, true);
    pump.later = None;
    let target = pump.course.next(Some(failure), pump.ambient.now())?;
    if !target.is_continuation || target.protocol != Protocol::Messages {
        return None;
    }
    let (given, target) = match Box::pin(asked(pump, target)).await? {
        Asked::Answered(answered) => *answered,
        Asked::ClientGone => return Some(WrittenOn::ClientGone),
    };
    let Given::Stream(live) = given else { return None };
    let continuation = pump.continuation.as_mut()?;
    let writer = match pump.live.translator.take() {
        Some(translator) => translator.writer,
        None => continuation.writer()?,
    };
    continuation.before = Some(sum(continuation.before.unwrap_or_default(), counted.usage));
    continuation.reader = None;
    let after_bytes = continuation.text.len();
    let reader = StreamReader::new(target.protocol);
    *pump.live = Live { translator: Some(Translator { reader, emulation: None, writer }), ..*live };
    pump.target = target;
    // Sums: whole after any panic.
    pump.so_far.lock().unwrap_or_else(PoisonError::into_inner).continued += 1;
    if told(pump, after_bytes).await { Some(WrittenOn::Joined) } else { Some(WrittenOn::ClientGone) }
}

enum Asked {
    Answered(Box<(Given, Arc<Target>)>),
    ClientGone,
}

/// One attempt, under the deadline of the attempts before the first event, while the client is told that somebody is there.
async fn asked(pump: &mut Pump, target: Target) -> Option<Asked> {
    let continuation = pump.continuation.as_deref()?;
    let Continuation { inner, call, fates, .. } = continuation;
    let prefill = continuation.prefill();
    {
        let mut so_far = pump.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        so_far.target = Some(target.id.clone());
        so_far.attempts += 1;
    }
    let asking = Asking { call, so_far: &pump.so_far, fates, prefill };
    // Another one beside it would have to be joined too.
    let target = Arc::new(Target { hedge_after: None, ..target });
    let attempt = timeout(inner.policy.deadline, inner.race(&asking, &target, &mut *pump.course));
    let mut attempt = std::pin::pin!(attempt);
    let events = pump.events.clone();
    loop {
        let beat = Instant::now() + HEARTBEAT;
        tokio::select! {
            biased;
            answered = &mut attempt => return match answered {
                Ok(Ok(answered)) => Some(Asked::Answered(Box::new(answered))),
                Ok(Err(Missed::Failing(failing))) => {
                    tracing::debug!(class = %failing.failure.class, "a stream that broke off could not be continued");
                    None
                }
                Ok(Err(Missed::Final(fault))) => {
                    tracing::debug!(%fault, "a stream that broke off could not be continued");
                    None
                }
                Err(_) => None,
            },
            () = events.closed() => return Some(Asked::ClientGone),
            // A client that takes nothing is found out by what comes next.
            () = sleep_until(beat) => drop(events.try_send(Bytes::from_static(b": keep-alive\n\n"))),
        }
    }
}

/// Marks the joint, for readers of comments and for those of extras. `false`: the client is gone.
async fn told(pump: &mut Pump, after_bytes: usize) -> bool {
    let mut extra = Object::default();
    let mut joint = Object::default();
    let notes = &pump.live.notes;
    let mut written = joint.put_as("target", &pump.target.id).and_then(|()| joint.put_as("after_bytes", &after_bytes));
    // The headers that would tell it have left.
    for (name, fields) in [("dropped_fields", &notes.dropped), ("left_to_provider", &notes.left)] {
        if !fields.is_empty() {
            written = written.and_then(|()| joint.put_as(name, fields));
        }
    }
    if let Err(error) = written.and_then(|()| extra.put_as("continued", &joint)) {
        tracing::debug!(%error, "the joint of a stream could not be written");
    }
    let mark = format!(": agent-os continued target={} after-bytes={after_bytes}\n\n", pump.target.id.escape_default());
    let mut bytes = mark.into_bytes();
    if let Some(Translator { writer, .. }) = &mut pump.live.translator {
        bytes.extend(writer.delta(&Delta::Extra(extra)));
    }
    pump.send(bytes.into()).await
}
