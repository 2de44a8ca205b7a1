//! What stands around a gateway of models in the benches: the provider, which answers at once, and the two least gateways
//! that could be written, which only forward. Each is a process of its own, as a real one is.
//!
//! `model-peer mock`, `model-peer pass-through ADDRESS`, `model-peer rewrite ADDRESS`. The address where it listens is its
//! first line. It ends with its standard input, so that it never outlives who has started it.

mod mock;
mod proxy;

use std::{
    convert::Infallible,
    future::Future,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    thread,
};

use anyhow::{Result, bail};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::proxy::Proxy;

/// As many as ask at once in the largest cell.
const BACKLOG: u32 = 2_048;

type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "model-peer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    thread::spawn(end_with_input);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["mock"] => runtime.block_on(listen(mock::answer)),
        ["pass-through", upstream] => {
            let proxy = Proxy::new(upstream.parse()?);
            runtime.block_on(listen(move |request| proxy.clone().forward(request)))
        }
        ["rewrite", upstream] => {
            let proxy = Proxy::new(upstream.parse()?);
            runtime.block_on(listen(move |request| proxy.clone().rewrite(request)))
        }
        _ => bail!("mock, pass-through ADDRESS or rewrite ADDRESS"),
    }
}

fn end_with_input() {
    let _ = io::stdin().read_to_end(&mut Vec::new());
    std::process::exit(0);
}

async fn listen<Answer, Answered>(answer: Answer) -> Result<()>
where
    Answer: Fn(Request<Incoming>) -> Answered + Clone + Send + 'static,
    Answered: Future<Output = Result<Response<Body>>> + Send + 'static,
{
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let listener: TcpListener = socket.listen(BACKLOG)?;
    let mut out = io::stdout();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(keep(stream, answer.clone()));
    }
}

/// Serves a connection until its client leaves it.
async fn keep<Answer, Answered>(stream: TcpStream, answer: Answer)
where
    Answer: Fn(Request<Incoming>) -> Answered + Send,
    Answered: Future<Output = Result<Response<Body>>> + Send,
{
    let service = service_fn(move |request| {
        let answered = answer(request);
        async { Ok::<_, Infallible>(answered.await.unwrap_or_else(|error| mock::failure(&error))) }
    });
    // A client that goes away in the middle is no error of ours.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
