//! System calls: pairing of replies, errors, limits.

use agentos_protocol::{WorkerFrame, frame::Outcome, syscall::TABLE};
use agentos_sdk::{
    Cadence, CallError, Code, CodeRun, ErrorClass, Fetch, FileRead, Language, ModelCall, NotifyEvent, NotifyWebhook,
    SchedulePut, ShellExec, TaskContext, TaskError, Value, json,
};

use crate::kernel::{Kernel, task};

/// The next frame, which must be a call: id, step, name and arguments.
async fn next_call(kernel: &mut Kernel) -> (u64, String, String, Value) {
    match kernel.receive().await {
        WorkerFrame::Call { id, task: named, step, syscall, args } => {
            assert_eq!(named, task(1));
            (id, step, syscall, args)
        }
        other => panic!("{other:?} instead of a call"),
    }
}

fn refusal(code: Code, class: ErrorClass, retry_after_ms: Option<u64>) -> Outcome {
    Outcome::Error(CallError { code, message: "no".into(), class, retry_after_ms })
}

#[tokio::test]
async fn replies_find_their_calls_in_any_order() {
    let mut kernel = Kernel::ready(|context: TaskContext, _| async move {
        let get = |key: &'static str| {
            let context = context.clone();
            async move { context.kv_get(format!("get-{key}"), key).await }
        };
        let (a, b, c) = tokio::try_join!(get("a"), get("b"), get("c"))?;
        Ok(json!([a.value, b.value, c.value]))
    })
    .await;
    kernel.give(&task(1), 1, json!(null)).await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(next_call(&mut kernel).await);
    }
    kernel.reply(999_999, Outcome::Ok(json!("for nobody"))).await;
    for (id, step, syscall, args) in calls.into_iter().rev() {
        assert_eq!((syscall.as_str(), format!("get-{}", args["key"].as_str().unwrap())), ("kv.get", step));
        kernel.reply(id, Outcome::Ok(json!({"value": format!("of {}", args["key"]), "version": 1}))).await;
        kernel.reply(id, Outcome::Ok(json!("a second reply to the same call"))).await;
    }
    let output = json!(["of \"a\"", "of \"b\"", "of \"c\""]);
    assert_eq!(kernel.receive().await, WorkerFrame::Done { task: task(1), output });
}

#[tokio::test]
async fn a_refused_call_keeps_its_class_and_waiting_time() {
    let mut kernel = Kernel::ready(|context: TaskContext, _| async move {
        let page = context.fetch("page", Fetch::get("https://example.com/")).await?;
        Ok(json!(page.status))
    })
    .await;
    for (attempt, code, class, wait_ms, wait_s) in [
        (1, Code::NOT_GRANTED, ErrorClass::Denied, None, None),
        (2, Code::RATE_LIMITED, ErrorClass::RateLimited, Some(1_001), Some(2)),
        (3, Code::STEP_IN_DOUBT, ErrorClass::InDoubt, None, None),
    ] {
        kernel.give(&task(1), attempt, json!(null)).await;
        let (id, step, syscall, args) = next_call(&mut kernel).await;
        assert_eq!((step.as_str(), syscall.as_str(), &args["method"]), ("page", "net.fetch", &json!("GET")));
        kernel.reply(id, refusal(code, class, wait_ms)).await;
        let message = format!("{code}: no");
        assert_eq!(
            kernel.receive().await,
            WorkerFrame::Failed { task: task(1), class, message, retry_after_s: wait_s }
        );
    }
}

#[tokio::test]
async fn what_is_too_large_for_a_frame_is_refused_here() {
    let mut kernel = Kernel::ready(|context: TaskContext, input: Value| async move {
        let large = Value::from("x".repeat(5 << 20));
        match input.as_str() {
            Some("call") => Ok(context.kv_put("put", "key", large, None).await.map(|_| Value::Null)?),
            Some("progress") => Ok(context.progress(large).await.map(|()| Value::Null)?),
            _ => Ok(large),
        }
    })
    .await;
    for (n, kind) in [(1, "call"), (2, "progress"), (3, "output")] {
        kernel.give(&task(n), 1, json!(kind)).await;
        let WorkerFrame::Failed { class, message, .. } = kernel.receive().await else { panic!("not failed: {kind}") };
        assert_eq!(class, ErrorClass::Permanent);
        assert!(message.contains("above the limit of 4194304 bytes"), "{kind}: {message}");
    }
}

#[tokio::test]
async fn a_result_of_another_shape_is_an_error_not_a_panic() {
    let mut kernel = Kernel::ready(|context: TaskContext, _| async move {
        let error = context.kv_get("get", "key").await.unwrap_err();
        Ok(json!(error.to_string()))
    })
    .await;
    kernel.give(&task(1), 1, json!(null)).await;
    let (id, ..) = next_call(&mut kernel).await;
    kernel.reply(id, Outcome::Ok(json!({"version": "one"}))).await;
    let WorkerFrame::Done { output, .. } = kernel.receive().await else { panic!("not done") };
    assert!(output.as_str().unwrap().starts_with("AOS-1502: the result of kv.get"), "{output}");
}

