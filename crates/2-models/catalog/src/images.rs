//! The most tokens that one image can cost, by model: what a budget reserves. Providers cut an image into tiles or patches after
//! scaling it down, so that there is a largest count for any size and any `detail`; some then multiply it.
//!
//! Not here: what an image does cost, which only the provider tells.

use crate::Family;

/// Columns of tiles of 512 pixels in 2,048, and rows in the shorter side's 768.
const TILES_MAX: u64 = 4 * 2;
/// 32 pixels square, to which the smaller models of OpenAI scale an image down.
const PATCHES_MAX: u64 = 1_536;
/// The same of an image that is kept as it is (`detail: original`), which came with gpt-5.4.
const PATCHES_ORIGINAL_MAX: u64 = 10_000;

/// The base and eight tiles of gpt-4o-mini, whose tiles count 33 times those of gpt-4o: the most that any known model takes.
pub const IMAGE_TOKENS_MAX: u64 = tiles(2_833, 5_667);

const fn tiles(base: u64, tile: u64) -> u64 {
    base + TILES_MAX * tile
}

/// Rounded up, by the model's factor in hundredths.
const fn patches(count: u64, percent: u64) -> u64 {
    (count * percent).div_ceil(100)
}

/// By the beginning of the name, the longest first where one begins another. Factors are the larger ones where OpenAI's guide and
/// its bills differ.
const OPENAI: &[(&str, u64)] = &[
    ("gpt-4o-mini", IMAGE_TOKENS_MAX),
    ("gpt-4.1-mini", patches(PATCHES_MAX, 162)),
    ("gpt-4.1-nano", patches(PATCHES_MAX, 246)),
    ("gpt-4.1", patches(PATCHES_MAX, 100)),
    ("gpt-4.5", tiles(85, 170)),
    ("gpt-4o", tiles(85, 170)),
    ("chatgpt-4o", tiles(85, 170)),
    ("gpt-4-turbo", tiles(85, 170)),
    ("gpt-5-mini", patches(PATCHES_MAX, 162)),
    ("gpt-5-nano", patches(PATCHES_MAX, 246)),
    ("gpt-5-4", patches(PATCHES_ORIGINAL_MAX, 246)),
    ("gpt-5.4", patches(PATCHES_ORIGINAL_MAX, 246)),
    // A date, and no 5.2.
    ("gpt-5-20", tiles(70, 140)),
    ("gpt-5-1", patches(PATCHES_MAX, 246)),
    ("gpt-5.1", patches(PATCHES_MAX, 246)),
    ("gpt-5-2", patches(PATCHES_MAX, 246)),
    ("gpt-5.2", patches(PATCHES_MAX, 246)),
    ("gpt-5-3", patches(PATCHES_MAX, 246)),
    ("gpt-5.3", patches(PATCHES_MAX, 246)),
    ("gpt-5-pro", tiles(70, 140)),
    ("gpt-5-chat", tiles(70, 140)),
    ("gpt-5-search", tiles(70, 140)),
    ("o1", tiles(75, 150)),
    ("o3", tiles(75, 150)),
    ("o4-mini", patches(PATCHES_MAX, 172)),
    ("codex-mini", patches(PATCHES_MAX, 172)),
    ("computer-use-preview", tiles(65, 129)),
];

/// Of their high resolution; the older models stay at a third of it.
const ANTHROPIC: u64 = 4_784;
/// Tiles of 768 pixels, each 258 tokens, of an image of at most 3,072: 24 of a long narrow one. The newer models take at most
/// 2,240, whatever is asked for.
const GOOGLE: u64 = 24 * 258;

/// Of a name that nobody knows the most that any model takes, since it may be that one.
pub fn image_tokens_max(family: Option<Family>, model: &str) -> u64 {
    let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let openai = || {
        let known = OPENAI.iter().find(|(known, _)| name.starts_with(known)).map(|(_, most)| *most);
        known.or_else(|| (name == "gpt-5").then_some(tiles(70, 140)))
    };
    let known = match family {
        Some(Family::Openai | Family::Azure) => openai(),
        Some(Family::Anthropic) => Some(ANTHROPIC),
        Some(Family::Google) => name.starts_with("gemini").then_some(GOOGLE),
        Some(Family::Aws) => name.contains("claude").then_some(ANTHROPIC),
        Some(Family::Openrouter) => match model.split('/').next() {
            Some("openai") => openai(),
            Some("anthropic") => Some(ANTHROPIC),
            Some("google") => name.starts_with("gemini").then_some(GOOGLE),
            _ => None,
        },
        _ => None,
    };
    known.unwrap_or(IMAGE_TOKENS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_of_each_model_is_what_its_provider_says() {
        let check = |family, model: &str, most: u64| assert_eq!(image_tokens_max(Some(family), model), most, "{model}");
        check(Family::Openai, "gpt-4o-mini-2024-07-18", 48_169);
        check(Family::Openai, "gpt-4o", 1_445);
        check(Family::Openai, "gpt-4o-2024-11-20", 1_445);
        check(Family::Openai, "gpt-4.1-nano", 3_779);
        check(Family::Openai, "gpt-4.1", 1_536);
        check(Family::Openai, "gpt-5", 1_190);
        check(Family::Openai, "gpt-5-2025-08-07", 1_190);
        check(Family::Openai, "gpt-5-mini", 2_489);
        check(Family::Openai, "gpt-5.4", 24_600);
        check(Family::Openai, "o4-mini", 2_642);
        check(Family::Openai, "gpt-9", IMAGE_TOKENS_MAX);
        check(Family::Azure, "my-deployment", IMAGE_TOKENS_MAX);
        check(Family::Anthropic, "claude-opus-4-5", 4_784);
        check(Family::Aws, "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", 4_784);
        check(Family::Google, "gemini-2.5-pro", 6_192);
        check(Family::Openrouter, "openai/gpt-4o-mini", 48_169);
        check(Family::Openrouter, "qwen/qwen2.5-vl-72b", IMAGE_TOKENS_MAX);
        assert_eq!(image_tokens_max(None, "anything"), IMAGE_TOKENS_MAX);
    }

    #[test]
    fn no_name_is_hidden_behind_a_shorter_one() {
        for (index, (name, _)) in OPENAI.iter().enumerate() {
            let first = OPENAI.iter().position(|(known, _)| name.starts_with(known));
            assert_eq!(first, Some(index), "{name}");
        }
    }
}
