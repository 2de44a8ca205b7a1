//! Takes spans and never waits: what does not fit into the queue is dropped and counted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::mpsc;

use super::{Span, TraceContext};

/// Spans that wait for their export, where the settings name no number: about 8 MiB, or a second of a busy server.
pub const SPANS_QUEUED_MAX: usize = 8_192;

/// Cheap to clone; all clones feed one queue. Without one (the default) nothing is recorded, and asking costs a compare.
#[derive(Clone, Debug, Default)]
pub struct Tracer {
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    queue: mpsc::Sender<Span>,
    /// Share of the traces that begin here which are recorded.
    ratio: f64,
    stats: Arc<SpanStats>,
}

/// What became of the spans since the start.
#[derive(Debug, Default)]
pub struct SpanStats {
    /// Accepted by the collector.
    pub exported: AtomicU64,
    /// The queue was full, or the server stopped before they could be sent.
    pub dropped: AtomicU64,
    /// Given up after the collector failed or refused them.
    pub failed: AtomicU64,
}

/// The other end, for whoever exports.
#[derive(Debug)]
pub struct Spans {
    pub queue: mpsc::Receiver<Span>,
    pub stats: Arc<SpanStats>,
}

impl Tracer {
    pub fn new(ratio: f64, queue_max: usize) -> (Self, Spans) {
        let (sender, queue) = mpsc::channel(queue_max.max(1));
        let stats = Arc::new(SpanStats::default());
        let shared = Shared { queue: sender, ratio, stats: stats.clone() };
        (Self { shared: Some(Arc::new(shared)) }, Spans { queue, stats })
    }

    /// Whether a span at this place is wanted. Asked before anything is computed for it.
    pub fn wants(&self, context: &TraceContext) -> bool {
        self.shared.is_some() && context.is_sampled()
    }

    /// The context of a span that is wanted.
    pub fn wanted(&self, traceparent: &str) -> Option<TraceContext> {
        self.shared.as_ref()?;
        TraceContext::parse(traceparent).filter(TraceContext::is_sampled)
    }

    /// The decision about a trace that nobody has decided about. It follows from the id, so that every node decides alike.
    pub fn samples(&self, context: &TraceContext) -> bool {
        self.shared.as_ref().is_none_or(|shared| context.position() < shared.ratio)
    }

    pub fn record(&self, span: Span) {
        let Some(shared) = self.shared.as_ref().filter(|_| span.context.is_sampled()) else { return };
        if shared.queue.try_send(span).is_err() {
            shared.stats.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn stats(&self) -> Option<&SpanStats> {
        self.shared.as_ref().map(|shared| &*shared.stats)
    }
}

#[cfg(test)]
mod tests {
    use agentos_types::Timestamp;

    use super::*;
    use crate::{Ambient, trace::Kind};

    #[test]
    fn a_full_queue_drops_and_counts_and_never_waits() {
        let (tracer, mut spans) = Tracer::new(1.0, 2);
        let (ambient, _) = Ambient::fake(1, Timestamp::ZERO);
        let ambient = ambient.with_tracer(tracer.clone());
        for _ in 0..5 {
            tracer.record(Span::new("x", Kind::Internal, ambient.root(), ambient.now()));
        }
        assert_eq!(spans.stats.dropped.load(Ordering::Relaxed), 3);
        assert!(spans.queue.try_recv().is_ok() && spans.queue.try_recv().is_ok() && spans.queue.try_recv().is_err());
    }

    #[test]
    fn the_ratio_decides_about_new_traces_alone() {
        let share = |ratio: f64| {
            let (tracer, _spans) = Tracer::new(ratio, 1);
            let (ambient, _) = Ambient::fake(1, Timestamp::ZERO);
            let ambient = ambient.with_tracer(tracer);
            (0..2_000).filter(|_| ambient.root().is_sampled()).count()
        };
        assert_eq!((share(0.0), share(1.0)), (0, 2_000));
        assert!((400..600).contains(&share(0.25)), "{}", share(0.25));
        let (tracer, _spans) = Tracer::new(0.0, 1);
        let given: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
        assert!(tracer.wants(&given), "a caller's decision stands");
        assert!(!Tracer::default().wants(&given), "nobody exports");
    }
}
