//! A real model of 135 million parameters behind llama.cpp's server, which `scripts/local-model.sh` installs into
//! `target/local-model`. It answers in tenths of a second, speaks chat completions, follows schemas by grammar, and knows
//! nothing of tools: its server drops them and answers 200.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::programs::{python, target};

/// Ends with this value.
#[derive(Debug)]
pub struct LocalModel {
    url: String,
    _server: Child,
}

impl LocalModel {
    pub const NAME: &str = "smollm2";

    pub async fn start() -> Self {
        let installed = target().join("local-model");
        assert!(installed.join("known").is_file(), "{} is missing; run: scripts/local-model.sh", installed.display());
        let mut server = Command::new(python())
            .args(["-c", include_str!("../local_model/serve.py")])
            .env_clear()
            .env("PYTHONPATH", installed.join("python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // Threads that wait by spinning take the cores away from everybody, themselves included.
            .env("OMP_WAIT_POLICY", "PASSIVE")
            .env("OMP_NUM_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("python3 starts");
        let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines();
        let url = loop {
            let line = lines.next_line().await.expect("readable").expect("the server says where it listens");
            if line.starts_with("http://") {
                break line;
            }
        };
        Self { url, _server: server }
    }

    /// Without a path.
    pub fn url(&self) -> &str {
        &self.url
    }
}
