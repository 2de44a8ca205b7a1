//! The reference of spans, attributes, metrics and log fields, from the table of names.

use std::fmt::Write;

use agentos_base::names::{AGENTS_LABELLED_MAX, ATTRIBUTES, LOG_FIELDS, METRICS, OTHER_AGENTS, SCHEMA_URL, spans};

pub fn page() -> String {
    let mut text = format!(
        "# Telemetry\n\n\
         The names of everything that is traced, counted and logged. [Traces, metrics, logs](../guides/observability.md) tells how to \
         use them.\n\n\
         Generated from `crates/1-kernel/base/src/names.rs` by `cargo xtask gen`.\n\n\
         ## Spans\n\nThe schema is `{SCHEMA_URL}`.\n\n| span | tells of |\n|---|---|\n"
    );
    for (name, about) in spans::ALL {
        let _ = writeln!(text, "| `{name}` | {about} |");
    }
    text.push_str("\n## Attributes\n\n| attribute | meaning |\n|---|---|\n");
    for (name, about) in ATTRIBUTES {
        let _ = writeln!(text, "| `{name}` | {} |", about.trim());
    }
    let _ = write!(
        text,
        "\n## Metrics\n\nOn `/metrics`, with a token that has the scope `metrics`. The first {AGENTS_LABELLED_MAX} agents by name have \
         series of their own; all\nothers together are the agent `{OTHER_AGENTS}`.\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n"
    );
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(text, "| `{}` | {} | {} | {} |", metric.name, metric.kind, labels.join(", "), metric.help);
    }
    text.push_str(
        "\n## Log fields\n\nOf each line with `log.format = \"json\"`, in this order; those after `message` only where there is something \
         to say.\n\n| field | meaning |\n|---|---|\n",
    );
    for (name, about) in LOG_FIELDS {
        let _ = writeln!(text, "| `{name}` | {about} |");
    }
    text
}
