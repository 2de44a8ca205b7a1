//! What the export of traces costs: the same work in turn with every trace exported and with none. The collector is a
//! listener that throws everything away, so that the figure is ours; encoding and sending run on the same cores.

use std::{sync::Arc, time::Instant};

use agentos_base::{Ambient, Background, redact::Redactor, trace::Tracer};
use agentos_otlp::{Exporter, OtlpOptions};
use anyhow::Result;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Kernel, syscalls, tasks};
use crate::{
    figure::Figure,
    place::Place,
    probe::millis,
    progress::Progress,
    sample::{Rounds, median},
};

const ROUNDS: usize = 5;
const CALLS_PER_ROUND: usize = 1_000;
const IN_FLIGHT: usize = 64;
const TASKS_PER_ROUND: usize = 2_400;
/// A second of spans at any rate that the store reaches; what is dropped would cost nothing and flatter the figure.
const QUEUE_MAX: usize = 65_536;

pub async fn measure(place: &Place, progress: Progress) -> Result<Vec<Figure>> {
    let (ambient, background) = exporting().await?;
    let figures = vec![calls(place, progress, &ambient).await?, throughput(place, progress, &ambient).await?];
    let dropped = ambient.tracer().stats().map_or(0, |stats| stats.dropped.load(std::sync::atomic::Ordering::Relaxed));
    anyhow::ensure!(dropped == 0, "{dropped} spans were dropped, so that their export was not measured");
    background.stop(std::time::Duration::from_secs(5)).await;
    Ok(figures)
}

/// An ambient whose every trace is sent to a collector.
async fn exporting() -> Result<(Ambient, Background)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let background = Background::default();
    background.spawn("collector", collect(listener, background.shutdown()));
    let (tracer, spans) = Tracer::new(1.0, QUEUE_MAX);
    let options = OtlpOptions::new(&endpoint)?.resource("bench", &[], &[])?;
    let exporter = Exporter::new(options, spans, Ambient::system(), Redactor::default())?;
    background.spawn("export", exporter.run(background.shutdown()));
    Ok((Ambient::system().with_tracer(tracer), background))
}

async fn collect(listener: TcpListener, shutdown: tokio_util::sync::CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        if let Ok((stream, _)) = accepted {
            // A request that breaks off is the exporter's to count.
            let _ = swallow(stream).await;
        }
    }
}

/// Reads one request to its end and says yes.
async fn swallow(mut stream: TcpStream) -> Result<()> {
    let (mut seen, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let text = String::from_utf8_lossy(&seen).to_lowercase();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut left = length.unwrap_or("0").parse::<usize>()?.saturating_sub(seen.len() - head.len() - 4);
            while left > 0 {
                left = left.saturating_sub(stream.read(&mut chunk).await?.max(1));
            }
            return Ok(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?);
        }
        // The head comes in one or two pieces; the first of the body may come with it.
        let count = stream.read(chunk.get_mut(..1_024).unwrap_or_default()).await?;
        anyhow::ensure!(count > 0, "the request broke off");
        seen.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
}

async fn calls(place: &Place, progress: Progress, exporting: &Ambient) -> Result<Figure> {
    let (mut on, mut off) = (Rounds::default(), Rounds::default());
    for round in 1..=ROUNDS {
        progress.say(&format!("system call with and without traces, round {round} of {ROUNDS}"));
        off.push(call_round(place, Ambient::system()).await?);
        on.push(call_round(place, exporting.clone()).await?);
    }
    Ok(Figure::times("system call kv.get, every trace exported", &on, 0.99)
        .beside("without export p50", off.median())
        .note("three spans a call: the call, and its share of two commits at most"))
}

async fn call_round(place: &Place, ambient: Ambient) -> Result<Vec<f64>> {
    let directory = place.in_memory()?;
    let kernel = Kernel::open_with(directory.path(), None, ambient).await?;
    let agent = syscalls::agent(&kernel).await?;
    agent.call("put".into(), "kv.put", json!({"key": "k", "value": {"n": 1}})).await?;
    let mut taken = Vec::with_capacity(CALLS_PER_ROUND);
    for number in 0..CALLS_PER_ROUND {
        let began = Instant::now();
        agent.get(format!("get-{number}")).await?;
        taken.push(millis(began));
    }
    Ok(taken)
}

async fn throughput(place: &Place, progress: Progress, exporting: &Ambient) -> Result<Figure> {
    let (mut on, mut off) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        progress.say(&format!("durable tasks with and without traces, round {round} of {ROUNDS}"));
        off.push(task_round(place, Ambient::system()).await?);
        on.push(task_round(place, exporting.clone()).await?);
    }
    let rate = median(on.iter().copied());
    let rounds = Rounds::from_iter(on.into_iter().map(|rate| vec![rate]));
    Ok(Figure::values(
        format!("durable tasks, {IN_FLIGHT} in flight, every trace exported"),
        "tasks/s",
        vec![("", rate)],
        &rounds,
    )
    .beside("without export", median(off))
    .note(format!("{TASKS_PER_ROUND} tasks a round, claim and complete; two spans a task, and those of the commits")))
}

async fn task_round(place: &Place, ambient: Ambient) -> Result<f64> {
    let directory = place.fresh("traced-")?;
    let kernel = Arc::new(Kernel::open_with(directory.path(), None, ambient).await?);
    tasks::enqueue(&kernel, TASKS_PER_ROUND).await?;
    tasks::claim_and_complete(&kernel, IN_FLIGHT, TASKS_PER_ROUND).await
}
