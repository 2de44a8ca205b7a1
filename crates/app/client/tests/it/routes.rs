//! Every method asks for its route, with the token, the query and the body that the API documents.

use agentos_api::{
    Problem,
    body::{
        AddAuditHold, AuditFilter, CreateSchedule, CreateToken, DeployAgent, PruneAudit, RotateToken, SecretValue,
        SubmitTask,
    },
    budgets::{BudgetFilter, BudgetKey, SetBudget, SpendFilter},
    kernel::AgentCommand,
    model_admin::{ExplainModel, SetModelConfig},
    problem::PROBLEM_JSON,
};
use agentos_client::{Client, TaskFilter};
use agentos_types::{
    AgentName, Code, Fault, Scope, SecretName, Timestamp,
    budget::{BudgetScope, BudgetUnit, Period},
    task::{Cadence, TaskState},
};
use serde_json::json;

use crate::{
    server::{answer, serve},
    streams::task_id,
};

const TASK: &str = "/api/v1/tasks/task_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E";
const SCHEDULE: &str = "/api/v1/schedules/sched_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E";

/// All requests are refused, which ends each call after its request.
async fn call_everything(client: &Client) {
    let agent: AgentName = "monitor".parse().unwrap();
    let (task, schedule) = (task_id(), "sched_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E".parse().unwrap());
    let secret: SecretName = "hook".parse().unwrap();
    let value = SecretValue { value: "v".into() };
    let cadence = Cadence::Interval { every_s: 60 };
    let submit = SubmitTask {
        agent: agent.clone(),
        input: json!({"a": 1}),
        run_at: None,
        deadline_at: None,
        attempts_max: None,
        traceparent: None,
    };
    let query = TaskFilter {
        agent: Some(agent.clone()),
        state: Some(TaskState::InputRequired),
        cursor: Some("x".into()),
        limit: Some(5),
    };
    let filter = AuditFilter { since: Some(Timestamp(7)), actor: Some("agent:a b".into()), ..Default::default() };

    client.health().await.unwrap_err();
    client.metrics().await.unwrap_err();
    client.deploy_agent(&DeployAgent { envelope: "e".into(), package: "/p".into() }).await.unwrap_err();
    client.list_agents().await.unwrap_err();
    client.get_agent(&agent).await.unwrap_err();
    client.agent_logs(&agent, Some(9)).await.unwrap_err();
    for command in [AgentCommand::Pause, AgentCommand::Resume, AgentCommand::Restart, AgentCommand::Terminate] {
        client.command_agent(&agent, command).await.unwrap_err();
    }
    client.list_notifications(Some(&agent), Some("a&b"), Some(3)).await.unwrap_err();
    client.submit_task(&submit, Some("key-1")).await.unwrap_err();
    client.list_tasks(&query).await.unwrap_err();
    client.get_task(&task).await.unwrap_err();
    client.task_steps(&task).await.unwrap_err();
    client.task_events(&task, 4, 10).await.unwrap_err();
    client.watch_task(&task, 4).next().await.unwrap_err();
    client.cancel_task(&task).await.unwrap_err();
    client.retry_task(&task).await.unwrap_err();
    client.redrive_task(&task, Some(json!(2))).await.unwrap_err();
    client.list_schedules().await.unwrap_err();
    client.get_schedule(&schedule).await.unwrap_err();
    let create = CreateSchedule { agent, name: "n".into(), cadence, input: json!({}) };
    client.create_schedule(&create).await.unwrap_err();
    client.pause_schedule(&schedule, true).await.unwrap_err();
    client.pause_schedule(&schedule, false).await.unwrap_err();
    client.delete_schedule(&schedule).await.unwrap_err();
    client.list_secrets().await.unwrap_err();
    client.set_secret(&secret, &value).await.unwrap_err();
    client.rotate_secret(&secret, &value).await.unwrap_err();
    client.revoke_secret(&secret).await.unwrap_err();
    client.list_tokens().await.unwrap_err();
    let create = CreateToken { name: "ci".into(), scopes: vec![Scope::Read], ..CreateToken::default() };
    client.create_token(&create).await.map(drop).unwrap_err();
    let token = "tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E".parse().unwrap();
    client.rotate_token(&token, &RotateToken::default()).await.map(drop).unwrap_err();
    client.revoke_token(&token).await.unwrap_err();
    client.query_audit(&filter).await.unwrap_err();
    client.verify_audit().await.unwrap_err();
    client.audit_checkpoint().await.unwrap_err();
    client.export_audit(3).await.map(drop).unwrap_err();
    client.model_config().await.unwrap_err();
    client.set_model_config(7, &SetModelConfig::default()).await.unwrap_err();
    client.known_models().await.unwrap_err();
    client.get_model("openai/gpt-4.1").await.unwrap_err();
    client.switch_model("fast", true).await.unwrap_err();
    client.switch_model("fast", false).await.unwrap_err();
    let query = ExplainModel { input_tokens: 5, needs: Some("tools".into()), ..ExplainModel::default() };
    client.explain_model("fast", &query).await.unwrap_err();
    client.replay_model(json!({})).await.unwrap_err();
    client.test_model("fast").await.unwrap_err();
    client.list_providers().await.unwrap_err();
    client.set_provider("own", json!({})).await.unwrap_err();
    client.remove_provider("own").await.unwrap_err();
    client.test_provider("own").await.unwrap_err();
    let scope: BudgetScope = "agent:monitor".parse().unwrap();
    client.budgets(&BudgetFilter { scope: Some(scope.clone()) }).await.unwrap_err();
    let (period, unit) = (Period::Day, BudgetUnit::NanoUsd);
    client.set_budget(&SetBudget { scope: scope.clone(), period, unit, amount: 5 }).await.unwrap_err();
    client.remove_budget(&BudgetKey { scope, period, unit }).await.unwrap_err();
    client.spend(&SpendFilter { days: 7, limit: 3 }).await.unwrap_err();
    client.retention().await.unwrap_err();
    client.preview_retention().await.unwrap_err();
    client.run_retention().await.unwrap_err();
    client.follow_audit(Some(11)).next().await.unwrap_err();
    client.export_audit_until(3, 9).await.map(drop).unwrap_err();
    client.prune_audit(&PruneAudit { dry_run: true, keep_from: Some(4) }).await.unwrap_err();
    client.list_audit_holds().await.unwrap_err();
    let hold = AddAuditHold { name: "case-7".into(), reason: "why".into(), from: Some(Timestamp(7)) };
    client.add_audit_hold(&hold).await.unwrap_err();
    client.release_audit_hold("case-7").await.unwrap_err();
    assert_eq!(client.release_audit_hold("../tokens").await.unwrap_err().code, Code::AUDIT_HOLD_NOT_FOUND);
    client.rotate_audit_key().await.unwrap_err();
}

