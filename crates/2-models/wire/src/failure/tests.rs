//! Bodies as providers send them, and the class of each.

use std::time::Duration;

use super::*;

const NO_QUOTA: &str = r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
const TPM: &str = r#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29000, Requested 4000. Please try again in 6s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#;
const OPENAI_OVERFLOW: &str = r#"{"error":{"message":"This model's maximum context length is 128000 tokens. However, your messages resulted in 150000 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
const AZURE_FILTER: &str = r#"{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true,"severity":"high"}}}}}"#;
const AZURE_BUSY: &str = r#"{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation have exceeded call rate limit. Please retry after 8 seconds."}}"#;
const BAD_KEY: &str = r#"{"error":{"message":"Incorrect API key provided: sk-x.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#;
const NO_MODEL: &str = r#"{"error":{"message":"The model `gpt-9` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#;
const CLAUDE_OVERLOADED: &str =
    r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#;
const CLAUDE_RATE: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's rate limit of 50 requests per minute."}}"#;
const CLAUDE_SPENT: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"Spend limit reached.","details":{"error_code":"enforced_spend_limit_reached"}}}"#;
const CLAUDE_LONG: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 209335 tokens > 200000 maximum"}}"#;
const CLAUDE_SUM: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length or `max_tokens` and try again"}}"#;
const CLAUDE_POOR: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."}}"#;
const CLAUDE_FILTER: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}"#;
const CLAUDE_FIELD: &str =
    r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages.0.content: Field required"}}"#;
const CLAUDE_API: &str = r#"{"type":"error","error":{"type":"api_error","message":"Internal server error"}}"#;
const GEMINI_MINUTE: &str = r#"{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier","quotaValue":"10"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"27.4s"}]}}"#;
const GEMINI_DAY: &str = r#"{"error":{"code":429,"message":"You exceeded your current quota.","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]}}"#;
const GEMINI_KEY: &str = r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#;
const GEMINI_LONG: &str = r#"{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}"#;
const GEMINI_BUSY: &str =
    r#"{"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}"#;
const GEMINI_BLOCKED: &str = r#"{"promptFeedback":{"blockReason":"SAFETY","safetyRatings":[]},"usageMetadata":{"promptTokenCount":4,"totalTokenCount":4},"modelVersion":"gemini-2.5-flash"}"#;
const LLAMA_LONG: &str = r#"{"error":{"code":400,"message":"request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":4096}}"#;
const LLAMA_LOADING: &str = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
const LLAMA_EMBED: &str = r#"{"error":{"code":501,"message":"This server does not support embeddings. Start it with `--embeddings`","type":"not_supported_error"}}"#;
const OLLAMA_MODEL: &str = r#"{"error":"model 'llama9' not found, try pulling it first"}"#;
const OLLAMA_TOOLS: &str = r#"{"error":{"message":"registry.ollama.ai/library/smollm:latest does not support tools","type":"api_error","param":null,"code":null}}"#;
const VLLM: &str = r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens","type":"BadRequestError","param":null,"code":400}"#;
const ROUTER: &str = r#"{"error":{"code":402,"message":"Insufficient credits","metadata":{}}}"#;
const BEDROCK: &str =
    r#"{"message":"Too many requests, please wait before trying again.","__type":"ThrottlingException"}"#;

const BEDROCK_SIGNATURE: &str = r#"{"__type":"com.amazon.coral.service#UnrecognizedClientException","message":"The security token included in the request is invalid."}"#;
const BEDROCK_LONG: &str = r#"{"message":"Input is too long for requested model."}"#;
const BEDROCK_DAY: &str =
    r#"{"__type":"ThrottlingException","message":"Too many tokens per day, please wait before trying again."}"#;
const BEDROCK_MODEL: &str =
    r#"{"message":"The model returned an error","originalStatusCode":500,"resourceName":"anthropic.claude"}"#;
const BEDROCK_EVENT: &str =
    r#"{"type":"error","error":{"type":"serviceUnavailableException","message":"Bedrock is unable to process it."}}"#;
const AZURE_MODE: &str = r#"{"error":{"code":"OperationNotSupported","message":"The chatCompletion operation does not work with the specified model, text-embedding-3-small. Please choose different model and try again."}}"#;
const AZURE_GONE: &str =
    r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#;
const AZURE_KEY: &str =
    r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint."}}"#;

