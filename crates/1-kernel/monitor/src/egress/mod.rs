//! The same door for what a program does by itself: each name, connection and request that the egress proxy sees is
//! decided here, by the grants of the agent's manifest, the operator's hosts and the operator's private exceptions.
//!
//! A refusal is a record (repeated ones are counted), an allowed name is one once for each process, and an allowed
//! connection or request has a durable intent before the answer and an outcome afterwards. What cannot be recorded is
//! refused. Not here: bytes, addresses, secrets. The proxy carries and dials, the broker reveals.

mod capture;
mod exit;
mod passage;
mod repeats;

use std::sync::{Arc, Mutex, PoisonError};

use agentos_authority::{Caller, HostRule};
use agentos_dialer::HostPort;
use agentos_failpoint::{Point, hit};
use agentos_protocol::egress::{Refusal, Wish};
use agentos_types::{
    Actor, Code, Fault, Result,
    audit::{AuditEvent, Decision, Phase},
};

pub use capture::{Captured, Terms};
pub use exit::Exit;
pub use passage::{Closing, Passage};

use self::{
    capture::ends_here,
    exit::{Asked, action_of, check_literal, spell},
    repeats::{Refused, Repeats, Summary, Who},
};
use crate::{
    Monitor,
    monitor::{Inner, clipped},
    rate::RateLimiter,
};

/// Characters of a target that a program chose and that is no host.
const TARGET_CHARS_MAX: usize = 256;

/// What the operator decides about the network of all agents.
#[derive(Clone, Debug, Default)]
pub struct EgressRules {
    /// The only hosts that agents may reach; absent, the manifests decide alone.
    pub allowed_domains: Option<Vec<HostRule>>,
    /// Targets whose addresses may be private.
    pub private_exceptions: Vec<HostPort>,
}

/// What becomes of a wish that was allowed.
#[derive(Debug)]
pub enum Way {
    /// The name may be known; nothing leaves for it.
    Known,
    /// One connection or request, to be carried out once.
    Out(Box<Passage>),
    /// One connection that ends at the models here.
    Models(Captured),
}

/// A wish that was decided and not recorded yet.
enum Decided {
    Name(Asked),
    Out(Asked),
    Models(Asked),
}

/// What the door remembers about ways out.
#[derive(Debug, Default)]
pub(crate) struct Egress {
    private_exceptions: Vec<HostPort>,
    repeats: Mutex<Repeats>,
    /// Apart from that of calls: a download must not use up what the agent needs to answer.
    rate: RateLimiter,
}

