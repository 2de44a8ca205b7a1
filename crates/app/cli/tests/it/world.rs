//! A data directory, a server that answers as told, and a way to run a command line against both.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
};

use agentos_base::Ambient;
use agentos_cli::{Console, Exit, Host, Invocation, ServerFile, run};
use agentos_types::Timestamp;
use axum::{
    Router,
    body::to_bytes,
    extract::Request,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::host::Program;

pub const NOW_MS: i64 = 1_795_392_000_000;

/// What a person sees.
#[derive(Debug)]
pub struct Seen {
    pub exit: Exit,
    pub out: String,
    pub err: String,
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Requests as `METHOD path?query body`.
type Asked = Arc<Mutex<Vec<String>>>;

pub struct World {
    pub directory: TempDir,
    asked: Asked,
    pub environment: BTreeMap<String, String>,
    pub program: Program,
}

impl World {
    /// Without a server.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_str().unwrap().to_owned();
        let environment = BTreeMap::from([("AGENT_OS_HOME".to_owned(), home)]);
        Self { directory, asked: Asked::default(), environment, program: Program::default() }
    }

    /// With a server; `answer` gets `METHOD path?query`.
    pub async fn with_server(answer: impl Fn(&str) -> Response + Clone + Send + Sync + 'static) -> Self {
        let world = Self::new();
        let asked = world.asked.clone();
        let handler = move |request: Request| {
            let (asked, answer) = (asked.clone(), answer.clone());
            async move {
                let line = format!("{} {}", request.method(), request.uri());
                let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
                let full = format!("{line} {}", String::from_utf8_lossy(&body));
                asked.lock().unwrap().push(full.trim_end().to_owned());
                answer(&line)
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = ServerFile {
            pid: i32::MAX as u32,
            url: format!("http://{}", listener.local_addr().unwrap()),
            version: "0.1.0".into(),
            started_at: Timestamp::ZERO,
            tls_cert_file: None,
        };
        server.store(world.path()).unwrap();
        let token = world.path().join(agentos_cli::TOKEN_FILE);
        std::fs::write(&token, "local-token").unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handler)).await });
        world
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The requests that the server has got.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Runs the words after the program's name; blanks separate them.
    pub async fn run(&self, words: &str) -> Seen {
        self.run_with(&words.split_whitespace().collect::<Vec<_>>(), b"").await
    }

    pub async fn run_with(&self, words: &[&str], stdin: &[u8]) -> Seen {
        self.run_on(words, stdin, false, &self.program).await
    }

    pub async fn run_on(&self, words: &[&str], stdin: &[u8], is_terminal: bool, host: &dyn Host) -> Seen {
        let (out, err) = (Buffer::default(), Buffer::default());
        let mut console = Console::process();
        console.input.stream = Box::new(io::Cursor::new(stdin.to_vec()));
        console.input.is_terminal = is_terminal;
        console.output = Box::new(out.clone());
        console.errors = Box::new(err.clone());
        let invocation = Invocation {
            args: [&["agent-os"], words].concat().into_iter().map(Into::into).collect(),
            environment: self.environment.clone(),
            ambient: Ambient::fake(1, Timestamp::from_millis(NOW_MS)).0,
            console,
        };
        let exit = run(invocation, host).await;
        Seen { exit, out: out.text(), err: err.text() }
    }
}

pub fn json(body: Value) -> Response {
    ([("content-type", "application/json")], body.to_string()).into_response()
}