/// Protocol, status, body, class.
const ANSWERED: &[(Protocol, u16, &str, Class)] = &[
    (Protocol::Chat, 429, NO_QUOTA, Class::QuotaExhausted),
    (Protocol::Chat, 429, TPM, Class::RateLimited),
    (Protocol::Chat, 400, OPENAI_OVERFLOW, Class::ContextOverflow),
    (Protocol::Responses, 400, OPENAI_OVERFLOW, Class::ContextOverflow),
    (Protocol::Chat, 400, AZURE_FILTER, Class::ContentFilter),
    (Protocol::Chat, 429, AZURE_BUSY, Class::RateLimited),
    (Protocol::Chat, 401, BAD_KEY, Class::Auth),
    (Protocol::Chat, 404, NO_MODEL, Class::BadRequest),
    (Protocol::Messages, 529, CLAUDE_OVERLOADED, Class::Overloaded),
    (Protocol::Messages, 429, CLAUDE_RATE, Class::RateLimited),
    (Protocol::Messages, 429, CLAUDE_SPENT, Class::QuotaExhausted),
    (Protocol::Messages, 400, CLAUDE_LONG, Class::ContextOverflow),
    (Protocol::Messages, 400, CLAUDE_SUM, Class::ContextOverflow),
    (Protocol::Messages, 400, CLAUDE_POOR, Class::QuotaExhausted),
    (Protocol::Messages, 400, CLAUDE_FILTER, Class::ContentFilter),
    (Protocol::Messages, 400, CLAUDE_FIELD, Class::BadRequest),
    (Protocol::Messages, 500, CLAUDE_API, Class::Server),
    (Protocol::Messages, 413, "<html>413 Request Entity Too Large</html>", Class::BadRequest),
    (Protocol::Gemini, 429, GEMINI_MINUTE, Class::RateLimited),
    (Protocol::Gemini, 429, GEMINI_DAY, Class::QuotaExhausted),
    (Protocol::Gemini, 400, GEMINI_KEY, Class::Auth),
    (Protocol::Gemini, 400, GEMINI_LONG, Class::ContextOverflow),
    (Protocol::Gemini, 503, GEMINI_BUSY, Class::Overloaded),
    (Protocol::Gemini, 200, GEMINI_BLOCKED, Class::ContentFilter),
    (Protocol::Chat, 400, LLAMA_LONG, Class::ContextOverflow),
    (Protocol::Chat, 503, LLAMA_LOADING, Class::Overloaded),
    (Protocol::Chat, 501, LLAMA_EMBED, Class::NotCapable),
    (Protocol::Chat, 404, OLLAMA_MODEL, Class::BadRequest),
    (Protocol::Chat, 400, OLLAMA_TOOLS, Class::NotCapable),
    (Protocol::Chat, 400, VLLM, Class::ContextOverflow),
    (Protocol::Chat, 402, ROUTER, Class::QuotaExhausted),
    (Protocol::Chat, 400, BEDROCK, Class::RateLimited),
    (Protocol::Messages, 403, BEDROCK_SIGNATURE, Class::Auth),
    (Protocol::Messages, 400, BEDROCK_LONG, Class::ContextOverflow),
    (Protocol::Messages, 429, BEDROCK_DAY, Class::QuotaExhausted),
    (Protocol::Messages, 424, BEDROCK_MODEL, Class::Server),
    (Protocol::Messages, 200, BEDROCK_EVENT, Class::Overloaded),
    (Protocol::Chat, 400, AZURE_MODE, Class::NotCapable),
    (Protocol::Chat, 404, AZURE_GONE, Class::BadRequest),
    (Protocol::Chat, 401, AZURE_KEY, Class::Auth),
    // Bodies that say nothing.
    (Protocol::Chat, 500, "", Class::Server),
    (Protocol::Chat, 502, "<html>Bad Gateway</html>", Class::Server),
    (Protocol::Chat, 503, "upstream connect error", Class::Overloaded),
    (Protocol::Chat, 504, "", Class::Server),
    (Protocol::Chat, 524, "", Class::Server),
    (Protocol::Chat, 403, "forbidden", Class::Auth),
    (Protocol::Chat, 408, "", Class::Timeout),
    (Protocol::Chat, 422, r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#, Class::BadRequest),
    (Protocol::Chat, 429, "{}", Class::RateLimited),
    (Protocol::Chat, 302, "", Class::BadRequest),
    // Errors inside a 200.
    (Protocol::Chat, 200, "", Class::Malformed),
    (Protocol::Chat, 200, "not json", Class::Malformed),
    (Protocol::Chat, 200, r#"{"choices":[]}"#, Class::Malformed),
    (Protocol::Chat, 200, ROUTER, Class::QuotaExhausted),
    (Protocol::Chat, 200, CLAUDE_OVERLOADED, Class::Overloaded),
    (Protocol::Messages, 200, CLAUDE_API, Class::Server),
    (Protocol::Messages, 200, CLAUDE_FIELD, Class::BadRequest),
    (
        Protocol::Responses,
        200,
        r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"x"}}}"#,
        Class::Server,
    ),
    (
        Protocol::Responses,
        200,
        r#"{"type":"error","code":"rate_limit_exceeded","message":"x","param":null}"#,
        Class::RateLimited,
    ),
    // A server that fails may quote a client; only its status counts.
    (Protocol::Chat, 500, r#"{"error":{"message":"cannot parse 'prompt is too long'"}}"#, Class::Server),
];