impl Egress {
    pub(crate) fn new(private_exceptions: Vec<HostPort>) -> Self {
        Self { private_exceptions, ..Self::default() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Repeats) -> T) -> T {
        // Counts: whole after any panic.
        work(&mut self.repeats.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Monitor {
    /// Decides one wish of a program behind the proxy. The faults are those of [`Monitor::call`], with messages for the
    /// program inside.
    pub async fn egress(&self, caller: &Caller, terms: &Terms<'_>, wish: &Wish) -> Result<Way> {
        let inner = &self.inner;
        let outcome = match inner.decide_egress(caller, terms, wish) {
            Err(refused) => {
                let (fault, shown) = *refused;
                inner.refuse_egress(caller, action_of(wish), &shown, fault).await
            }
            Ok(Decided::Name(asked)) => inner.allow_name(caller, &asked).await.map(|()| Way::Known),
            Ok(Decided::Models(asked)) => inner.capture(caller, &asked).await.map(Way::Models),
            Ok(Decided::Out(asked)) => {
                inner.clone().open_passage(caller, asked).await.map(|passage| Way::Out(Box::new(passage)))
            }
        };
        outcome.map_err(|mut fault| {
            fault.message = clipped(inner.redactor.clean(&fault.message));
            fault
        })
    }

    /// The proxy itself refused something before it could ask: a request that can be read in two ways, a limit.
    pub async fn egress_refused(&self, caller: &Caller, target: Option<&str>, reason: &Refusal) -> Result<()> {
        let refused = Refused {
            action: "egress.refused",
            shown: self.inner.redactor.clean(&shown(target.unwrap_or("-"))),
            reason: passage::word(reason),
        };
        self.inner.record_refusal(caller, refused).await
    }

    /// Records what was counted in periods that are over. To be called every few seconds.
    pub async fn egress_summaries(&self) -> Result<()> {
        let due = self.inner.egress.with(|repeats| repeats.due(self.inner.ambient.now()));
        for who in &due {
            self.inner.record_summaries(who).await?;
        }
        Ok(())
    }

    /// The process behind the caller is over: its counts are recorded and its memory given back.
    pub async fn egress_ended(&self, caller: &Caller) -> Result<()> {
        let recorded = self.inner.record_summaries(&who(caller)).await;
        self.inner.egress.with(|repeats| repeats.remove(&caller.instance));
        recorded
    }
}

impl Inner {
    /// Spelling ▸ providers of models ▸ grants ▸ operator's hosts ▸ literal addresses. The text is what a refusal is recorded
    /// about.
    fn decide_egress(&self, caller: &Caller, terms: &Terms<'_>, wish: &Wish) -> Result<Decided, Box<(Fault, String)>> {
        let asked = spell(wish, terms.credentials, &self.egress.private_exceptions)
            .map_err(|fault| Box::new((fault, shown_raw(wish))))?;
        if ends_here(caller, &asked, wish, terms) {
            return Ok(if asked.is_name { Decided::Name(asked) } else { Decided::Models(asked) });
        }
        self.minter
            .authorize(caller, &asked.demands, ())
            .and_then(|_| check_literal(&asked.exit))
            .map_err(|fault| Box::new((fault, asked.shown.clone())))?;
        Ok(if asked.is_name { Decided::Name(asked) } else { Decided::Out(asked) })
    }

    /// What is allowed and leaves a record has a rate; refusals are bounded by being counted.
    async fn limit_egress(&self, caller: &Caller, asked: &Asked) -> Result<()> {
        let Err(limited) = self.egress.rate.take(&caller.agent, caller.calls_per_minute, self.ambient.now()) else {
            return Ok(());
        };
        let fault = Fault::new(
            Code::RATE_LIMITED,
            format!("more than {} connections a minute (limits.calls_per_minute)", caller.calls_per_minute),
        )
        .retry_after(limited.wait);
        self.refuse_egress(caller, asked.action, "-", fault).await
    }

    async fn allow_name(&self, caller: &Caller, asked: &Asked) -> Result<()> {
        let name = asked.exit.target.name().unwrap_or_default();
        if !self.egress.with(|repeats| repeats.is_new_name(&caller.instance, name)) {
            return Ok(());
        }
        self.limit_egress(caller, asked).await?;
        let record = self.egress_event(&who(caller), asked.action, &asked.shown).decision(Decision::Allowed);
        self.store.record(record).await?;
        self.egress.with(|repeats| repeats.name_recorded(caller, name));
        Ok(())
    }

    /// The intent is durable before anybody hears of the grant.
    async fn open_passage(self: Arc<Self>, caller: &Caller, asked: Asked) -> Result<Passage> {
        self.limit_egress(caller, &asked).await?;
        let mut record = self
            .egress_event(&who(caller), asked.action, &asked.shown)
            .correlation(self.ambient.request_id().to_string());
        if let Some(method) = &asked.method {
            record = record.fact("method", method.clone());
        }
        if asked.exit.private_allowed {
            record = record.fact("private_exception", true);
        }
        if !asked.exit.credentials.is_empty() {
            let used = asked.exit.credentials.iter().map(|credential| credential.secret.to_string());
            record = record.fact("secrets", used.collect::<Vec<_>>());
        }
        let intent = self.stamped(record.clone()).phase(Phase::Intent, Decision::Allowed);
        self.store
            .write(move |tx| {
                tx.record(intent);
                hit(Point::MonitorEgressIntentRecorded);
                Ok(())
            })
            .await?;
        hit(Point::MonitorEgressIntentDurable);
        // Made here, after the record and where it is spent: no proof exists without its intent.
        let exit = self.minter.authorize(caller, &asked.demands, asked.exit)?;
        Ok(Passage { exit, record, inner: self })
    }

    async fn refuse_egress<T>(&self, caller: &Caller, action: &'static str, shown: &str, fault: Fault) -> Result<T> {
        let refused = Refused { action, shown: self.redactor.clean(shown), reason: fault.code.to_string() };
        self.record_refusal(caller, refused).await?;
        Err(fault)
    }

    async fn record_refusal(&self, caller: &Caller, refused: Refused) -> Result<()> {
        let now = self.ambient.now();
        if !self.egress.with(|repeats| repeats.is_new(caller, &refused, now)) {
            return Ok(());
        }
        let record = self.refusal_event(&who(caller), &refused);
        let written = self.store.record(record).await;
        if written.is_err() {
            self.egress.with(|repeats| repeats.forget(&caller.instance, &refused));
        }
        hit(Point::MonitorEgressRefusalRecorded);
        written
    }

    async fn record_summaries(&self, who: &Who) -> Result<()> {
        let summaries = self.egress.with(|repeats| repeats.take(&who.1));
        if summaries.is_empty() {
            return Ok(());
        }
        let records: Vec<AuditEvent> = summaries.iter().map(|summary| self.summary_event(who, summary)).collect();
        let written = self
            .store
            .write(move |tx| {
                records.into_iter().for_each(|record| tx.record(record));
                Ok(())
            })
            .await;
        if written.is_err() {
            let now = self.ambient.now();
            self.egress.with(|repeats| repeats.give_back(&who.1, summaries, now));
        }
        written
    }

    fn summary_event(&self, who: &Who, summary: &Summary) -> AuditEvent {
        let record = match &summary.of {
            Some(refused) => self.refusal_event(who, refused),
            None => self.egress_event(who, "egress.refused", "-").decision(Decision::Denied).fact("reason", "various"),
        };
        record.fact("repeated", summary.times)
    }

    fn refusal_event(&self, who: &Who, refused: &Refused) -> AuditEvent {
        let name = if refused.reason.starts_with("AOS-") { "code" } else { "reason" };
        self.egress_event(who, refused.action, &refused.shown)
            .decision(Decision::Denied)
            .fact(name, refused.reason.clone())
    }

    fn egress_event(&self, (agent, instance): &Who, action: &str, shown: &str) -> AuditEvent {
        let actor = Actor::Agent { agent: agent.clone(), instance: instance.clone(), task: None };
        AuditEvent::new(self.ambient.event_id(), self.ambient.now(), actor, action, self.redactor.clean(shown))
    }
}

fn who(caller: &Caller) -> Who {
    (caller.agent.clone(), caller.instance.clone())
}

/// A target that could not be spelled, as the program wrote it.
fn shown_raw(wish: &Wish) -> String {
    let (Wish::Name { host } | Wish::Connect { host, .. } | Wish::Request { host, .. }) = wish;
    shown(host)
}

fn shown(target: &str) -> String {
    target.chars().filter(|character| !character.is_control()).take(TARGET_CHARS_MAX).collect()
}
