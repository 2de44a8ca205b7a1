//! The official clients of OpenAI and Anthropic for Python and JavaScript, which `scripts/sdks.sh` installs into `target/sdks`.
//! A driver beside each does what a test orders and prints what came of it; the judgement stays with the test.

use std::{path::PathBuf, process::Stdio};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::programs::{python, target};

/// One client in one language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    OpenAiPython,
    OpenAiJavaScript,
    AnthropicPython,
    AnthropicJavaScript,
}

/// Where they are installed.
pub fn sdks() -> PathBuf {
    let sdks = target().join("sdks");
    assert!(sdks.join("known").is_file(), "{} is missing; run: scripts/sdks.sh", sdks.display());
    sdks
}

impl Sdk {
    pub const ALL: [Sdk; 4] =
        [Sdk::OpenAiPython, Sdk::OpenAiJavaScript, Sdk::AnthropicPython, Sdk::AnthropicJavaScript];

    pub fn is_openai(self) -> bool {
        matches!(self, Sdk::OpenAiPython | Sdk::OpenAiJavaScript)
    }

    /// Its exceptions are called the same in both languages, but for this one.
    pub fn timeout_class(self) -> &'static str {
        match self {
            Sdk::OpenAiPython | Sdk::AnthropicPython => "APITimeoutError",
            Sdk::OpenAiJavaScript | Sdk::AnthropicJavaScript => "APIConnectionTimeoutError",
        }
    }

    /// What the client takes as the address of a server: OpenAI's with the version, Anthropic's without.
    pub fn base_url(self, server: &str) -> String {
        if self.is_openai() { format!("{server}/v1") } else { server.to_owned() }
    }

    /// Name and text of the driver.
    pub fn script(self) -> (&'static str, &'static str) {
        match self {
            Sdk::OpenAiPython => ("openai_client.py", include_str!("../sdks/openai_client.py")),
            Sdk::OpenAiJavaScript => ("openai_client.cjs", include_str!("../sdks/openai_client.cjs")),
            Sdk::AnthropicPython => ("anthropic_client.py", include_str!("../sdks/anthropic_client.py")),
            Sdk::AnthropicJavaScript => ("anthropic_client.cjs", include_str!("../sdks/anthropic_client.cjs")),
        }
    }

    /// The interpreter, one that sandboxes see too.
    pub fn interpreter(self) -> PathBuf {
        match self {
            Sdk::OpenAiPython | Sdk::AnthropicPython => python(),
            Sdk::OpenAiJavaScript | Sdk::AnthropicJavaScript => {
                let places = ["/usr/local/bin/node", "/usr/bin/node"].map(PathBuf::from);
                places.into_iter().find(|path| path.is_file()).expect("node is in /usr/bin (make test installs it)")
            }
        }
    }

    /// The directory of the client with all that it needs, and the variable that tells the interpreter of it.
    pub fn library(self) -> (&'static str, PathBuf) {
        let (variable, place) = match self {
            Sdk::OpenAiPython | Sdk::AnthropicPython => ("PYTHONPATH", "python"),
            Sdk::OpenAiJavaScript | Sdk::AnthropicJavaScript => ("NODE_PATH", "javascript/node_modules"),
        };
        (variable, sdks().join(place))
    }

    /// Does the orders one after the other at a server, and returns what came of each.
    pub async fn run(self, server: &str, key: &str, orders: &[Value]) -> Vec<Value> {
        let told = json!({"base_url": self.base_url(server), "key": key, "orders": orders});
        let (variable, library) = self.library();
        let (name, text) = self.script();
        let directory = tempfile::TempDir::with_prefix("agentos-sdk-").expect("scratch is writable");
        let script = directory.path().join(name);
        std::fs::write(&script, text).expect("scratch is writable");
        let output = Command::new(self.interpreter())
            .arg(script)
            .arg(told.to_string())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env(variable, library)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .expect("the interpreter starts");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        self.results(&out, &err, orders.len())
    }

    /// Reads what a driver has printed. One that stopped early is a failure of the test.
    pub fn results(self, out: &str, err: &str, count: usize) -> Vec<Value> {
        let results: Vec<Value> = out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(results.len(), count, "{self:?} stopped:\n{out}\n{err}");
        results
    }
}
