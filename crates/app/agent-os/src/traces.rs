//! The export of traces, from the settings: off unless a collector is named. It begins before everything that records
//! spans and ends after all of it.

use std::time::Duration;

use agentos_base::{Ambient, Background, config::Config, redact::Redactor, trace::Tracer};
use agentos_otlp::{Exporter, OtlpOptions};
use agentos_types::Result;

use crate::install::Installation;

/// The exporter bounds its last export by itself; this only catches what cannot happen.
const FLUSH_GRACE: Duration = Duration::from_secs(5);

pub struct Traces {
    /// For every component: spans go out through it.
    pub ambient: Ambient,
    /// Of its own, because the others have to be over when the last spans are sent.
    background: Background,
}

impl Traces {
    pub fn begin(config: &Config, installation: &Installation, redactor: &Redactor) -> Result<Self> {
        let (ambient, background) = (Ambient::system(), Background::default());
        let Some(endpoint) = config.otlp_endpoint() else { return Ok(Self { ambient, background }) };
        let own = [
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.namespace", "agent-os"),
            ("service.instance.id", installation.node.as_str()),
        ];
        let mut options = OtlpOptions::new(endpoint)?.headers(config.otlp_headers())?.resource(
            config.trace_service_name(),
            &own,
            &config.trace_resource_attributes(),
        )?;
        options.timeout = config.otlp_timeout();
        options.certificate = config.otlp_certificate();
        options.batch_max = config.trace_batch_max();
        options.batch_delay = config.trace_batch_delay();
        let (tracer, spans) = Tracer::new(config.trace_sample_ratio(), config.trace_queue_max());
        let exporter = Exporter::new(options, spans, ambient.clone(), redactor.clone())?;
        background.spawn("export of traces", exporter.run(background.shutdown()));
        tracing::info!(endpoint, protocol = config.otlp_protocol(), "traces are exported");
        Ok(Self { ambient: ambient.with_tracer(tracer), background })
    }

    /// Sends what waits, within a bound.
    pub async fn end(self) {
        if !self.background.stop(FLUSH_GRACE).await {
            tracing::warn!("the last export of traces did not end in time");
        }
    }
}
