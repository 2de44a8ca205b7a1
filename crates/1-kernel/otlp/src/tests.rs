//! What we send, judged by the official definitions; what the operator writes, judged by us.

use agentos_base::{
    Ambient,
    redact::Redactor,
    trace::{Kind, Span, TraceContext},
};
use agentos_types::{Code, Timestamp};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value as Official,
    trace::v1::{span::SpanKind, status::StatusCode},
};
use prost::Message;

use crate::{OtlpOptions, encode::Encoder};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn the_official_definitions_read_what_we_write() {
    let (ambient, _) = Ambient::fake(5, Timestamp::ZERO);
    let parent: TraceContext = PARENT.parse().unwrap();
    let redactor = Redactor::default();
    redactor.keep(["hunter2-hunter2".to_owned()]);
    let mut span = Span::new("execute_tool net.fetch", Kind::Client, parent.child(&ambient), Timestamp(1_000_001))
        .parent(Some(parent))
        .link(Some(parent.derived(1)))
        .ended(Timestamp(2_000_002))
        .text("gen_ai.tool.call.id", "key with hunter2-hunter2 in it")
        .integer("agentos.task.attempt", -3)
        .flag("agentos.step.replayed", true)
        .failed(Some("AOS-1603"));
    span.parent_is_remote = true;
    let encoder = Encoder::new(&[("service.name".into(), "s".into())], redactor);
    let bytes = encoder.request(&[encoder.span(&span)]);
    let request = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();

    let resource = &request.resource_spans[0];
    assert_eq!(resource.resource.as_ref().unwrap().attributes[0].key, "service.name");
    assert_eq!(resource.scope_spans[0].scope.as_ref().unwrap().name, "agent-os");
    let seen = &resource.scope_spans[0].spans[0];
    assert_eq!(seen.trace_id, parent.trace_id());
    assert_eq!(
        (seen.span_id.as_slice(), seen.parent_span_id.as_slice()),
        (&span.context.span_id()[..], &parent.span_id()[..])
    );
    assert_eq!((seen.name.as_str(), seen.kind()), ("execute_tool net.fetch", SpanKind::Client));
    assert_eq!((seen.start_time_unix_nano, seen.end_time_unix_nano), (1_000_001_000, 2_000_002_000));
    assert_eq!(seen.flags, 0x301);
    assert_eq!(seen.links[0].span_id, parent.derived(1).span_id());
    let status = seen.status.as_ref().unwrap();
    assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, "AOS-1603"));
    let value = |key: &str| {
        let found = seen.attributes.iter().find(|attribute| attribute.key == key).unwrap();
        found.value.clone().unwrap().value.unwrap()
    };
    assert_eq!(value("gen_ai.tool.call.id"), Official::StringValue("key with [redacted] in it".into()));
    assert_eq!(value("agentos.task.attempt"), Official::IntValue(-3));
    assert_eq!(value("agentos.step.replayed"), Official::BoolValue(true));
    assert_eq!(value("error.type"), Official::StringValue("AOS-1603".into()));
    // Whatever the official definitions do not know would be lost when they write it again.
    assert_eq!(request.encoded_len(), bytes.len());
}

#[test]
fn long_texts_are_cut_after_they_were_masked() {
    let redactor = Redactor::default();
    redactor.keep(["s".repeat(40)]);
    let encoder = Encoder::new(&[], redactor);
    let (ambient, _) = Ambient::fake(5, Timestamp::ZERO);
    let name = format!("{}{}{}", "a".repeat(250), "s".repeat(40), "é".repeat(500));
    let wire = encoder.span(&Span::new(name, Kind::Internal, ambient.root(), Timestamp::ZERO));
    assert_eq!(wire.name.chars().count(), 256);
    assert!(!wire.name.contains('s'), "{}", wire.name);
}

#[test]
fn options_are_checked_before_the_start() {
    for bad in ["", "collector:4318", "ftp://collector", "http://user:pass@collector:4318", "http://"] {
        assert_eq!(OtlpOptions::new(bad).unwrap_err().code, Code::CONFIG_INVALID_VALUE, "{bad}");
    }
    let options = OtlpOptions::new("http://127.0.0.1:4318/").unwrap();
    assert_eq!(options.url.as_str(), "http://127.0.0.1:4318/v1/traces");
    let secret = options.clone().headers("authorization=Bearer%20topsecret-token, x-tenant = a").unwrap();
    assert_eq!(secret.secrets(), ["Bearer topsecret-token", "topsecret-token", "a"]);
    assert!(!format!("{secret:?}").contains("topsecret"), "{secret:?}");
    for bad in ["nonsense", "a=%zz", "a b=c", "=x", "a=%ff"] {
        let fault = options.clone().headers(bad).unwrap_err();
        assert!(fault.code == Code::CONFIG_INVALID_VALUE && !format!("{fault:?}").contains(bad), "{fault:?}");
    }
    let open = OtlpOptions::new("http://collector.example:4318").unwrap();
    assert!(open.clone().headers("").is_ok());
    assert_eq!(open.headers("a=b").unwrap_err().code, Code::CONFIG_INVALID_VALUE, "a credential in the clear");
    assert!(OtlpOptions::new("https://collector.example").unwrap().headers("a=b").is_ok());
    assert!(options.clone().resource("", &[], &[]).is_err());
    let named =
        options.resource("mine", &[("service.version", "1")], &["a=b".into(), "service.name=x".into()]).unwrap();
    assert_eq!(named.resource.len(), 3);
    assert_eq!(named.resource[0].1, "mine");
}
