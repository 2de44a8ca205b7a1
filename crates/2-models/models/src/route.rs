//! What the engine needs of whoever chooses: a target to try, the next one after a failure, and somebody to tell how it went.
//! The router is the one; a test may be another.

use agentos_ledger::Payer;
use agentos_router::{Act, Asked, Caching, DecisionRecord, Decisions, Observed, Plan, Router, Target};
use agentos_types::{Fault, Result, Timestamp};
use agentos_wire::Failure;

pub trait Routing: Send + Sync {
    /// Refused if nothing can answer, with what can be done about it.
    fn plan(&self, asked: &Asked<'_>) -> Result<Box<dyn Course>, Fault>;

    /// What can be named, and whose it is.
    fn names(&self) -> Vec<(String, String)>;

    /// Why nothing can answer, as it stands right after [`Self::plan`] has refused, if that is to be kept.
    fn refused(&self, _asked: &Asked<'_>) -> Option<DecisionRecord> {
        None
    }

    /// How answers to this caller are cached, if somebody wants it.
    fn caching(&self, _payer: &Payer) -> Option<Caching> {
        None
    }
}

/// The attempts of one request. Dropped, it gives back what it holds and says nothing about its target.
pub trait Course: Send {
    /// What is tried next: first with `None`, then with the failure of the last target. `None`: it is over, and that failure is
    /// told.
    fn next(&mut self, last: Option<&Failure>, now: Timestamp) -> Option<Target>;

    /// Another target beside the one that is slow. It counts as an attempt; of the two, each failure is reported and a loser says
    /// nothing.
    fn hedge(&mut self, now: Timestamp) -> Option<Target>;

    /// How it goes. A failure that [`Course::next`] is told of needs no report.
    fn report(&mut self, target: &Target, observed: Observed<'_>, now: Timestamp);

    /// How its targets are chosen is to be kept.
    fn is_kept(&self) -> bool {
        false
    }

    /// How they were chosen. Asked at the end and once.
    fn take_decision(&mut self) -> Option<DecisionRecord> {
        None
    }
}

impl Routing for Router {
    fn plan(&self, asked: &Asked<'_>) -> Result<Box<dyn Course>, Fault> {
        Ok(Box::new(Router::plan(self, asked)?))
    }

    fn names(&self) -> Vec<(String, String)> {
        let config = self.config();
        let names = config.names().into_iter();
        names.map(|(id, provider)| (id, provider.unwrap_or("agent-os").to_owned())).collect()
    }

    fn refused(&self, asked: &Asked<'_>) -> Option<DecisionRecord> {
        let is_kept = self.config().document().decisions == Decisions::Keep;
        let record = is_kept.then(|| self.explain(asked).ok()).flatten()?;
        // A target that has opened in between is not why this request was refused.
        matches!(record.steps.last()?.act, Act::Stop(_)).then_some(record)
    }

    fn caching(&self, payer: &Payer) -> Option<Caching> {
        let config = self.config();
        // Where nobody has a cache, no call pays for the look.
        if config.document().cache.is_empty() { None } else { config.caching(&payer.shown()) }
    }
}

impl Course for Plan {
    fn next(&mut self, last: Option<&Failure>, now: Timestamp) -> Option<Target> {
        Plan::next(self, last, now)
    }

    fn hedge(&mut self, now: Timestamp) -> Option<Target> {
        Plan::hedge(self, now)
    }

    fn report(&mut self, target: &Target, observed: Observed<'_>, now: Timestamp) {
        if let Some(change) = Plan::report(self, target, observed, now) {
            tracing::warn!(target = target.id, ?change, "the health of a target of models changed");
        }
    }

    fn is_kept(&self) -> bool {
        Plan::is_kept(self)
    }

    fn take_decision(&mut self) -> Option<DecisionRecord> {
        Plan::is_kept(self).then(|| self.take_record())
    }
}
