//! What is known of a request before anybody is asked: the answer of before under its idempotency key, what another call with
//! the same key is coming to, or the exact cache. And after it was asked: what of the answer is kept, and who else waits for it.

use std::{sync::Arc, time::Duration};

use agentos_ledger::{Amount, SpendRow};
use agentos_monitor::{Beside, ModelEnd, ModelOutcome, ModelRecord};
use agentos_router::Caching;
use agentos_types::{Code, Fault, Result, Timestamp, hex};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use crate::{
    ModelCall, Reply,
    canonical::place_of,
    engine::Inner,
    flights::{Entered, Landing, Slot, Told, in_flight, reused},
    kept::{Answer, BODY_BYTES_MAX, Keeping, Kind, Place, find},
    reply::Body,
};

/// How long an answer is given again under its key.
const KEY_KEPT: Duration = Duration::from_secs(86_400);
/// Of all answers of one caller under keys.
const KEY_BYTES_MAX: u64 = 64 << 20;
/// Longer than any that SDKs make.
const KEY_LENGTH_MAX: usize = 255;
/// Times that a call waits behind another one whose client then goes away.
const TURNS_MAX: usize = 16;

/// What is known of a request.
pub(crate) enum Recalled {
    /// Nothing: it is asked.
    Ask(Keeper),
    Known(Known),
}

/// What its client gets without that anybody is asked.
pub(crate) enum Known {
    Given {
        answer: Arc<Answer>,
        /// Replayed, or cached.
        end: ModelEnd,
        keeper: Keeper,
    },
    /// Another one with the same key failed at this moment.
    Told(Arc<Told>),
    Refused(Fault),
    /// The log took no intent.
    Withheld(Fault),
}

/// Where the answer of a call is kept, and who waits for it.
#[derive(Default)]
pub(crate) struct Keeper {
    slot: Option<Slot>,
    places: Vec<Rule>,
    request_sha256: [u8; 32],
}

struct Rule {
    place: Place,
    kept: Duration,
    bytes_max: u64,
}

enum Keyed {
    First(Slot),
    Answered(Arc<Answer>),
    Failed(Arc<Told>),
}

impl Inner {
    pub(crate) async fn recall(&self, call: &ModelCall, record: &mut ModelRecord) -> Recalled {
        let caching = self.routing.caching(&call.payer);
        if call.idempotency_key.is_none() && caching.is_none() {
            return Recalled::Ask(Keeper::default());
        }
        match record.beside(Box::pin(self.look(call, caching))).await {
            Err(fault) => Recalled::Known(Known::Withheld(fault)),
            Ok(Err(fault)) => Recalled::Known(Known::Refused(fault)),
            Ok(Ok(recalled)) => recalled,
        }
    }

    async fn look(&self, call: &ModelCall, caching: Option<Caching>) -> Result<Recalled> {
        let mut keeper = Keeper { request_sha256: call.sha256(), ..Keeper::default() };
        if let Some(key) = &call.idempotency_key {
            let place = place_of_key(call, key)?;
            match self.keyed(call, &place).await? {
                Keyed::Answered(answer) => {
                    let keeper = Keeper::default();
                    return Ok(Recalled::Known(Known::Given { answer, end: ModelEnd::Replayed, keeper }));
                }
                Keyed::Failed(told) => return Ok(Recalled::Known(Known::Told(told))),
                Keyed::First(slot) => {
                    keeper.slot = Some(slot);
                    keeper.places.push(Rule { place, kept: KEY_KEPT, bytes_max: KEY_BYTES_MAX });
                }
            }
        }
        let Some((place, caching)) = caching.and_then(|caching| Some((place_of(call, &caching)?, caching))) else {
            return Ok(Recalled::Ask(keeper));
        };
        match self.find(&place).await? {
            Some((_, answer)) => {
                self.count_hit(call, &answer).await?;
                Ok(Recalled::Known(Known::Given { answer, end: ModelEnd::Cached, keeper }))
            }
            None => {
                keeper.places.push(Rule { place, kept: caching.ttl, bytes_max: caching.bytes_max });
                Ok(Recalled::Ask(keeper))
            }
        }
    }

    /// First the place among those under way, then the store: whoever ends in between has left its answer there.
    async fn keyed(&self, call: &ModelCall, place: &Place) -> Result<Keyed> {
        let deadline = Instant::now() + self.policy.deadline;
        for _ in 0..TURNS_MAX {
            let key = (place.owner.clone(), place.id.clone());
            let waiter = match self.flights.enter(key, call.sha256(), call.is_stream())? {
                Entered::Behind(waiter) => waiter,
                Entered::First(slot) => {
                    let Some((request_sha256, answer)) = self.find(place).await? else {
                        return Ok(Keyed::First(slot));
                    };
                    if request_sha256 != hex::encode(&call.sha256()) {
                        return Err(reused());
                    }
                    slot.land(Landing::Answered(answer.clone()));
                    return Ok(Keyed::Answered(answer));
                }
            };
            match timeout_at(deadline, waiter.landing()).await {
                Ok(Landing::Answered(answer)) => return Ok(Keyed::Answered(answer)),
                Ok(Landing::Failed(told)) => return Ok(Keyed::Failed(told)),
                Ok(Landing::Gone | Landing::Flying) => {}
                Err(_) => return Err(in_flight("it takes longer than calls may take")),
            }
        }
        Err(in_flight("its clients go away"))
    }

