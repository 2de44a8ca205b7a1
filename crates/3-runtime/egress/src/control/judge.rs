//! The port to whoever decides. The control moves questions and answers and decides nothing about them.

use std::os::fd::OwnedFd;

use agentos_monitor::egress::Closing;
use agentos_protocol::egress::{Refusal, Verdict, Wish};
use agentos_types::Fault;
use async_trait::async_trait;

use super::Guest;

/// Decides about wishes. An implementation bounds its own time: what it has begun is never dropped in the middle, because
/// what it recorded must be followed by an outcome.
#[async_trait]
pub trait Judge: Send + Sync {
    async fn judge(&self, who: &Guest, wish: &Wish) -> Judgement;

    /// The proxy itself refused something.
    async fn refused(&self, who: &Guest, target: Option<&str>, reason: Refusal);

    /// Nothing more comes from this guest.
    async fn ended(&self, who: &Guest);

    /// Every few seconds.
    async fn tidy(&self);
}

/// A verdict, and with an allowance what has to be told of its end.
pub struct Judgement {
    pub verdict: Verdict,
    /// Absent for names, of which nothing comes, for models, and for refusals.
    pub passage: Option<Box<dyn Passage>>,
    /// With [`Verdict::Models`], the proxy's end of the connection.
    pub models: Option<OwnedFd>,
}

impl Judgement {
    pub fn denied(fault: &Fault) -> Self {
        Self::without_passage(Verdict::Denied { code: fault.code.to_string(), message: fault.message.clone() })
    }

    pub fn without_passage(verdict: Verdict) -> Self {
        Self { verdict, passage: None, models: None }
    }

    pub fn models(end: OwnedFd) -> Self {
        Self { verdict: Verdict::Models, passage: None, models: Some(end) }
    }
}

/// One granted connection or request; spent by telling how it ended.
#[async_trait]
pub trait Passage: Send + Sync {
    async fn close(self: Box<Self>, closing: Closing);

    /// The proxy is gone, and with it the connection and what is known about it.
    async fn lose(self: Box<Self>);
}

#[async_trait]
impl Passage for agentos_monitor::egress::Passage {
    async fn close(self: Box<Self>, closing: Closing) {
        agentos_monitor::egress::Passage::close(*self, closing).await;
    }

    async fn lose(self: Box<Self>) {
        agentos_monitor::egress::Passage::lose(*self).await;
    }
}
