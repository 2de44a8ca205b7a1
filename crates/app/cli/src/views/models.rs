//! Models and providers.

use agentos_api::model_admin::{ModelEntry, ModelList, ModelProbe, ModelTest, ProviderInfo, ProviderKeyTest, ShutLane};
use agentos_types::budget::usd;

use super::{View, optional_time};

impl View for ModelEntry {
    const COLUMNS: &'static [&'static str] =
        &["model", "state", "window", "usd in/out", "first byte", "errors", "probe", "answers"];

    fn cells(&self) -> Vec<String> {
        let health = self.health.as_ref();
        vec![
            self.id.clone(),
            state(self),
            self.context.map(|tokens| tokens.to_string()).unwrap_or_default(),
            self.price.as_ref().map(|price| format!("{} / {}", price.input, price.output)).unwrap_or_default(),
            health.and_then(|health| health.first_byte_us).map(milliseconds).unwrap_or_default(),
            health.map(|health| permille(health.errors_permille)).unwrap_or_default(),
            self.probe.as_ref().map(probed).unwrap_or_default(),
            match &self.policy {
                Some(policy) => format!("{policy}: {}", self.targets.join(", ")),
                None => self.capabilities.join(", "),
            },
        ]
    }

    fn key(&self) -> String {
        self.id.clone()
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let price = |of: fn(&agentos_api::model_admin::ModelPrice) -> Option<String>| {
            self.price.as_ref().and_then(of).map(|text| format!("{text} USD a million")).unwrap_or_default()
        };
        let health = self.health.as_ref();
        let tokens = |count: Option<u64>| count.map(|count| format!("{count} tokens")).unwrap_or_default();
        vec![
            ("model", self.id.clone()),
            ("provider", self.provider.clone().unwrap_or_default()),
            ("state", state(self)),
            ("policy", self.policy.clone().unwrap_or_default()),
            ("targets", self.targets.join("\n")),
            ("window", tokens(self.context)),
            ("longest answer", tokens(self.output_max)),
            ("can", self.capabilities.join(", ")),
            ("input", price(|price| Some(price.input.clone()))),
            ("output", price(|price| Some(price.output.clone()))),
            ("cache read", price(|price| price.cache_read.clone())),
            ("cache write", price(|price| price.cache_write.clone())),
            ("first byte", health.and_then(|health| health.first_byte_us).map(milliseconds).unwrap_or_default()),
            ("errors", health.map(|health| permille(health.errors_permille)).unwrap_or_default()),
            ("in flight", health.map(|health| health.in_flight.to_string()).unwrap_or_default()),
            ("probe", self.probe.as_ref().map(|probe| format!("{}, {}", probed(probe), probe.at)).unwrap_or_default()),
        ]
    }
}

fn state(model: &ModelEntry) -> String {
    if model.disabled {
        return "disabled".to_owned();
    }
    let shut: &[ShutLane] = model.health.as_ref().map_or(&[], |health| &health.shut);
    match shut {
        [] => "enabled".to_owned(),
        lanes => lanes
            .iter()
            .map(|lane| format!("{}: {} {}", lane.name, lane.state, optional_time(lane.until)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// What came of the last look at the provider's list of models, and how long ago.
fn probed(probe: &ModelProbe) -> String {
    let ago = match probe.age_s {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    };
    format!("{} {ago} ago", probe.outcome)
}

fn milliseconds(us: u64) -> String {
    format!("{} ms", us / 1_000)
}

fn permille(permille: u32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// Which prices these are.
pub(crate) fn model_list_note(list: &ModelList) -> String {
    let hash = list.prices.sha256.get(..12).unwrap_or(&list.prices.sha256);
    format!("document {}, prices of {} (sha256 {hash}), USD per million tokens", list.revision, list.prices.date)
}

impl View for ModelTest {
    const COLUMNS: &'static [&'static str] =
        &["outcome", "answered by", "attempts", "time", "cost", "estimated", "text"];

    fn cells(&self) -> Vec<String> {
        vec![
            if self.ok { "ok".to_owned() } else { format!("failed with {}", self.status) },
            self.target.clone().unwrap_or_default(),
            self.attempts.map(|attempts| attempts.to_string()).unwrap_or_default(),
            format!("{} ms", self.duration_ms),
            self.nano_usd.map(|nano| format!("{} USD", usd(nano))).unwrap_or_default(),
            if self.estimated { "yes".to_owned() } else { String::new() },
            self.text.clone(),
        ]
    }

    fn key(&self) -> String {
        if self.ok { "ok" } else { "failed" }.to_owned()
    }
}

impl View for ProviderInfo {
    const COLUMNS: &'static [&'static str] = &["name", "kind", "state", "keys", "models", "address"];

    fn cells(&self) -> Vec<String> {
        let keys = self.keys.iter().map(|key| {
            let missing = if key.present { "" } else { " (no such secret)" };
            format!("{}{missing}", key.secret)
        });
        vec![
            self.name.clone(),
            self.kind.clone(),
            if self.disabled { "disabled" } else { "enabled" }.to_owned(),
            keys.collect::<Vec<_>>().join(", "),
            self.models.len().to_string(),
            self.base_url.clone(),
        ]
    }

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl View for ProviderKeyTest {
    const COLUMNS: &'static [&'static str] = &["key", "outcome", "models", "time", "text"];

    fn cells(&self) -> Vec<String> {
        let status = self.status.map_or_else(|| "no answer".to_owned(), |status| format!("status {status}"));
        vec![
            self.secret.clone().unwrap_or_else(|| "none".to_owned()),
            if self.ok { "ok".to_owned() } else { status },
            self.models.map(|models| models.to_string()).unwrap_or_default(),
            format!("{} ms", self.duration_ms),
            self.text.clone(),
        ]
    }

    fn key(&self) -> String {
        self.secret.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use agentos_types::Timestamp;

    use super::*;

    #[test]
    fn a_listing_tells_what_came_of_the_last_probe_and_when() {
        let at = ModelEntry::COLUMNS.iter().position(|column| *column == "probe").unwrap();
        let model = |outcome: &str, age_s| ModelEntry {
            probe: Some(ModelProbe { at: Timestamp::ZERO, age_s, outcome: outcome.into() }),
            ..ModelEntry::default()
        };
        for (outcome, age_s, expected) in [
            ("answered", 0, "answered 0 s ago"),
            ("failed", 119, "failed 119 s ago"),
            ("failed", 120, "failed 2 min ago"),
            ("unsupported", 7_200, "unsupported 2 h ago"),
        ] {
            assert_eq!(model(outcome, age_s).cells()[at], expected);
            let fields = model(outcome, age_s).fields();
            let shown = &fields.iter().find(|(name, _)| *name == "probe").unwrap().1;
            assert!(shown.starts_with(&format!("{expected}, 1970")), "{shown}");
        }
        assert_eq!(ModelEntry::default().cells()[at], "");
    }
}
