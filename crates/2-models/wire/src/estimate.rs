//! How many tokens a request may cost before anybody has counted them. What is reserved from a budget comes from here; what
//! is booked comes from the provider.

use crate::Peek;

/// Bytes of a request per token of its text. Prose in Latin letters has four to five; source text and Chinese about three.
/// Long runs of digits, base64 and rare scripts come to less, so their requests may cost more than this: then the provider's
/// figure is booked, and the next reservation meets a smaller rest. Who cannot bear that takes [`Bytes::Strict`].
const BYTES_PER_TOKEN: u64 = 3;

/// What a provider puts around any request of its own accord.
const REQUEST_TOKENS: u64 = 64;

/// What a provider adds when there are tools: Anthropic's instructions are the longest, with up to about 800.
const TOOL_TOKENS: u64 = 1_024;

/// The most that one image costs: Anthropic's high resolution, 4,784. Providers that count tiles stay below it, but for small
/// models of OpenAI that multiply their tiles by 33; operators price those by an override.
const IMAGE_TOKENS: u64 = 5_000;

/// How bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// Three to a token.
    Usual,
    /// One to a token, which no tokenizer exceeds, since each token stands for one byte at least.
    Strict,
}

/// Never less than what prose and source text cost.
pub fn input_tokens_max(peek: &Peek) -> u64 {
    input_tokens_max_by(Bytes::Usual, peek)
}

/// A request whose input lies with the provider ([`crate::Needs::stored_input`]) can be larger than any count of its bytes.
pub fn input_tokens_max_by(bytes: Bytes, peek: &Peek) -> u64 {
    tokens_max(bytes, peek.text_bytes, peek.images, peek.needs.tools)
}

fn tokens_max(bytes: Bytes, text_bytes: u64, images: u64, tools: bool) -> u64 {
    let text = match bytes {
        Bytes::Usual => text_bytes.div_ceil(BYTES_PER_TOKEN),
        Bytes::Strict => text_bytes,
    };
    text.saturating_add(images.saturating_mul(IMAGE_TOKENS))
        .saturating_add(if tools { TOOL_TOKENS } else { 0 })
        .saturating_add(REQUEST_TOKENS)
}

/// Tokens of text that was delivered, for a stream that broke before its provider counted them.
pub fn delivered_tokens(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_grows_with_each_part() {
        assert_eq!(tokens_max(Bytes::Usual, 0, 0, false), 64);
        assert_eq!(tokens_max(Bytes::Usual, 10, 0, false), 64 + 4, "rounded up");
        assert_eq!(tokens_max(Bytes::Strict, 10, 0, false), 64 + 10);
        assert_eq!(tokens_max(Bytes::Usual, 300, 2, true), 64 + 100 + 10_000 + 1_024);
        assert_eq!(tokens_max(Bytes::Usual, u64::MAX, u64::MAX, true), u64::MAX, "saturates");
        assert_eq!(delivered_tokens(1), 1);
    }
}
