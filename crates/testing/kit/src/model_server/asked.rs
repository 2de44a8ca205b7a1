//! One request as it came.

use serde_json::Value;

/// What was received, and what became of its client.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Place among all requests, from 0.
    pub number: usize,
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// To the byte.
    pub body: Vec<u8>,
    /// The connection that it came on, from 0.
    pub connection: usize,
    /// Pieces of the answer that are out: the head, then each event.
    pub pieces_sent: usize,
    /// The client has the whole answer.
    pub is_finished: bool,
    /// The client went away before that.
    pub is_abandoned: bool,
}

impl Asked {
    /// The first header of this name; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.as_str())
    }

    /// The key as any of the protocols hands it over.
    pub fn key(&self) -> &str {
        let bearer = self.header("authorization").strip_prefix("Bearer ");
        let named = ["x-api-key", "x-goog-api-key", "api-key"].map(|name| self.header(name));
        bearer.or_else(|| named.into_iter().find(|key| !key.is_empty())).unwrap_or_default()
    }

    /// Null where the body is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Of the body, or of Gemini's path; empty where none is named.
    pub fn model(&self) -> String {
        let of_body = self.json()["model"].as_str().map(str::to_owned);
        let of_path = || Some(self.path.split_once("/models/")?.1.split([':', '?']).next()?.to_owned());
        of_body.or_else(of_path).unwrap_or_default()
    }

    pub fn is_stream(&self) -> bool {
        self.json()["stream"] == true || self.path.contains(":streamGenerateContent")
    }

    pub(super) fn is_generation(&self) -> bool {
        let route = self.route();
        let ends = [
            "/chat/completions",
            "/responses",
            "/embeddings",
            "/messages",
            ":generateContent",
            ":streamGenerateContent",
        ];
        self.method == "POST" && ends.iter().any(|end| route.ends_with(end))
    }

    /// The path without its query.
    pub(super) fn route(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }
}
