//! SPDX expressions as far as Cargo packages use them: OR, AND, WITH, parentheses, and `/` as an old spelling of OR.

/// Licences that let a user do with the binary what Apache-2.0 lets them do.
const PERMISSIVE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether the expression leaves a choice that is permissive in all its parts. What cannot be read is refused.
pub fn is_permissive(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let verdict = either(&mut words);
    verdict.unwrap_or(false) && words.next().is_none()
}

type Words<'w> = std::iter::Peekable<std::str::SplitWhitespace<'w>>;

fn either(words: &mut Words<'_>) -> Option<bool> {
    let mut verdict = both(words)?;
    while words.next_if_eq(&"OR").is_some() {
        verdict |= both(words)?;
    }
    Some(verdict)
}

fn both(words: &mut Words<'_>) -> Option<bool> {
    let mut verdict = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        verdict &= one(words)?;
    }
    Some(verdict)
}

fn one(words: &mut Words<'_>) -> Option<bool> {
    if words.next_if_eq(&"(").is_some() {
        let verdict = either(words)?;
        return (words.next()? == ")").then_some(verdict);
    }
    let verdict = PERMISSIVE.contains(&words.next()?);
    // An exception only adds permissions.
    if words.next_if_eq(&"WITH").is_some() {
        words.next()?;
    }
    Some(verdict)
}

#[test]
fn expressions() {
    let check = |expression: &str, expected: bool| assert_eq!(is_permissive(expression), expected, "{expression}");
    check("MIT", true);
    check("MIT/Apache-2.0", true);
    check("GPL-3.0-only", false);
    check("MIT OR Apache-2.0 OR LGPL-2.1-or-later", true);
    check("MIT AND GPL-3.0-only", false);
    check("GPL-3.0-only AND MIT OR ISC", true);
    check("(MIT OR GPL-3.0-only) AND Unicode-3.0", true);
    check("MIT AND (GPL-3.0-only OR AGPL-3.0-only)", false);
    check("Apache-2.0 WITH LLVM-exception OR MIT", true);
    check("Apache-2.0 WITH LLVM-exception", true);
    check("MIT )", false);
    check("( MIT", false);
    check("", false);
}