fn expected() -> Vec<String> {
    let text = format!(
        "GET /health|GET /metrics|POST /api/v1/agents|GET /api/v1/agents|GET /api/v1/agents/monitor|\
         GET /api/v1/agents/monitor/logs?lines=9|POST /api/v1/agents/monitor/pause|POST /api/v1/agents/monitor/resume|\
         POST /api/v1/agents/monitor/restart|POST /api/v1/agents/monitor/terminate|\
         GET /api/v1/notifications?agent=monitor&cursor=a%26b&limit=3|POST /api/v1/tasks|\
         GET /api/v1/tasks?agent=monitor&state=input-required&cursor=x&limit=5|GET {TASK}|GET {TASK}/steps|\
         GET {TASK}/events?after_seq=4&limit=10|GET {TASK}/events|POST {TASK}/cancel|POST {TASK}/retry|\
         POST {TASK}/redrive|GET /api/v1/schedules|GET {SCHEDULE}|POST /api/v1/schedules|POST {SCHEDULE}/pause|\
         POST {SCHEDULE}/resume|DELETE {SCHEDULE}|GET /api/v1/secrets|PUT /api/v1/secrets/hook|\
         POST /api/v1/secrets/hook/rotate|DELETE /api/v1/secrets/hook|GET /api/v1/tokens|POST /api/v1/tokens|\
         POST /api/v1/tokens/tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E/rotate|\
         DELETE /api/v1/tokens/tok_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E|GET /api/v1/audit?actor=agent%3Aa+b&ascending=false&since=7|\
         GET /api/v1/audit/verify|GET /api/v1/audit/checkpoint|GET /api/v1/audit/export?from_seq=3|\
         GET /api/v1/model-config|PUT /api/v1/model-config|GET /api/v1/models|GET /api/v1/models/openai%2Fgpt-4.1|\
         POST /api/v1/models/fast/disable|POST /api/v1/models/fast/enable|\
         GET /api/v1/models/fast/explain?budgeted=false&input_tokens=5&needs=tools|POST /api/v1/models/replay|\
         POST /api/v1/models/test|GET /api/v1/providers|PUT /api/v1/providers/own|DELETE /api/v1/providers/own|\
         POST /api/v1/providers/own/test|\
         GET /api/v1/budgets?scope=agent%3Amonitor|PUT /api/v1/budgets|\
         DELETE /api/v1/budgets?period=day&scope=agent%3Amonitor&unit=nano-usd|GET /api/v1/spend?days=7&limit=3|\
         GET /api/v1/retention|GET /api/v1/retention/preview|POST /api/v1/retention/run|\
         GET /api/v1/audit/stream|GET /api/v1/audit/export?from_seq=3&until_seq=9|POST /api/v1/audit/prune|\
         GET /api/v1/audit/holds|POST /api/v1/audit/holds|DELETE /api/v1/audit/holds/case-7|\
         POST /api/v1/audit/rotate-key"
    );
    text.split('|').map(str::to_owned).collect()
}

