//! A stream under way: from the provider's connection to the client's channel, as fast as the slower of both.
//!
//! What tells its end is held back until the call is settled and its outcome is durable. A stream that breaks ends with an
//! error in the client's protocol; one whose client is gone stops its provider.

use std::{sync::Arc, time::Duration};

use agentos_base::Ambient;
use agentos_failpoint::{Point, hit};
use agentos_monitor::{ModelEnd, ModelOutcome, ModelRecord, SoFar};
use agentos_router::{Observed, Target};
use agentos_types::{Code, Fault};
use agentos_wire::{Class, Delta, Failure, Protocol, Seen, broken as broken_stream, sse::Frame};
use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::{
    sync::mpsc::Sender,
    task::yield_now,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    Course,
    attempt::Live,
    continuation::{self, Continuation, WrittenOn},
    engine::{noted, snapshot},
    failing::{broken, fault_of, wire_error},
    kept::Answer,
    leaving::{EndTooLong, Leaving},
    recall::Keeper,
    reply::wire_error_of,
    upstream::{Next, Stopped},
};

/// Silence after which a client is told that somebody is still there.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// A client that takes nothing for so long is gone, whatever its connection says.
const CLIENT_STALL: Duration = Duration::from_secs(300);
/// A stream lives no longer, however it trickles.
const STREAM_MAX: Duration = Duration::from_secs(3_600);
/// Pieces of a stream that leave together, and their bytes: what one read of a connection brings.
const JOINED_MAX: usize = 128;
const JOINED_BYTES_MAX: usize = 64 * 1024;
/// The last bytes of a connection that is to be used again.
const DRAIN: Duration = Duration::from_secs(1);
/// Times that one stream is continued. The router ends sooner; this bounds the loop whatever it says.
const CONTINUATIONS_MAX: usize = 2;

pub(crate) struct Pump {
    pub live: Box<Live>,
    pub client: Protocol,
    pub events: Sender<Bytes>,
    pub record: ModelRecord,
    pub course: Box<dyn Course>,
    pub target: Arc<Target>,
    pub ambient: Ambient,
    pub so_far: SoFar,
    /// What was sent, if somebody wants it again.
    pub kept: Option<Kept>,
    pub keeper: Keeper,
    /// How the provider's answer went on, found out while something before it had not left yet.
    pub later: Option<Next>,
    /// What has to be known should another model write on.
    pub continuation: Option<Box<Continuation>>,
}

/// The bytes of a stream, up to a limit.
pub(crate) struct Kept {
    bytes: BytesMut,
    max: usize,
    is_whole: bool,
}

enum Ending {
    /// With the bytes that say so.
    Whole(Bytes),
    Broken(Failure),
    ClientGone,
}

impl Kept {
    pub fn new(max: usize) -> Self {
        Self { bytes: BytesMut::new(), max, is_whole: true }
    }

    fn add(&mut self, piece: &[u8]) {
        self.is_whole &= self.bytes.len() + piece.len() <= self.max;
        if self.is_whole {
            self.bytes.extend_from_slice(piece);
        }
    }
}

impl Pump {
    /// Boxed: whoever moves it would hold room for it once more.
    pub async fn run(mut self: Box<Self>) {
        let mut ending = self.carry().await;
        for _ in 0..CONTINUATIONS_MAX {
            let Ending::Broken(failure) = &ending else { break };
            match Box::pin(continuation::write_on(&mut self, failure)).await {
                Some(WrittenOn::Joined) => ending = self.carry().await,
                Some(WrittenOn::ClientGone) => ending = Ending::ClientGone,
                None => break,
            }
        }
        self.end(ending).await;
    }

    async fn carry(&mut self) -> Ending {
        let over = Instant::now() + STREAM_MAX;
        let mut out = Leaving::default();
        loop {
            let ending = self.read_frames(&mut out);
            if let Some(bytes) = out.take()
                && !self.send(bytes).await
            {
                return Ending::ClientGone;
            }
            match ending {
                Some(Ending::Whole(last)) => return Ending::Whole(out.end(last)),
                Some(ending) => return ending,
                None => {}
            }
            let until = (Instant::now() + self.live.idle).min(over);
            let next = match self.later.take() {
                Some(later) => Some(later),
                None => self.next_piece(until).await,
            };
            match next {
                Some(Ok(Some(piece))) => {
                    self.live.scanner.push(&piece);
                    self.join(piece.len()).await;
                }
                Some(Ok(None)) => return self.at_end(&mut out).await,
                Some(Err(stopped)) => return self.stopped(&stopped),
                None => return Ending::ClientGone,
            }
        }
    }

    /// Takes what has come together with a piece, so that it leaves together: a provider that is read in one gulp costs the
    /// client one write and not one for each event. Waits for nothing but the turn of the connection's own task.
    async fn join(&mut self, mut bytes: usize) {
        for _ in 0..JOINED_MAX {
            yield_now().await;
            match self.live.body.come().await {
                Some(Ok(Some(piece))) => {
                    bytes += piece.len();
                    self.live.scanner.push(&piece);
                }
                // Its turn comes when everything before it has left.
                Some(ended) => {
                    self.later = Some(ended);
                    return;
                }
                None => return,
            }
            if bytes >= JOINED_BYTES_MAX {
                return;
            }
        }
    }

