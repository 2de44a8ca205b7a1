//! What a person reads when something goes wrong, and the exit code with it.

use agentos_api::{Problem, problem::PROBLEM_JSON};
use agentos_cli::Exit;
use agentos_types::{Code, Fault};
use axum::response::{IntoResponse, Response};

use crate::world::World;

fn problem(fault: &Fault) -> Response {
    let problem = Problem::new(fault, None);
    let status = axum::http::StatusCode::from_u16(problem.status).unwrap();
    (status, [("content-type", PROBLEM_JSON)], serde_json::to_string(&problem).unwrap()).into_response()
}

#[tokio::test]
async fn a_refusal_keeps_its_code_and_its_hint() {
    for (code, exit) in [
        (Code::TASK_NOT_FOUND, Exit::Refused),
        (Code::UNAUTHENTICATED, Exit::NotPermitted),
        (Code::FORBIDDEN, Exit::NotPermitted),
    ] {
        let fault = Fault::new(code, "it is\u{1b}[2J so").hint("do this");
        let world = World::with_server(move |_| problem(&fault)).await;
        for format in ["table", "json"] {
            let seen = world.run(&format!("agent list -o {format}")).await;
            assert_eq!((seen.exit, seen.out.as_str()), (exit, ""), "{code}");
            assert_eq!(seen.err, format!("error[{code}]: it is\\u{{1b}}[2J so\nhint: do this\n"));
        }
    }
}

#[tokio::test]
async fn no_server() {
    let mut world = World::new();
    let seen = world.run("status").await;
    let path = world.path().display().to_string();
    let expected = format!(
        "error[AOS-1010]: no server runs for the data directory {path}\n\
         hint: nothing is there yet; make it with: agent-os init --data-dir {path}\n"
    );
    assert_eq!((seen.exit, seen.out.as_str(), seen.err), (Exit::NotReachable, "", expected));

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    world.environment.insert("AGENT_OS_URL".into(), url.clone());
    let seen = world.run("agent list").await;
    assert_eq!(seen.exit, Exit::NotReachable);
    assert!(seen.err.starts_with(&format!("error[AOS-1010]: no server answers at {url}\n")), "{}", seen.err);
    assert!(seen.err.contains("hint: start it with: agent-os up --detach\n"));
}

#[tokio::test]
async fn a_package_that_is_not_there_or_not_signed() {
    let world = World::new();
    let missing = world.run("agent deploy /nonexistent/package").await;
    assert_eq!(missing.exit, Exit::Usage);
    let directory = world.path().display().to_string();
    let unsigned = world.run(&format!("agent deploy {directory}")).await;
    assert_eq!(unsigned.exit, Exit::Refused);
    assert!(unsigned.err.contains(&format!("hint: sign it with: agent-os sign {directory}\n")), "{}", unsigned.err);
}

#[tokio::test]
async fn a_misspelt_setting_is_refused_with_the_right_one() {
    let world = World::new();
    std::fs::write(world.path().join("agent-os.toml"), "[gatway]\nlisten = \"x\"\n").unwrap();
    for line in ["config check", "config show"] {
        let seen = world.run(line).await;
        assert_eq!(seen.exit, Exit::Refused);
        assert!(seen.err.contains("hint: did you mean 'gateway.listen'?"), "{}", seen.err);
    }
}

/// Standard output that nobody reads any more.
struct Closed;

impl std::io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_command_quietly() {
    let world = World::new();
    let mut console = agentos_cli::Console::process();
    console.output = Box::new(Closed);
    let invocation = agentos_cli::Invocation {
        args: ["agent-os", "config", "schema"].map(Into::into).to_vec(),
        environment: world.environment.clone(),
        ambient: agentos_base::Ambient::system(),
        console,
    };
    assert_eq!(agentos_cli::run(invocation, &world.program).await, Exit::Success);
}