#[tokio::test]
async fn each_route_is_asked_for_as_documented() {
    let problem = Problem::new(&Fault::new(Code::FORBIDDEN, "no"), None);
    let problem = serde_json::to_string(&problem).unwrap();
    let (client, log) = serve(move |_, _| answer(403, PROBLEM_JSON, problem.clone())).await;
    call_everything(&client).await;
    let asked = log.all();
    assert_eq!(asked.iter().map(crate::server::Asked::line).collect::<Vec<_>>(), expected());
    let with = |line: &str| asked.iter().find(|asked| asked.line() == line).unwrap();
    for request in &asked {
        assert_eq!(request.header("authorization").as_deref(), Some("Bearer tok-secret"), "{}", request.line());
    }
    assert_eq!(with("POST /api/v1/tasks").header("idempotency-key").as_deref(), Some("key-1"));
    assert_eq!(with("POST /api/v1/tasks").body, r#"{"agent":"monitor","input":{"a":1}}"#);
    assert_eq!(with("POST /api/v1/audit/prune").body, r#"{"dry_run":true,"keep_from":4}"#);
    assert_eq!(with("POST /api/v1/audit/holds").body, r#"{"name":"case-7","reason":"why","from":7}"#);
    assert_eq!(with("PUT /api/v1/secrets/hook").body, r#"{"value":"v"}"#);
    assert_eq!(with(&format!("POST {TASK}/redrive")).body, r#"{"input":2}"#);
    for (line, id) in [(format!("GET {TASK}/events"), "4"), ("GET /api/v1/audit/stream".into(), "11")] {
        assert_eq!(with(&line).header("accept").as_deref(), Some("text/event-stream"));
        assert_eq!(with(&line).header("last-event-id").as_deref(), Some(id));
    }
}

/// A key that no header can carry was never sent: "look before you repeat it" would be wrong.
#[tokio::test]
async fn an_impossible_idempotency_key_is_refused_before_it_is_sent() {
    let (client, log) = serve(|_, _| answer(200, "application/json", "{}".to_owned())).await;
    let submit: SubmitTask = serde_json::from_value(json!({"agent": "monitor"})).unwrap();
    let refused = client.submit_task(&submit, Some("a\nb")).await.unwrap_err();
    assert_eq!(refused.code, Code::BODY_INVALID, "{refused}");
    assert_eq!(log.all().len(), 0);
}
