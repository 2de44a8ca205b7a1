//! Providers of models: what looks at them have shown, and how much of each is shut. Labels are providers of the document, of which
//! there are at most 64.

use std::collections::BTreeMap;

use agentos_base::names;
use agentos_router::{BreakerState, Probed, Router};
use agentos_types::Timestamp;

use super::Page;

pub(super) fn render(router: &Router, now: Timestamp, page: &mut Page) {
    let mut probes: BTreeMap<Vec<String>, f64> = BTreeMap::new();
    for view in router.probe_views() {
        for outcome in Probed::ALL {
            let count = view.counts.get(&outcome).copied().unwrap_or(0);
            *probes.entry(vec![view.provider.clone(), outcome.as_str().to_owned()]).or_default() += count as f64;
        }
    }
    page.family(&names::MODEL_PROBES, probes);
    let config = router.config();
    let mut shut: BTreeMap<&str, f64> = config.document().providers.keys().map(|name| (name.as_str(), 0.0)).collect();
    for view in router.health(now) {
        let is_shut = view.lanes.iter().any(|lane| lane.state != BreakerState::Closed);
        let provider = view.target.split('/').next().unwrap_or_default();
        if let Some(count) = shut.get_mut(provider).filter(|_| is_shut) {
            *count += 1.0;
        }
    }
    page.family(&names::MODEL_SHUT, shut.into_iter().map(|(provider, count)| (vec![provider.to_owned()], count)));
}
