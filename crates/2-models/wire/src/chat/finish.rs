//! Why an answer ended, in this protocol's few words.

use crate::Finish;

pub fn read(word: &str) -> Finish {
    match word {
        "stop" => Finish::Stop,
        "length" => Finish::Length,
        "tool_calls" => Finish::ToolCalls,
        "content_filter" => Finish::ContentFilter,
        "error" => Finish::Error,
        other => Finish::Other(other.to_owned()),
    }
}

/// The word, and what it does not say. A turn that its provider interrupted counts as cut off, never as complete.
pub fn write(finish: &Finish) -> (&str, Option<String>) {
    match finish {
        Finish::Stop => ("stop", None),
        Finish::StopSequence(sequence) => {
            ("stop", sequence.as_ref().map(|sequence| format!("stop_sequence: {sequence}")))
        }
        Finish::Length => ("length", None),
        Finish::ContextFull => ("length", Some("context_full".to_owned())),
        Finish::Paused => ("length", Some("paused".to_owned())),
        Finish::ToolCalls => ("tool_calls", None),
        Finish::ContentFilter => ("content_filter", None),
        Finish::Refused => ("content_filter", Some("refused".to_owned())),
        Finish::Error => ("error", None),
        Finish::Other(word) => (word, None),
    }
}
