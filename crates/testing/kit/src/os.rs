//! A whole AgentOS: the real program, in a scratch directory, on a free port.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use agentos_client::Client;
use agentos_types::{
    AgentName, Code, TaskId,
    agent::{Agent, AgentState},
    task::Task,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{Package, Volume, eventually, leftovers, plain::PlainUser, programs::program};

const WORKSPACE: &str = "AGENT_OS_SANDBOX_WORKSPACE";

/// Ends its server when it is dropped.
#[derive(Debug)]
pub struct TestOs {
    home: PathBuf,
    /// Taken away with this value, unless the home lies on somebody else's volume.
    _temporary: Option<TempDir>,
    /// A volume whose namespace every program runs in, and the home as they see it.
    place: Option<(Vec<String>, PathBuf)>,
    environment: Vec<(String, String)>,
    /// Who has no rights, and runs every program.
    plain_user: Option<PlainUser>,
    /// The program that runs as the server.
    program: String,
    server: Option<Child>,
    /// Every server that this has started.
    servers: Vec<u32>,
}

impl Drop for TestOs {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            let pid = server.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            // Killed here, because what follows waits for its end.
            pid.map(|pid| kill_process(pid, Signal::KILL));
            drop(server);
        }
        leftovers::remove(&self.home, &self.servers);
    }
}

/// What one call of the command line gave back.
#[derive(Debug)]
pub struct CliOutput {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl TestOs {
    /// Initialised and running, with default settings.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Initialised and running, with the given text as configuration file.
    pub async fn start_with(config: &str) -> Self {
        let mut os = Self::initialised().await;
        fs::write(os.home().join("agent-os.toml"), config).expect("scratch is writable");
        os.up().await;
        os
    }

    /// Initialised and not running.
    pub async fn initialised() -> Self {
        let os = Self::bare(&[]);
        os.cli_ok(&["init"]).await;
        os
    }

    /// An empty data directory, and variables for every program that this starts.
    pub fn bare(environment: &[(&str, &str)]) -> Self {
        let home = TempDir::with_prefix("agentos-home-").expect("scratch is writable");
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self {
            home: home.path().to_owned(),
            _temporary: Some(home),
            place: None,
            environment,
            plain_user: None,
            program: "agent-os".into(),
            server: None,
            servers: Vec::new(),
        }
        .without_mounts()
    }

    /// A disk image for each agent takes time, and a mount outlives a server that is killed; who is to test them takes this
    /// away.
    fn without_mounts(mut self) -> Self {
        self.set_env(WORKSPACE, "watchdog");
        self
    }

    /// Workspaces by the best means of this machine, as without any setting.
    pub fn with_real_workspaces(mut self) -> Self {
        self.unset_env(WORKSPACE);
        self
    }

    /// The same on a volume of the test.
    pub fn bare_on(volume: &Volume) -> Self {
        let place = Some((volume.entrance(), volume.inside().join("home")));
        Self {
            home: volume.path().join("home"),
            _temporary: None,
            place,
            environment: Vec::new(),
            plain_user: None,
            program: "agent-os".into(),
            server: None,
            servers: Vec::new(),
        }
        .without_mounts()
    }

    /// Takes a variable away again.
    pub fn unset_env(&mut self, name: &str) {
        self.environment.retain(|(held, _)| held != name);
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Adds a variable to the otherwise empty environment of every program that this starts from now on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.push((name.into(), value.into()));
    }

    /// Lets every program run through another one, which gets it as its last words: a namespace, a user.
    pub fn enter_through(&mut self, entrance: &[&str]) {
        let entrance = entrance.iter().map(|word| (*word).to_owned()).collect();
        self.place = Some((entrance, self.home.clone()));
    }

    /// Lets every program from now on run as a user without rights, who owns the home. Whoever is no root is one already.
    pub fn become_plain(&mut self) {
        let Some(user) = PlainUser::new() else { return };
        fs::create_dir_all(&self.home).expect("scratch is writable");
        user.own(&self.home);
        let (mut entrance, home) = self.place.take().unwrap_or_else(|| (Vec::new(), self.home.clone()));
        entrance.extend(user.entrance());
        self.place = Some((entrance, home));
        self.plain_user = Some(user);
    }

    /// Lets another program than `agent-os` be the server from the next start on.
    pub fn serve_with(&mut self, program: &str) {
        self.program = program.into();
    }

    /// Starts the server and waits until it is ready.
    pub async fn up(&mut self) {
        self.up_on(0).await;
    }

    /// The same on a port that others know.
    pub async fn up_on(&mut self, port: u16) {
        assert!(self.try_up_on(port, &[]).await, "the server did not start:\n{}", self.log());
    }

    /// Starts the server with further variables. False: it ended before it was ready.
    pub async fn try_up(&mut self, variables: &[(&str, &str)]) -> bool {
        self.try_up_on(0, variables).await
    }

    async fn try_up_on(&mut self, port: u16, variables: &[(&str, &str)]) -> bool {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).expect("scratch is writable");
        let mut child = self
            .command_of(&self.program, &["--output", "jsonl", "up", "--port", &port.to_string()])
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let stdout = child.stdout.take().expect("piped");
        let line = BufReader::new(stdout).lines().next_line().await.expect("readable");
        self.servers.extend(child.id());
        self.server = Some(child);
        line.is_some()
    }

    /// Whether the server has ended by itself. What a crash leaves behind stays.
    pub fn has_ended(&mut self) -> bool {
        let server = self.server.as_mut().expect("a started server");
        server.try_wait().expect("waited for").is_some()
    }

