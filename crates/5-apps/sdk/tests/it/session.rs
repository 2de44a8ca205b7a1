//! Handshake, heartbeat, and every way in which a session ends.

use agentos_protocol::{KernelFrame, WorkerFrame, frame::Outcome};
use agentos_sdk::{Code, ErrorClass, TaskContext, TaskError, Value, json};
use tokio::io::AsyncWriteExt;

use crate::kernel::{Kernel, task, welcome};

async fn echo(_: TaskContext, input: Value) -> Result<Value, TaskError> {
    Ok(input)
}

#[tokio::test]
async fn a_task_is_answered_with_its_output() {
    let mut kernel = Kernel::ready(|context: TaskContext, input| async move {
        let seen =
            json!({"attempt": context.attempt(), "deadline": context.deadline_at(), "trace": context.traceparent()});
        context.progress(seen).await?;
        Ok(input)
    })
    .await;
    kernel.give(&task(1), 3, json!({"a": 1})).await;
    let data =
        json!({"attempt": 3, "deadline": 5000, "trace": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"});
    assert_eq!(kernel.receive().await, WorkerFrame::Progress { task: task(1), data });
    assert_eq!(kernel.receive().await, WorkerFrame::Done { task: task(1), output: json!({"a": 1}) });
    assert_eq!(kernel.end().await, Ok(()));
}

#[tokio::test]
async fn errors_and_panics_of_a_handler_fail_the_task_alone() {
    let mut kernel = Kernel::ready(|_, input: Value| {
        assert_ne!(input, json!("early panic"), "planned");
        async move {
            match input.as_str() {
                Some("panic") => panic!("planned"),
                Some("wait") => Err(TaskError::rate_limited("later", 7)),
                _ => Err(TaskError::transient("no luck")),
            }
        }
    })
    .await;
    for (attempt, input, class, message, retry_after_s) in [
        (1, json!("panic"), ErrorClass::Crash, "the handler panicked; see the agent's log", None),
        (2, json!("early panic"), ErrorClass::Crash, "the handler panicked; see the agent's log", None),
        (3, json!("wait"), ErrorClass::RateLimited, "later", Some(7)),
        (4, json!(null), ErrorClass::Transient, "no luck", None),
    ] {
        kernel.give(&task(1), attempt, input).await;
        let expected = WorkerFrame::Failed { task: task(1), class, message: message.into(), retry_after_s };
        assert_eq!(kernel.receive().await, expected);
        kernel.expect_quiet(1).await;
    }
}

#[tokio::test]
async fn pings_are_answered_while_handlers_are_busy() {
    let mut kernel = Kernel::ready(|_, _| async {
        loop {
            tokio::task::yield_now().await;
        }
    })
    .await;
    kernel.give(&task(1), 1, json!(null)).await;
    for n in 0..100 {
        kernel.expect_quiet(n).await;
    }
    assert_eq!(kernel.end().await, Ok(()), "the end of the socket stops a busy handler");
}

#[tokio::test]
async fn pings_are_answered_while_the_kernel_does_not_read_the_rest() {
    // One handler fills the socket and the queue; the pong must not need a place in it.
    let mut kernel = Kernel::ready(|context: TaskContext, _| async move {
        for _ in 0..64 {
            context.progress(json!("x".repeat(100_000))).await?;
        }
        Ok(Value::Null)
    })
    .await;
    kernel.give(&task(1), 1, json!(null)).await;
    kernel.send(&KernelFrame::Ping { n: 9 }).await;
    let mut before = 0;
    while kernel.receive().await != (WorkerFrame::Pong { n: 9 }) {
        before += 1;
    }
    assert!(before < 64, "the pong overtakes what is queued, it came after {before} frames");
}

#[tokio::test]
async fn a_session_ends_with_the_reason() {
    async fn check(frames: &[KernelFrame], code: Code) {
        let mut kernel = Kernel::spawn(echo);
        assert!(matches!(kernel.receive().await, WorkerFrame::Hello { .. }));
        for frame in frames {
            kernel.send(frame).await;
        }
        assert_eq!(kernel.outcome().await.unwrap_err().code, code, "{frames:?}");
    }
    let fatal = KernelFrame::Fatal { code: Code::WORKER_SILENT, message: "too late".into() };
    check(&[welcome(2)], Code::PROTOCOL_VERSION).await;
    check(&[KernelFrame::Ping { n: 1 }], Code::PROTOCOL_ORDER).await;
    check(&[welcome(1), welcome(1)], Code::PROTOCOL_ORDER).await;
    check(std::slice::from_ref(&fatal), Code::WORKER_SILENT).await;
    check(&[welcome(1), fatal], Code::WORKER_SILENT).await;
    let mut garbage = Kernel::ready(echo).await;
    garbage.socket.write_all(b"\0\0\0\x02[]").await.unwrap();
    assert_eq!(garbage.outcome().await.unwrap_err().code, Code::FRAME_MALFORMED);
    let mut oversized = Kernel::ready(echo).await;
    oversized.socket.write_all(&[0xff; 4]).await.unwrap();
    assert_eq!(oversized.outcome().await.unwrap_err().code, Code::FRAME_TOO_LARGE);
    let hasty = Kernel::spawn(echo);
    assert_eq!(hasty.end().await.unwrap_err().code, Code::PROTOCOL_ORDER, "closed before welcome");
}

#[tokio::test]
async fn a_task_that_is_given_twice_ends_the_session() {
    let mut kernel = Kernel::ready(|_, _| std::future::pending()).await;
    kernel.give(&task(1), 1, json!(null)).await;
    kernel.give(&task(1), 1, json!(null)).await;
    assert_eq!(kernel.outcome().await.unwrap_err().code, Code::PROTOCOL_ORDER);
}

#[tokio::test]
async fn shutdown_ends_an_idle_worker_at_once_and_a_busy_one_after_its_answer() {
    let mut idle = Kernel::ready(echo).await;
    idle.send(&KernelFrame::Shutdown { grace_ms: 60_000_000 }).await;
    assert_eq!(idle.outcome().await, Ok(()));

    let mut busy = Kernel::ready(|context: TaskContext, _| async move {
        context.canceled().await;
        Ok(json!(context.kv_get("last", "key").await?.version))
    })
    .await;
    busy.give(&task(1), 1, json!(null)).await;
    busy.send(&KernelFrame::Shutdown { grace_ms: 60_000_000 }).await;
    busy.give(&task(2), 1, json!("is not begun")).await;
    let WorkerFrame::Call { id, .. } = busy.receive().await else { panic!("no call") };
    busy.reply(id, Outcome::Ok(json!({"value": null, "version": 4}))).await;
    assert_eq!(busy.receive().await, WorkerFrame::Done { task: task(1), output: json!(4) });
    assert_eq!(busy.outcome().await, Ok(()));
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_stubborn_handler() {
    let mut kernel = Kernel::ready(|_, _| std::future::pending()).await;
    kernel.give(&task(1), 1, json!(null)).await;
    kernel.send(&KernelFrame::Shutdown { grace_ms: 10 }).await;
    assert_eq!(kernel.outcome().await, Ok(()));
}