#[test]
fn every_known_body_has_its_class() {
    for (protocol, status, body, class) in ANSWERED {
        let failure = classify(*protocol, &Evidence::new(Phase::Answered, Some(*status), body.as_bytes()));
        assert_eq!(failure.class, *class, "{protocol} {status} {body}");
        assert!(!failure.message.is_empty() && failure.message.len() <= body::MESSAGE_MAX, "{failure:?}");
    }
}

#[test]
fn the_phase_decides_where_there_is_no_answer() {
    let class = |phase| classify(Protocol::Chat, &Evidence::new(phase, None, CLAUDE_OVERLOADED.as_bytes())).class;
    assert_eq!(class(Phase::Connect), Class::Connect);
    assert_eq!(class(Phase::TimedOut), Class::Timeout);
    assert_eq!(class(Phase::Cut), Class::Server);
    assert_eq!(class(Phase::Streaming), Class::StreamBroken, "whatever the event says, it cannot be tried again");
    assert_eq!(class(Phase::Answered), Class::Overloaded, "an error event before anything was passed on can");
}

#[test]
fn every_status_has_a_class_with_any_body() {
    for status in 0..=u16::MAX {
        for body in ["", "{", "[]", "null", r#"{"error":7}"#, r#"{"error":{"code":[1],"details":{}}}"#] {
            let failure = classify(Protocol::Gemini, &Evidence::new(Phase::Answered, Some(status), body.as_bytes()));
            assert!(Class::ALL.contains(&failure.class));
        }
    }
}

#[test]
fn code_message_and_delay_are_the_providers() {
    let evidence = Evidence::new(Phase::Answered, Some(429), GEMINI_MINUTE.as_bytes());
    let failure = classify(Protocol::Gemini, &evidence);
    assert_eq!(failure.code.as_deref(), Some("RESOURCE_EXHAUSTED"));
    assert_eq!(failure.retry_after, Some(Duration::from_millis(27_400)));
    let failure = classify(Protocol::Gemini, &Evidence { retry_after: Some("3"), ..evidence });
    assert_eq!(failure.retry_after, Some(Duration::from_secs(3)), "the header wins");
    let failure = classify(Protocol::Chat, &Evidence::new(Phase::Answered, Some(404), OLLAMA_MODEL.as_bytes()));
    assert_eq!(failure.message, "model 'llama9' not found, try pulling it first");
}

#[test]
fn a_word_beside_the_body_counts_like_one_in_it() {
    let body = br#"{"message":"it is not ready"}"#;
    let evidence = Evidence::new(Phase::Answered, Some(429), body);
    assert_eq!(classify(Protocol::Messages, &evidence).class, Class::RateLimited);
    let typed = Evidence { error_type: Some("ModelNotReadyException:http://internal.example/coral/"), ..evidence };
    let failure = classify(Protocol::Messages, &typed);
    assert_eq!((failure.class, failure.code.as_deref()), (Class::Overloaded, Some("ModelNotReadyException")));
    assert_eq!(failure.message, "it is not ready");
    for nothing in ["", ":", "x".repeat(5_000).as_str()] {
        let untold = Evidence { error_type: Some(nothing), ..evidence };
        assert_eq!(classify(Protocol::Messages, &untold).class, Class::RateLimited);
    }
}

#[test]
fn long_and_dirty_sentences_are_bounded() {
    let body = format!(r#"{{"error":{{"message":"a\u001b[31m\nb{}"}}}}"#, "é".repeat(5_000));
    let failure = classify(Protocol::Chat, &Evidence::new(Phase::Answered, Some(400), body.as_bytes()));
    assert!(failure.message.starts_with("a [31m b") && failure.message.len() <= body::MESSAGE_MAX);
}
