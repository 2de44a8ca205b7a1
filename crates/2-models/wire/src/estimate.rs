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

/// What one image costs of a model that nobody has named yet: Anthropic's high resolution is 4,784, and providers that count tiles
/// stay below it. A few small models multiply their tiles and cost ten times as much; whoever reserves for one takes the bound of
/// the catalog instead.
const IMAGE_TOKENS: u64 = 5_000;

/// How bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// Three to a token.
    Usual,
    /// One to a token: each token of a tokenizer over bytes stands for one at least, and what a provider writes around turns and
    /// tools is shorter than the JSON around them. (One that folds letters into several first, as NFKC does, could exceed it; no
    /// provider that is known here bills by such a one.)
    Strict,
}

/// Never less than what prose and source text cost.
pub fn input_tokens_max(peek: &Peek) -> u64 {
    input_tokens_max_by(Bytes::Usual, IMAGE_TOKENS, peek)
}

/// With the most that one image costs the model. A request whose input lies with the provider ([`crate::Needs::stored_input`]), or
/// is a file that unfolds there, can be larger than any count of its bytes.
pub fn input_tokens_max_by(bytes: Bytes, image_tokens: u64, peek: &Peek) -> u64 {
    tokens_max(bytes, peek.text_bytes, peek.images.saturating_mul(image_tokens), peek.needs.tools)
}

fn tokens_max(bytes: Bytes, text_bytes: u64, of_images: u64, tools: bool) -> u64 {
    let text = match bytes {
        Bytes::Usual => text_bytes.div_ceil(BYTES_PER_TOKEN),
        Bytes::Strict => text_bytes,
    };
    text.saturating_add(of_images).saturating_add(if tools { TOOL_TOKENS } else { 0 }).saturating_add(REQUEST_TOKENS)
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
        assert_eq!(tokens_max(Bytes::Usual, 300, 10_000, true), 64 + 100 + 10_000 + 1_024);
        assert_eq!(tokens_max(Bytes::Usual, u64::MAX, u64::MAX, true), u64::MAX, "saturates");
        assert_eq!(delivered_tokens(1), 1);
    }
}