    /// SIGKILL to the server: what a crash leaves behind stays.
    pub async fn kill(&mut self) {
        let mut server = self.server.take().expect("a running server");
        server.kill().await.expect("killed");
    }

    /// SIGTERM to the server, and its end.
    pub async fn down(&mut self) -> i32 {
        let mut server = self.server.take().expect("a running server");
        let pid = server.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("a running server");
        kill_process(pid, Signal::TERM).expect("signalled");
        server.wait().await.expect("waited for").code().unwrap_or(-1)
    }

    pub fn server_pid(&self) -> u32 {
        self.server.as_ref().and_then(Child::id).expect("a running server")
    }

    pub fn url(&self) -> String {
        self.server_file()["url"].as_str().expect("a URL").to_owned()
    }

    /// The token that `init` made for the command line.
    pub fn token(&self) -> String {
        fs::read_to_string(self.home().join("cli.token")).expect("a token").trim().to_owned()
    }

    pub fn client(&self) -> Client {
        self.client_with(Some(self.token()))
    }

    pub fn client_with(&self, token: Option<String>) -> Client {
        Client::new(self.url(), token, None).expect("a valid URL")
    }

    /// Everything that the server wrote to standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs `agent-os` for this installation.
    pub async fn cli(&self, args: &[&str]) -> CliOutput {
        self.cli_with_input(args, "").await
    }

    pub async fn cli_with_input(&self, args: &[&str], input: &str) -> CliOutput {
        Self::output_of(self.command(args), input).await
    }

    /// Runs the program that is the server as a command, with further variables.
    pub async fn run(&self, args: &[&str], variables: &[(&str, &str)]) -> CliOutput {
        let mut command = self.command_of(&self.program, args);
        command.envs(variables.iter().copied());
        Self::output_of(command, "").await
    }

    async fn output_of(mut command: Command, input: &str) -> CliOutput {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("piped");
        // A program that does not read its input may close it early.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.expect("waited for");
        CliOutput {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs `agent-os`, expects success, returns its standard output.
    pub async fn cli_ok(&self, args: &[&str]) -> String {
        let output = self.cli(args).await;
        assert_eq!(output.code, 0, "agent-os {args:?} failed:\n{}{}", output.stdout, output.stderr);
        output.stdout
    }

    /// Runs `agent-os -o json`, expects success, returns the document.
    pub async fn cli_json(&self, args: &[&str]) -> Value {
        let all: Vec<&str> = ["--output", "json"].into_iter().chain(args.iter().copied()).collect();
        let text = self.cli_ok(&all).await;
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("agent-os {args:?} printed no JSON ({error}): {text}"))
    }

    /// Signs and deploys a package and waits until its agent is ready.
    pub async fn deploy(&self, package: &Package) -> Agent {
        let directory = package.path().to_str().expect("a plain path");
        self.plain_user.iter().for_each(|user| user.own(package.path()));
        self.cli_ok(&["sign", directory]).await;
        let deployed = self.cli_json(&["agent", "deploy", directory]).await;
        let name = deployed["name"].as_str().expect("a name").parse().expect("a valid name");
        self.agent_in(&name, &[AgentState::Ready, AgentState::Running]).await
    }

    /// Waits until the agent is in one of the states.
    pub async fn agent_in(&self, name: &AgentName, states: &[AgentState]) -> Agent {
        let client = self.client();
        eventually(&format!("agent {name} in {states:?}"), || async {
            let agent = client.get_agent(name).await.map_err(|fault| fault.to_string())?;
            if states.contains(&agent.state) { Ok(agent) } else { Err(format!("{:?} {:?}", agent.state, agent.reason)) }
        })
        .await
    }

    /// Submits a task and waits for its end.
    pub async fn run_task(&self, agent: &str, input: Value) -> Task {
        let id = self.submit(agent, input).await;
        self.finished(&id).await
    }

    pub async fn submit(&self, agent: &str, input: Value) -> TaskId {
        let submitted = self.cli_json(&["task", "submit", agent, "--input", &input.to_string()]).await;
        submitted["id"].as_str().expect("an id").parse().expect("a task id")
    }

    /// Waits for the end of a task, also over a restart of the server.
    pub async fn finished(&self, id: &TaskId) -> Task {
        let client = self.client();
        eventually(&format!("the end of {id}"), || async {
            match client.get_task(id).await {
                Ok(task) if task.state.is_terminal() => Ok(task),
                Ok(task) => Err(format!("{:?}", task.state)),
                Err(fault) if fault.code == Code::NOT_RUNNING => Err(fault.to_string()),
                Err(fault) => panic!("{fault}"),
            }
        })
        .await
    }

    fn command(&self, args: &[&str]) -> Command {
        self.command_of("agent-os", args)
    }

    fn command_of(&self, name: &str, args: &[&str]) -> Command {
        let (entrance, home) = self.place.clone().unwrap_or_else(|| (Vec::new(), self.home.clone()));
        let program =
            self.plain_user.as_ref().map_or_else(|| program(name), |user| user.program(name)).into_os_string();
        let mut words = entrance.into_iter().map(OsString::from).chain([program]);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).env_clear().env("AGENT_OS_HOME", home).envs(self.environment.iter().cloned()).args(args);
        command
    }

    fn log_path(&self) -> PathBuf {
        self.home().join("test-server.log")
    }

    fn server_file(&self) -> Value {
        let text = fs::read_to_string(self.home().join("server.json")).expect("a running server");
        serde_json::from_str(&text).expect("valid JSON")
    }
}
