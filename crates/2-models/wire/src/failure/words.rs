//! The tables: which word, sentence and status means which class. All are the providers' own, found in their documents and in
//! bodies that users posted.

use super::Class;
use crate::Protocol;

/// A word that means the same whatever stands around it.
pub fn strong(word: &str) -> Option<Class> {
    let class = match word {
        "insufficient_quota"
        | "billing_not_active"
        | "billing_hard_limit_reached"
        | "billing_error"
        | "enforced_spend_limit_reached"
        | "exceeded_current_quota_error"
        | "insufficient_balance"
        | "access_terminated"
        | "ServiceQuotaExceededException" => Class::QuotaExhausted,
        "rate_limit_exceeded"
        | "rate_limit_error"
        | "too_many_requests"
        | "RateLimitReached"
        | "RESOURCE_EXHAUSTED"
        | "RATE_LIMIT_EXCEEDED"
        | "ThrottlingException"
        | "throttlingException" => Class::RateLimited,
        "context_length_exceeded"
        | "exceed_context_size_error"
        | "context_window_exceeded"
        | "model_context_window_exceeded" => Class::ContextOverflow,
        "content_filter"
        | "content_policy_violation"
        | "ResponsibleAIPolicyViolation"
        | "moderation_blocked"
        | "image_content_policy_violation" => Class::ContentFilter,
        "overloaded_error"
        | "server_overloaded"
        | "engine_overloaded"
        | "engine_overloaded_error"
        | "slow_down"
        | "unavailable_error"
        | "UNAVAILABLE"
        | "ServiceUnavailableException"
        | "serviceUnavailableException"
        | "ModelNotReadyException" => Class::Overloaded,
        "invalid_api_key"
        | "authentication_error"
        | "permission_error"
        | "account_deactivated"
        | "invalid_organization"
        | "API_KEY_INVALID"
        | "API_KEY_SERVICE_BLOCKED"
        | "UNAUTHENTICATED"
        | "PERMISSION_DENIED"
        | "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "ExpiredTokenException"
        | "MissingAuthenticationTokenException" => Class::Auth,
        "timeout_error" | "DEADLINE_EXCEEDED" | "ModelTimeoutException" | "modelTimeoutException" => Class::Timeout,
        // With status 424, which is nobody else's.
        "ModelErrorException" | "ModelStreamErrorException" | "modelStreamErrorException" => Class::Server,
        "not_supported_error" | "UNIMPLEMENTED" | "OperationNotSupported" => Class::NotCapable,
        "model_not_found" | "DeploymentNotFound" | "ResourceNotFoundException" => Class::BadRequest,
        _ => return None,
    };
    Some(class)
}

/// A word that says no more than a status would, for errors that have none: those inside a stream.
pub fn weak(word: &str) -> Option<Class> {
    let class = match word {
        "invalid_request_error"
        | "not_found_error"
        | "request_too_large"
        | "INVALID_ARGUMENT"
        | "FAILED_PRECONDITION"
        | "OUT_OF_RANGE"
        | "NOT_FOUND"
        | "invalid_prompt"
        | "BadRequestError"
        | "ValidationException"
        | "validationException" => Class::BadRequest,
        "api_error"
        | "server_error"
        | "internal_error"
        | "internal_server_error"
        | "INTERNAL"
        | "UNKNOWN"
        | "InternalServerException"
        | "internalServerException" => Class::Server,
        _ => return None,
    };
    Some(class)
}

/// Google names the quota that was hit. One that is counted by the day does not come back while anybody waits.
pub fn of_daily_quota(protocol: Protocol, word: &str) -> bool {
    matches!(protocol, Protocol::Gemini | Protocol::Chat) && word.contains("PerDay")
}

/// Parts of sentences, in lower case, and where the words of the body leave the class open.
const SENTENCES: &[(&str, Class)] = &[
    // OpenAI and vLLM; Anthropic, twice; Gemini; llama.cpp; Ollama; Bedrock; OpenRouter.
    ("maximum context length", Class::ContextOverflow),
    ("prompt is too long", Class::ContextOverflow),
    ("exceed context limit", Class::ContextOverflow),
    ("exceeds the maximum number of tokens allowed", Class::ContextOverflow),
    ("exceeds the available context size", Class::ContextOverflow),
    ("exceeds the context length", Class::ContextOverflow),
    ("exceeds the context window", Class::ContextOverflow),
    ("exceeds your context window", Class::ContextOverflow),
    ("input is too long for requested model", Class::ContextOverflow),
    ("too many tokens per day", Class::QuotaExhausted),
    // Anthropic tells of spent money with status 400.
    ("credit balance is too low", Class::QuotaExhausted),
    ("specified api usage limits", Class::QuotaExhausted),
    ("insufficient balance", Class::QuotaExhausted),
    ("insufficient credits", Class::QuotaExhausted),
    // Azure; Anthropic; OpenAI's `invalid_prompt`.
    ("content management policy", Class::ContentFilter),
    ("content filtering policy", Class::ContentFilter),
    ("flagged as potentially violating", Class::ContentFilter),
    // Ollama; llama.cpp; vLLM.
    ("does not support tools", Class::NotCapable),
    ("does not support thinking", Class::NotCapable),
    ("does not support embeddings", Class::NotCapable),
    ("image input is not supported", Class::NotCapable),
    ("is not a multimodal model", Class::NotCapable),
    // Gemini tells of a bad key with INVALID_ARGUMENT.
    ("api key not valid", Class::Auth),
    ("api key expired", Class::Auth),
];

/// A sentence decides for requests that were refused (4xx, or no status at all), never for a server that failed: its text may
/// quote the client's.
pub fn sentence(status: Option<u16>, message: &str) -> Option<Class> {
    if matches!(status, Some(500..)) {
        // A server that lacks the feature, or llama.cpp of old, whose overflow was a 500.
        let message = message.to_lowercase();
        return message.contains("exceeds the available context size").then_some(Class::ContextOverflow);
    }
    let message = message.to_lowercase();
    SENTENCES.iter().find(|(part, _)| message.contains(part)).map(|(_, class)| *class)
}

pub fn status(status: u16) -> Option<Class> {
    let class = match status {
        401 | 403 => Class::Auth,
        402 => Class::QuotaExhausted,
        408 => Class::Timeout,
        // A conflict of the provider's own making, "too early", and Bedrock's word for a model that failed: SDKs try again.
        409 | 424 | 425 => Class::Server,
        429 => Class::RateLimited,
        499 => Class::Server,
        501 => Class::NotCapable,
        503 | 529 => Class::Overloaded,
        // A redirect means that the base URL is wrong; it is not followed with a key in hand.
        300..=499 => Class::BadRequest,
        500.. => Class::Server,
        _ => return None,
    };
    Some(class)
}