    /// `None`: the client is gone.
    async fn next_piece(&mut self, until: Instant) -> Option<Next> {
        loop {
            let beat = Instant::now() + HEARTBEAT;
            tokio::select! {
                biased;
                piece = self.live.body.piece(until) => return Some(piece),
                () = self.events.closed() => return None,
                () = sleep_until(beat) => {
                    if !self.send(Bytes::from_static(b": keep-alive\n\n")).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Everything that has come, into `out`, up to the event that ends it.
    fn read_frames(&mut self, out: &mut Leaving) -> Option<Ending> {
        if let Some((frame, seen)) = self.live.first.take()
            && let Some(ending) = self.take(&frame, seen, out)
        {
            return Some(ending);
        }
        loop {
            match self.live.scanner.next_frame() {
                Ok(None) => return None,
                Err(long) => return Some(Ending::Broken(self.broken(b"", &long.to_string()))),
                Ok(Some(frame)) => {
                    let seen = self.live.tap.frame(&frame);
                    if let Some(ending) = self.take(&frame, seen, out) {
                        return Some(ending);
                    }
                }
            }
        }
    }

    fn take(&mut self, frame: &Frame, seen: Seen, out: &mut Leaving) -> Option<Ending> {
        match seen {
            Seen::Error(body) => return Some(Ending::Broken(self.broken(&body, ""))),
            Seen::Malformed => {
                return Some(Ending::Broken(
                    self.broken(b"", "the provider sent an event that is none of its protocol"),
                ));
            }
            _ => {}
        }
        if self.live.translator.is_some() {
            return self.translate(frame, out);
        }
        if let Some(continuation) = &mut self.continuation {
            continuation.frame(frame);
        }
        match seen {
            Seen::Terminal => Some(Ending::Whole(frame.raw.clone())),
            // Asked for by us and not by the client.
            Seen::Usage if !self.live.wants_usage => None,
            _ => self.leave(&frame.raw, self.live.tap.is_ending(), out),
        }
    }

    fn leave(&self, bytes: &[u8], is_ending: bool, out: &mut Leaving) -> Option<Ending> {
        match out.add(bytes, is_ending) {
            Ok(()) => None,
            Err(EndTooLong) => Some(Ending::Broken(
                self.broken(b"", "the provider has told the end of its answer and goes on without ending its stream"),
            )),
        }
    }

    fn translate(&mut self, frame: &Frame, out: &mut Leaving) -> Option<Ending> {
        if frame.is_comment() {
            return None;
        }
        let deltas = self.live.translator.as_mut()?.reader.frame(frame);
        match deltas {
            Ok(deltas) => self.write(deltas, out),
            Err(refusal) => Some(Ending::Broken(self.broken(b"", &refusal.to_string()))),
        }
    }

    fn write(&mut self, deltas: Vec<Delta>, out: &mut Leaving) -> Option<Ending> {
        for delta in deltas {
            let recovered = match &mut self.live.translator.as_mut()?.emulation {
                Some(emulation) => emulation.delta(delta),
                None => Ok(vec![delta]),
            };
            match recovered {
                Err(refusal) => return Some(Ending::Broken(self.broken(b"", &refusal.to_string()))),
                Ok(recovered) => {
                    for delta in recovered {
                        if let Some(ending) = self.write_one(delta, out) {
                            return Some(ending);
                        }
                    }
                }
            }
        }
        None
    }

    fn write_one(&mut self, delta: Delta, out: &mut Leaving) -> Option<Ending> {
        let delta = match &mut self.continuation {
            Some(continuation) => continuation.delta(delta)?,
            None => delta,
        };
        let bytes = self.live.translator.as_mut()?.writer.delta(&delta);
        if matches!(delta, Delta::End) {
            return Some(Ending::Whole(bytes.into()));
        }
        // What an event says beside the reason to stop, and before it, is not the end.
        let tells = matches!(delta, Delta::Finish { .. }) || out.is_holding();
        self.leave(&bytes, tells && self.live.tap.is_ending(), out)
    }

    /// The connection ended. What is left in the scanner may be the end without its empty line.
    async fn at_end(&mut self, out: &mut Leaving) -> Ending {
        let before = out.mark();
        let last = match self.live.scanner.end() {
            Ok(Some(frame)) if !frame.is_comment() => {
                let seen = self.live.tap.frame(&frame);
                match (self.live.tap.is_terminal(), self.take(&frame, seen, out)) {
                    (true, ending @ Some(Ending::Whole(_))) => ending,
                    // Gemini's last event, of which nothing but the line behind it is missing.
                    (true, None) => None,
                    // Bytes of a torn frame tell nobody anything; only an end is taken from it.
                    _ => {
                        out.back_to(before);
                        None
                    }
                }
            }
            _ => None,
        };
        if let Some(Ending::Whole(mut bytes)) = last {
            if self.live.translator.is_none() && !bytes.ends_with(b"\n\n") {
                bytes = [&bytes, &b"\n\n"[..]].concat().into();
            }
            return Ending::Whole(out.end(bytes));
        }
        let ended = self.live.translator.as_mut().map(|translator| translator.reader.end());
        match ended {
            Some(Ok(deltas)) => {
                let ending = self.write(deltas, out);
                if let Some(bytes) = out.take()
                    && !self.send(bytes).await
                {
                    return Ending::ClientGone;
                }
                match ending {
                    Some(Ending::Whole(last)) => Ending::Whole(out.end(last)),
                    Some(ending) => ending,
                    None => Ending::Broken(self.broken(b"", "the provider's stream ended before its answer was whole")),
                }
            }
            _ => Ending::Broken(self.broken(b"", "the provider's stream ended before its answer was whole")),
        }
    }

    fn stopped(&self, stopped: &Stopped) -> Ending {
        let reason = match stopped {
            Stopped::Idle => "the provider fell silent in the middle of its stream",
            Stopped::Cut(_) => "the provider's connection broke off in the middle of its stream",
            Stopped::TooLarge => "the provider's stream is longer than what is read of one",
        };
        Ending::Broken(self.broken(b"", reason))
    }

    fn broken(&self, body: &[u8], reason: &str) -> Failure {
        broken(self.live.protocol, body, reason)
    }

    /// `false`: the client is gone.
    pub(crate) async fn send(&mut self, bytes: Bytes) -> bool {
        if let Some(kept) = &mut self.kept {
            kept.add(&bytes);
        }
        matches!(timeout(CLIENT_STALL, self.events.send(bytes)).await, Ok(Ok(())))
    }

    async fn end(self: Box<Self>, ending: Ending) {
        hit(Point::ModelsStreamEnded);
        let Self { live, client, events, record, mut course, target, ambient, so_far, mut kept, keeper, .. } = *self;
        let Live { mut body, tap, mut stake, notes, .. } = *live;
        let counted = stake.counted(&tap, matches!(ending, Ending::Whole(_)));
        match ending {
            Ending::Whole(last) => {
                stake.settle(counted, false);
                if let Some(kept) = &mut kept {
                    kept.add(&last);
                }
                let mut outcome = snapshot(&so_far, ModelEnd::Done, 200);
                let cost = cost(&outcome);
                outcome.answer = record.is_step().then(|| answer_of(kept.as_ref(), &outcome));
                let whole = kept.filter(|kept| kept.is_whole && keeper.wants_answer());
                if let Some(kept) = whole {
                    let answer =
                        Answer::new(&outcome, "text/event-stream", noted(&notes, &outcome), kept.bytes.freeze());
                    keeper.keep(&answer, &record, &mut outcome, ambient.now());
                }
                match record.close(outcome).await {
                    Ok(()) => {
                        // Whoever asks again finds it in the store.
                        drop(keeper);
                        let last = [cost.as_bytes(), &last].concat();
                        let _ = timeout(CLIENT_STALL, events.send(last.into())).await;
                    }
                    Err(fault) => tell(&events, broken_stream(client, &wire_error_of(&fault))).await,
                }
                // Its last bytes make the connection one that can be used again.
                let _ =
                    timeout(DRAIN, async { while let Ok(Some(_)) = body.piece(Instant::now() + DRAIN).await {} }).await;
            }
            Ending::Broken(failure) => {
                drop(body);
                stake.settle(counted, true);
                course.report(&target, Observed::Failed(&failure), ambient.now());
                let mut outcome = snapshot(&so_far, ModelEnd::Broken, 200);
                outcome.class = Some(Class::StreamBroken.as_str());
                outcome.fault = Some(fault_of(&failure));
                close(record, outcome).await;
                tell(&events, broken_stream(client, &wire_error(&failure))).await;
            }
            Ending::ClientGone => {
                // First of all the provider stops.
                drop(body);
                stake.settle(counted, false);
                course.report(&target, Observed::Nothing, ambient.now());
                let mut outcome = snapshot(&so_far, ModelEnd::ClientGone, 200);
                outcome.fault = Some(Fault::new(Code::CONNECTION_LOST, "the client went away"));
                close(record, outcome).await;
            }
        }
    }
}

async fn tell(events: &Sender<Bytes>, bytes: Vec<u8>) {
    // Whoever is gone by now needs no error.
    let _ = timeout(CLIENT_STALL, events.send(bytes.into())).await;
}

/// A broken stream is told as such whatever the log says.
async fn close(record: ModelRecord, outcome: ModelOutcome) {
    if let Err(fault) = record.close(outcome).await {
        tracing::warn!(%fault, detail = fault.detail, "the end of a stream was not recorded");
    }
}

/// A comment, which every reader of events passes over.
fn cost(outcome: &ModelOutcome) -> String {
    format!(": agent-os cost-nano-usd={} estimated={}\n\n", outcome.nano_usd, outcome.estimated)
}

fn answer_of(kept: Option<&Kept>, outcome: &ModelOutcome) -> Value {
    let kept = kept.filter(|kept| kept.is_whole).map(|kept| &kept.bytes[..]);
    crate::engine::recorded(outcome, "text/event-stream", kept)
}
