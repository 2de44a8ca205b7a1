//! Cancel: the handler is told, may tidy up, and the kernel hears `canceled` exactly once.

use agentos_protocol::{KernelFrame, WorkerFrame, frame::Outcome};
use agentos_sdk::{TaskContext, TaskError, Value, json};

use crate::kernel::{Kernel, task};

#[tokio::test]
async fn whatever_the_handler_returns_after_a_cancel_the_answer_is_canceled() {
    let mut kernel = Kernel::ready(|context: TaskContext, input: Value| async move {
        assert!(!context.is_canceled());
        context.progress(json!("started")).await?;
        context.canceled().await;
        assert!(context.is_canceled());
        match input.as_str() {
            Some("ok") => Ok(Value::Null),
            Some("error") => Err(TaskError::permanent("stopped")),
            _ => panic!("planned"),
        }
    })
    .await;
    for (n, kind) in [(1, "ok"), (2, "error"), (3, "panic")] {
        kernel.give(&task(n), 1, json!(kind)).await;
        assert!(matches!(kernel.receive().await, WorkerFrame::Progress { .. }));
        kernel.send(&KernelFrame::Cancel { task: task(n), grace_ms: 60_000_000 }).await;
        assert_eq!(kernel.receive().await, WorkerFrame::Canceled { task: task(n) });
        kernel.send(&KernelFrame::Cancel { task: task(n), grace_ms: 1 }).await;
        kernel.expect_quiet(n).await;
    }
}

#[tokio::test]
async fn a_handler_that_does_not_react_is_dropped_before_the_grace_ends() {
    struct Tell(Option<tokio::sync::oneshot::Sender<()>>);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.take().map(|tell| tell.send(()));
        }
    }
    let (tell, dropped) = tokio::sync::oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let mut kernel = Kernel::ready(move |_, _| {
        let tell = Tell(tell.lock().unwrap().take());
        async move {
            std::future::pending::<()>().await;
            drop(tell);
            Ok(Value::Null)
        }
    })
    .await;
    kernel.give(&task(1), 1, json!(null)).await;
    kernel.send(&KernelFrame::Cancel { task: task(1), grace_ms: 50 }).await;
    assert_eq!(kernel.receive().await, WorkerFrame::Canceled { task: task(1) });
    dropped.await.unwrap();
    kernel.expect_quiet(1).await;
}

#[tokio::test]
async fn a_canceled_handler_may_still_call_and_others_go_on() {
    let mut kernel = Kernel::ready(|context: TaskContext, input: Value| async move {
        if input == json!("bystander") {
            return Ok(json!(context.kv_get("read", "key").await?.version));
        }
        context.canceled().await;
        context.kv_delete("tidy", "lock").await?;
        Ok(Value::Null)
    })
    .await;
    kernel.give(&task(1), 1, json!("canceled")).await;
    kernel.give(&task(2), 1, json!("bystander")).await;
    let WorkerFrame::Call { id: bystander, .. } = kernel.receive().await else { panic!("no call") };
    kernel.send(&KernelFrame::Cancel { task: task(1), grace_ms: 60_000_000 }).await;
    let WorkerFrame::Call { id, syscall, .. } = kernel.receive().await else { panic!("no call") };
    assert_eq!(syscall, "kv.delete");
    kernel.reply(id, Outcome::Ok(json!({"existed": true}))).await;
    assert_eq!(kernel.receive().await, WorkerFrame::Canceled { task: task(1) });
    kernel.reply(bystander, Outcome::Ok(json!({"value": 1, "version": 8}))).await;
    assert_eq!(kernel.receive().await, WorkerFrame::Done { task: task(2), output: json!(8) });
}

#[tokio::test]
async fn a_later_attempt_takes_the_place_of_one_that_still_runs() {
    let mut kernel = Kernel::ready(|context: TaskContext, _| async move {
        if context.attempt() == 1 {
            context.canceled().await;
        }
        Ok(json!(context.attempt()))
    })
    .await;
    kernel.give(&task(1), 1, json!(null)).await;
    kernel.give(&task(1), 2, json!(null)).await;
    assert_eq!(kernel.receive().await, WorkerFrame::Done { task: task(1), output: json!(2) });
    kernel.expect_quiet(1).await;
}