    async fn find(&self, place: &Place) -> Result<Option<(String, Arc<Answer>)>> {
        let (place, now) = (place.clone(), self.ambient.now());
        let found = self.store.look(move |conn| find(conn, &place, now)).await?;
        Ok(found.map(|found| (found.request_sha256, Arc::new(found.answer))))
    }

    /// It costs nothing and is a request all the same.
    async fn count_hit(&self, call: &ModelCall, answer: &Answer) -> Result<()> {
        let amount = Amount { nano_usd: 0, tokens: 0, requests: 1 };
        self.ledger.reserve(&call.payer, amount).await?.settle(amount);
        let model = answer.target.clone().unwrap_or_default();
        let row = SpendRow { payer: call.payer.shown(), model, requests: 1, cached: 1, ..SpendRow::default() };
        self.ledger.spend().add(self.ambient.now(), row);
        Ok(())
    }
}

fn place_of_key(call: &ModelCall, key: &str) -> Result<Place> {
    if key.is_empty() || key.len() > KEY_LENGTH_MAX {
        let text = format!("an idempotency key has 1 to {KEY_LENGTH_MAX} bytes");
        return Err(Fault::new(Code::MODEL_REQUEST_INVALID, text));
    }
    let id = hex::encode(&Sha256::digest(key.as_bytes()));
    Ok(Place { kind: Kind::Key, owner: call.payer.shown(), id })
}

impl Keeper {
    /// Somebody may want the answer again.
    pub fn wants_answer(&self) -> bool {
        !self.places.is_empty()
    }

    /// The cache had no answer, and takes this one.
    pub fn is_for_cache(&self) -> bool {
        self.places.iter().any(|rule| rule.place.kind == Kind::Cache)
    }

    /// Lets the answer be written with the outcome of its call. One that is too large, or in which a secret stands, is kept nowhere.
    pub fn keep(&self, answer: &Answer, record: &ModelRecord, outcome: &mut ModelOutcome, now: Timestamp) {
        let fits = answer.body.len() <= BODY_BYTES_MAX;
        if !self.wants_answer() || !fits || !record.may_be_kept(&String::from_utf8_lossy(&answer.body)) {
            return;
        }
        let sealed = match answer.seal() {
            Ok(sealed) => Arc::new(sealed),
            Err(fault) => return tracing::warn!(%fault, detail = fault.detail, "an answer could not be sealed"),
        };
        // With more of a budget the same request would get more.
        let is_short = outcome.shortened_to.is_some();
        let places = self.places.iter().filter(|rule| !(is_short && rule.place.kind == Kind::Cache));
        for Rule { place, kept, bytes_max } in places {
            let keeping = Keeping {
                place: place.clone(),
                request_sha256: hex::encode(&self.request_sha256),
                answer: sealed.clone(),
                at: now,
                expires_at: now.after(*kept),
                bytes_max: *bytes_max,
            };
            outcome.beside.push(Arc::new(keeping) as Arc<dyn Beside>);
        }
    }

    /// Those who wait get the answer.
    pub fn answered(self, answer: Arc<Answer>) {
        if let Some(slot) = self.slot {
            slot.land(Landing::Answered(answer));
        }
    }

    /// Those who wait are told what the first one was told, so that nobody is asked once more for each of them.
    pub fn failed(self, reply: &Reply, fault: Option<Fault>, class: Option<&'static str>) {
        let Some(slot) = self.slot else { return };
        let body = match &reply.body {
            Body::Whole(body) => body.clone(),
            Body::Stream(_) => return,
        };
        let of_content = |(name, _): &&(String, String)| matches!(name.as_str(), "content-type" | "retry-after");
        let headers = reply.headers.iter().filter(of_content).cloned().collect();
        slot.land(Landing::Failed(Arc::new(Told { status: reply.status, headers, body, fault, class })));
    }
}

impl Answer {
    /// The one that this outcome tells of.
    pub fn new(outcome: &ModelOutcome, content_type: &str, headers: Vec<(String, String)>, body: Bytes) -> Self {
        let (status, target) = (outcome.status, outcome.target.clone());
        Self { status, content_type: content_type.to_owned(), headers, body, target, at: Timestamp::ZERO }
    }
}