#[tokio::test]
async fn a_context_that_outlives_its_handler_can_do_nothing() {
    let (leak, mut leaked) = tokio::sync::mpsc::channel(1);
    let mut kernel = Kernel::ready(move |context: TaskContext, _| {
        let leak = leak.clone();
        async move {
            leak.send(context).await.map_err(|_| TaskError::permanent("nobody listens"))?;
            Ok(Value::Null)
        }
    })
    .await;
    kernel.give(&task(1), 1, json!(null)).await;
    assert!(matches!(kernel.receive().await, WorkerFrame::Done { .. }));
    let context = leaked.recv().await.unwrap();
    assert_eq!(context.kv_get("get", "key").await.unwrap_err().code, Code::TASK_UNKNOWN_TO_WORKER);
    assert_eq!(context.progress(json!(1)).await.unwrap_err().code, Code::TASK_UNKNOWN_TO_WORKER);
    kernel.expect_quiet(1).await;
}

/// Calls the method of the given name; all of them are refused in the test below, so the results do not matter.
async fn call_by_name(context: &TaskContext, name: &str) -> Result<Value, CallError> {
    let read = FileRead { path: "/a".into(), offset: 1, max_bytes: None };
    let event = NotifyEvent { kind: "k".into(), data: json!(1), dedupe_key: None };
    let webhook = || NotifyWebhook { url: "https://a/".into(), body: json!(1), secret: "s".parse().unwrap() };
    let cadence = Cadence::Interval { every_s: 60 };
    let schedule = SchedulePut { name: "n".into(), cadence, input: json!({}) };
    match name {
        "net.fetch" => context.fetch("s", Fetch::get("https://a/")).await.map(|_| Value::Null),
        "file.read" => context.file_read("s", read).await.map(|_| Value::Null),
        "file.list" => context.file_list("s", "/a").await.map(|_| Value::Null),
        "notify.event" => context.notify_event("s", event).await.map(|_| Value::Null),
        "notify.webhook" => context.notify_webhook("s", webhook()).await.map(|_| Value::Null),
        "kv.get" => context.kv_get("s", "k").await.map(|_| Value::Null),
        "kv.put" => context.kv_put("s", "k", json!(1), Some(0)).await.map(|_| Value::Null),
        "kv.delete" => context.kv_delete("s", "k").await.map(|_| Value::Null),
        "kv.list" => context.kv_list("s", "p", None).await.map(|_| Value::Null),
        "schedule.put" => context.schedule_put("s", schedule).await.map(|_| Value::Null),
        "schedule.delete" => context.schedule_delete("s", "n").await.map(|_| Value::Null),
        "schedule.list" => context.schedule_list("s").await.map(|_| Value::Null),
        "shell.exec" => context.shell_exec("s", ShellExec::program(["git", "log"])).await.map(|_| Value::Null),
        "code.run" => context.code_run("s", CodeRun::new(Language::Bash, "id")).await.map(|_| Value::Null),
        "model.call" => context.model_call("s", ModelCall::ask("fast", "Hello")).await.map(|_| Value::Null),
        other => panic!("no method for {other}"),
    }
}

#[tokio::test]
async fn every_system_call_has_a_method_that_sends_it() {
    let mut kernel = Kernel::ready(|context: TaskContext, input: Value| async move {
        Ok(call_by_name(&context, input.as_str().unwrap()).await?)
    })
    .await;
    for (entry, attempt) in TABLE.iter().zip(1..) {
        let args = match entry.name {
            "net.fetch" => json!({"url": "https://a/", "method": "GET"}),
            "file.read" => json!({"path": "/a", "offset": 1}),
            "file.list" => json!({"path": "/a"}),
            "notify.event" => json!({"kind": "k", "data": 1}),
            "notify.webhook" => json!({"url": "https://a/", "body": 1, "secret": "s"}),
            "kv.put" => json!({"key": "k", "value": 1, "if_version": 0}),
            "kv.list" => json!({"prefix": "p"}),
            "schedule.put" => json!({"name": "n", "cadence": {"kind": "interval", "every_s": 60}, "input": {}}),
            "schedule.delete" => json!({"name": "n"}),
            "schedule.list" => json!({}),
            "shell.exec" => json!({"pipeline": [["git", "log"]]}),
            "code.run" => json!({"language": "bash", "code": "id"}),
            "model.call" => json!({"model": "fast", "messages": [{"role": "user", "content": "Hello"}]}),
            _ => json!({"key": "k"}),
        };
        kernel.give(&task(1), attempt, json!(entry.name)).await;
        let (id, step, syscall, sent) = next_call(&mut kernel).await;
        assert_eq!((step.as_str(), syscall.as_str(), sent), ("s", entry.name, args));
        kernel.reply(id, refusal(Code::NOT_GRANTED, ErrorClass::Denied, None)).await;
        assert!(matches!(kernel.receive().await, WorkerFrame::Failed { class: ErrorClass::Denied, .. }));
    }
}
