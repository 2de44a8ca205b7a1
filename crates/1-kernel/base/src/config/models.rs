//! What the settings say of calls of models.

use std::time::Duration;

use agentos_types::{Code, Fault, Result};

use super::{Config, Value};

impl Config {
    pub fn models_body_bytes_max(&self) -> usize {
        self.size("models.body_bytes_max")
    }

    pub fn models_answer_timeout(&self) -> Duration {
        Duration::from_secs(self.integer("models.answer_timeout_s"))
    }

    pub fn models_answer_tokens_max(&self) -> u64 {
        self.integer("models.answer_tokens_max")
    }

    pub fn models_shorten_answers(&self) -> bool {
        matches!(self.values.get("models.shorten_answers"), Some((Value::Boolean(true), _)))
    }

    /// A body that no room could ever hold would be refused for ever with the advice to come back.
    pub fn models_held_bytes_max(&self) -> Result<usize> {
        let (held, body) = (self.size("models.held_bytes_max"), self.models_body_bytes_max());
        if held >= body {
            return Ok(held);
        }
        let text = format!("models.held_bytes_max is {held}, less than models.body_bytes_max with {body}");
        Err(Fault::new(Code::CONFIG_INVALID_VALUE, text)
            .hint("raise models.held_bytes_max, or lower models.body_bytes_max"))
    }

    /// `None`: nobody looks.
    pub fn models_probe_interval(&self) -> Option<Duration> {
        let seconds = self.integer("models.probe_interval_s");
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }
}
