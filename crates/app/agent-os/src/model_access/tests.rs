use std::sync::Mutex;

use agentos_api::models::{ModelInfo, ModelReply};
use agentos_types::Timestamp;
use serde_json::json;

use super::*;

/// Says these bytes, in pieces that tear everything.
struct Says {
    bytes: String,
    is_stream: bool,
    status: u16,
    asked: Mutex<Vec<(ModelCaller, ModelRequest)>>,
}

#[async_trait]
impl Models for Says {
    async fn call(&self, caller: ModelCaller, request: ModelRequest) -> ModelReply {
        self.asked.lock().unwrap().push((caller, request));
        let body = if self.is_stream {
            let (sender, receiver) = mpsc::channel(4);
            let pieces: Vec<Bytes> = self.bytes.as_bytes().chunks(3).map(Bytes::copy_from_slice).collect();
            tokio::spawn(async move {
                for piece in pieces {
                    let _ = sender.send(piece).await;
                }
            });
            ModelBody::Stream(receiver)
        } else {
            ModelBody::Whole(self.bytes.clone().into())
        };
        ModelReply { status: self.status, headers: Vec::new(), body }
    }

    async fn list(&self, _: &ModelCaller) -> Result<Vec<ModelInfo>> {
        Ok(Vec::new())
    }
}

fn ask(protocol: ModelProtocol, stream: bool) -> ModelAsk {
    ModelAsk {
        agent: "a".parse().unwrap(),
        instance: agentos_types::InstanceId::generate(Timestamp(1), 1),
        task: agentos_types::TaskId::generate(Timestamp(1), 1),
        step: "s".into(),
        protocol,
        body: b"{}".to_vec(),
        stream,
        idempotency_key: "k".into(),
        traceparent: String::new(),
    }
}

async fn asked(protocol: ModelProtocol, status: u16, bytes: &str, stream: bool) -> (Result<ModelCallResult>, String) {
    let says = Says { bytes: bytes.into(), is_stream: stream, status, asked: Mutex::default() };
    let (ambient, _) = Ambient::fake(1, Timestamp(1_800_000_000_000_000));
    let served = ServedModels { models: LateModels::default(), ambient, room: Room::new(1_000) };
    served.models.bind(Arc::new(says));
    let ask = ask(protocol, stream);
    let (sender, mut pieces) = mpsc::channel::<String>(64);
    let listening = async {
        let mut heard = String::new();
        while let Some(piece) = pieces.recv().await {
            heard.push_str(&piece);
        }
        heard
    };
    tokio::join!(served.ask(ask, sender), listening)
}

const CHAT: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hel\"},\"finish_reason\":null}]}\n\n: heartbeat\n\ndata: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\n";

#[tokio::test]
async fn a_stream_is_told_as_it_comes_and_becomes_the_answer_of_its_protocol() {
    let (result, heard) = asked(ModelProtocol::Chat, 200, &format!("{CHAT}data: [DONE]\n\n"), true).await;
    let result = result.unwrap();
    assert_eq!(heard, "Hello");
    assert_eq!(result.body["choices"][0]["message"]["content"], "Hello");
    assert_eq!(result.usage.map(|usage| (usage.input, usage.output)), Some((3, 2)));

    let responses = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n\
        event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"status\":\"completed\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1,\"total_tokens\":2}}}\n\n";
    let (result, heard) = asked(ModelProtocol::Responses, 200, responses, true).await;
    assert_eq!((heard.as_str(), &result.unwrap().body["id"]), ("Hi", &json!("r")));
}

#[tokio::test]
async fn a_stream_without_its_end_is_an_error_whatever_came_before() {
    for rest in
        ["", "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n", "data: {\"id\"\n\n"]
    {
        let (result, heard) = asked(ModelProtocol::Chat, 200, &format!("{CHAT}{rest}"), true).await;
        let fault = result.unwrap_err();
        assert_eq!((fault.code, heard.as_str()), (Code::CONNECTION_LOST, "Hello"), "{rest}");
        assert_eq!(fault.message.contains("overloaded"), rest.contains("overloaded"), "{fault}");
    }
}

#[tokio::test]
async fn an_answer_and_a_refusal_are_results() {
    let answer = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":0,"completion_tokens":7,"total_tokens":7}}"#;
    let (result, _) = asked(ModelProtocol::Chat, 200, answer, false).await;
    let result = result.unwrap();
    assert_eq!((result.status, result.usage.map(|usage| (usage.input, usage.output))), (200, Some((0, 7))));
    let (result, _) = asked(ModelProtocol::Messages, 429, r#"{"type":"error","error":{}}"#, false).await;
    let result = result.unwrap();
    assert_eq!((result.status, result.body["type"].as_str(), result.usage), (429, Some("error"), None));
}

/// In flight so often, then answered; in the words of this protocol.
struct InFlight {
    left: Mutex<usize>,
    protocol: Protocol,
}

#[async_trait]
impl Models for InFlight {
    async fn call(&self, _: ModelCaller, _: ModelRequest) -> ModelReply {
        let is_in_flight = {
            let mut left = self.left.lock().unwrap();
            *left = left.saturating_sub(1);
            *left > 0
        };
        let fault = Fault::new(Code::MODEL_CALL_IN_FLIGHT, "under way");
        let error = agentos_wire::WireError {
            status: 409,
            kind: None,
            code: fault.code.to_string(),
            message: fault.message,
            retry_after: None,
            facts: agentos_wire::Object::default(),
        };
        let body = match is_in_flight {
            true => agentos_wire::write_error(self.protocol, &error),
            false => b"{}".to_vec(),
        };
        let status = if is_in_flight { 409 } else { 200 };
        ModelReply { status, headers: Vec::new(), body: ModelBody::Whole(body.into()) }
    }

    async fn list(&self, _: &ModelCaller) -> Result<Vec<ModelInfo>> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn an_attempt_that_is_still_asking_is_waited_for_and_never_an_answer() {
    let (caller, request) = {
        let says = Says { bytes: "{}".into(), is_stream: false, status: 200, asked: Mutex::default() };
        let says = Arc::new(says);
        let (ambient, _) = Ambient::fake(1, Timestamp(1));
        let served = ServedModels { models: LateModels::default(), ambient, room: Room::new(1_000) };
        served.models.bind(says.clone());
        served.ask(ask(ModelProtocol::Chat, false), mpsc::channel(1).0).await.unwrap();
        says.asked.lock().unwrap().remove(0)
    };
    for protocol in [Protocol::Chat, Protocol::Responses, Protocol::Messages] {
        for (left, expected) in [(0, Ok(200)), (2, Ok(200)), (1_000, Err(Code::CONNECTION_LOST))] {
            let models = InFlight { left: Mutex::new(left), protocol };
            let patience = Duration::ZERO;
            let reply = super::asked(&models, (caller.clone(), request.clone()), patience).await;
            assert_eq!(reply.map(|reply| reply.status).map_err(|fault| fault.code), expected, "{protocol:?} {left}");
        }
    }
}
