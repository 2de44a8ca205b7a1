//! Where checkpoints go, as an operator writes it: a file, `URL SECRET` for a webhook, `URL SECRET KEY` for a node.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use agentos_base::config::Config;
use agentos_dialer::CheckedUrl;
use agentos_proof::WitnessKey;
use agentos_types::{Code, Fault, Result, SecretName};

/// Targets of one kind: a witness is somebody to whom one talks, and each is a loop and a row of the metrics.
pub const TARGETS_MAX: usize = 8;

#[derive(Clone, Debug)]
pub struct WitnessOptions {
    pub file: Option<PathBuf>,
    pub file_bytes_max: u64,
    pub webhooks: Vec<Webhook>,
    pub nodes: Vec<NodeTarget>,
    pub interval: Duration,
}

/// A receiver of signed webhooks.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// `webhook:HOST:PORT`.
    pub target: String,
    pub url: CheckedUrl,
    /// Holds the key of the signature.
    pub secret: SecretName,
}

/// Another node.
#[derive(Clone, Debug)]
pub struct NodeTarget {
    /// `node:HOST:PORT`.
    pub target: String,
    /// Its root, without a slash at the end.
    pub base: String,
    /// Holds a token of that node.
    pub secret: SecretName,
    /// Verifies its cosignatures.
    pub key: WitnessKey,
}

impl WitnessOptions {
    /// A relative file lies in the data directory.
    pub fn of(config: &Config, data_dir: &std::path::Path) -> Result<Self> {
        let webhooks = each(&config.audit_witness_webhooks(), "audit.witness_webhooks", webhook)?;
        let nodes = each(&config.audit_witness_nodes(), "audit.witness_nodes", node)?;
        refuse_twice(webhooks.iter().map(|hook| &hook.target).chain(nodes.iter().map(|node| &node.target)))?;
        Ok(Self {
            file: config.audit_witness_file().map(|path| data_dir.join(path)),
            file_bytes_max: config.audit_witness_file_bytes_max(),
            webhooks,
            nodes,
            interval: config.audit_witness_interval(),
        })
    }

    /// Names of all targets, as health and metrics show them.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        let file = self.file.as_ref().map(|_| crate::file::TARGET);
        let webhooks = self.webhooks.iter().map(|hook| hook.target.as_str());
        file.into_iter().chain(webhooks).chain(self.nodes.iter().map(|node| node.target.as_str()))
    }
}

fn each<T>(items: &[String], setting: &str, parse: impl Fn(&[&str]) -> Result<T>) -> Result<Vec<T>> {
    if items.len() > TARGETS_MAX {
        return Err(Fault::new(
            Code::CONFIG_INVALID_VALUE,
            format!("{setting} has {} entries, more than {TARGETS_MAX}", items.len()),
        ));
    }
    let parsed = items.iter().map(|item| {
        // The URL may hold a secret, so that a refusal names the place and not the entry.
        parse(&item.split_whitespace().collect::<Vec<_>>()).map_err(|fault| Fault {
            code: Code::CONFIG_INVALID_VALUE,
            message: format!("{setting}: {}", fault.message),
            ..fault
        })
    });
    parsed.collect()
}

fn webhook(words: &[&str]) -> Result<Webhook> {
    let [url, secret] = words else { return Err(shape("URL SECRET")) };
    let url = CheckedUrl::parse(url)?;
    Ok(Webhook { target: format!("webhook:{}", url.host_port()), url, secret: secret.parse()? })
}

fn node(words: &[&str]) -> Result<NodeTarget> {
    let [url, secret, key] = words else { return Err(shape("URL SECRET KEY")) };
    let url = CheckedUrl::parse(url)?;
    let is_local = url.host_port().address().is_some_and(|address| address.is_loopback());
    if url.scheme() != "https" && !is_local {
        return Err(Fault::new(Code::CONFIG_INVALID_VALUE, format!("{} is not reached over https", url.host_port()))
            .hint("the token of the other node would be readable on the way"));
    }
    let base = url.without_query().trim_end_matches('/').to_owned();
    Ok(NodeTarget { target: format!("node:{}", url.host_port()), base, secret: secret.parse()?, key: key.parse()? })
}

fn shape(expected: &str) -> Fault {
    Fault::new(Code::CONFIG_INVALID_VALUE, format!("an entry is not '{expected}'"))
        .hint("write the parts with one blank between them; SECRET is the name of a secret, never its value")
}

/// Two entries with one name would overwrite each other's state.
fn refuse_twice<'t>(targets: impl Iterator<Item = &'t String>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for target in targets {
        if !seen.insert(target) {
            return Err(Fault::new(Code::CONFIG_INVALID_VALUE, format!("{target} is named twice among the witnesses")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use agentos_proof::Cosigner;

    use super::*;

    fn check(webhooks: &[&str], nodes: &[&str]) -> Result<Vec<String>, String> {
        let owned = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let webhooks = each(&owned(webhooks), "audit.witness_webhooks", webhook);
        let nodes = each(&owned(nodes), "audit.witness_nodes", node);
        let parsed = webhooks.and_then(|webhooks| Ok((webhooks, nodes?)));
        let (webhooks, nodes) = parsed.map_err(|fault| format!("{fault}"))?;
        let targets: Vec<String> =
            webhooks.into_iter().map(|hook| hook.target).chain(nodes.into_iter().map(|node| node.target)).collect();
        refuse_twice(targets.iter()).map_err(|fault| fault.to_string())?;
        Ok(targets)
    }

    #[test]
    fn entries() {
        let key = Cosigner::new("node-2", &[1; 32]).unwrap().public().to_string();
        let node = |url: &str| format!("{url} token-b {key}");
        assert_eq!(
            check(&["https://hooks.example/x/SECRETPATH key"], &[&node("https://b.example:18800/")]),
            Ok(vec!["webhook:hooks.example:443".to_owned(), "node:b.example:18800".to_owned()])
        );
        assert!(check(&[], &[&node("http://127.0.0.1:18800")]).is_ok());
        for (webhooks, nodes, part) in [
            (&["https://a.example"][..], &[][..], "URL SECRET"),
            (&["https://a.example k", "https://a.example/2 k"], &[], "named twice"),
            (&["ftp://a.example k"], &[], "AOS-1002"),
            (&["https://a.example Not-A-Name"], &[], "AOS-1002"),
            (&[], &["https://b.example token"], "URL SECRET KEY"),
            (&[], &["https://b.example token key"], "witness key"),
            (&[], &[node("http://b.example").as_str()], "https"),
            (&["https://a.example k"; 9], &[], "more than 8"),
        ] {
            let refused = check(webhooks, nodes).unwrap_err();
            assert!(refused.contains(part), "{refused} lacks {part}");
        }
        // What may be a secret is not repeated.
        let refused = check(&["https://hooks.example/SECRETPATH"], &[]).unwrap_err();
        assert!(!refused.contains("SECRETPATH"), "{refused}");
    }
}
