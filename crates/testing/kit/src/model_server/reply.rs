//! What is sent for a request if nothing comes between: status, headers and the pieces of the body.

use serde_json::{Value, json};

use super::{
    Act, Asked, chat, gemini, messages, responses,
    said::{self, Said},
    talk::{Speech, Talk},
};

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";

pub struct Reply {
    pub status: u16,
    pub kind: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub is_stream: bool,
    pub pieces: Vec<Vec<u8>>,
}

impl Reply {
    pub fn to(asked: &Asked, act: &Act) -> Self {
        let talk = Talk::read(asked);
        let speech = talk.as_ref().map_or(Speech::Chat, |talk| talk.speech);
        let error = |status| match speech {
            Speech::Chat | Speech::Responses => chat::error(status),
            Speech::Messages => messages::error(status),
            Speech::Gemini => gemini::error(status),
        };
        match act {
            Act::Status(status, headers) => Self { headers: headers.clone(), ..Self::whole(*status, &error(*status)) },
            Act::Raw(status, kind, body) => {
                Self { status: *status, kind, headers: Vec::new(), is_stream: false, pieces: vec![body.clone()] }
            }
            Act::ErrorInside200 if asked.is_stream() => Self::stream(vec![error_event(speech)]),
            Act::ErrorInside200 => Self::whole(200, &error(500)),
            _ => Self::ordinary(asked, talk, act, &error(404)),
        }
    }

    fn ordinary(asked: &Asked, talk: Option<Talk>, act: &Act, unknown: &Value) -> Self {
        let route = asked.route();
        let body = match talk {
            _ if route.ends_with("/models") => chat::models(),
            _ if route.ends_with("/embeddings") => chat::embeddings(&asked.json()),
            Some(talk) if route.ends_with("/count_tokens") => json!({"input_tokens": said::input_tokens(&talk)}),
            Some(talk) => return Self::of_talk(&talk, act),
            None => return Self::whole(404, unknown),
        };
        Self::whole(200, &body).spoilt(act)
    }

    fn of_talk(talk: &Talk, act: &Act) -> Self {
        let said = Said::to(talk, act);
        if talk.is_stream && *act != Act::NotStreamed {
            let events = match talk.speech {
                Speech::Chat => chat::events(talk, &said),
                Speech::Responses => responses::events(talk, &said),
                Speech::Messages => messages::events(talk, &said),
                Speech::Gemini => gemini::events(talk, &said),
            };
            return Self::stream(spoilt(events, talk.speech, act));
        }
        let whole = match talk.speech {
            Speech::Chat => chat::whole(talk, &said),
            Speech::Responses => responses::whole(talk, &said),
            Speech::Messages => messages::whole(talk, &said),
            Speech::Gemini => gemini::whole(talk, &said),
        };
        Self::whole(200, &whole).spoilt(act)
    }

    /// In two pieces, so that something can come between.
    fn whole(status: u16, body: &Value) -> Self {
        let text = body.to_string().into_bytes();
        let (first, second) = text.split_at(text.len() / 2);
        let pieces = vec![first.to_vec(), second.to_vec()];
        Self { status, kind: JSON, headers: Vec::new(), is_stream: false, pieces }
    }

    /// A whole body that cannot be read is half of one.
    fn spoilt(mut self, act: &Act) -> Self {
        if matches!(act, Act::Malformed { .. } | Act::End { .. }) {
            self.pieces.truncate(1);
        }
        self
    }

    fn stream(events: Vec<String>) -> Self {
        let pieces = events.into_iter().map(String::into_bytes).collect();
        Self { status: 200, kind: EVENTS, headers: Vec::new(), is_stream: true, pieces }
    }
}

fn spoilt(mut events: Vec<String>, speech: Speech, act: &Act) -> Vec<String> {
    match act {
        Act::End { after } => events.truncate(*after),
        Act::Malformed { after } => {
            events.truncate(*after);
            events.push("data: {\"id\": \"chatcmpl-test\", \"choices\": [{\"delta\n\n".into());
        }
        Act::ErrorEvent { after } => {
            events.truncate(*after);
            events.push(error_event(speech));
        }
        _ => {}
    }
    events
}

fn error_event(speech: Speech) -> String {
    match speech {
        Speech::Chat => chat::frame(&chat::error(500)),
        Speech::Responses => responses::error_event(),
        Speech::Messages => messages::error_event(),
        Speech::Gemini => chat::frame(&gemini::error(500)),
    }
}
