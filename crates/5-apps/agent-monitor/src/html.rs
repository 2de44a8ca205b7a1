//! HTML to readable lines: one line a block, cells of a row joined, nothing wrapped.
//!
//! Works on the tokens of html5ever, not on its tree: a hostile page can make a tree that is a hundred times its own size,
//! while tokens stay linear. Style, visibility and scripts are not looked at; link targets are not shown.

use std::{
    cell::RefCell,
    fmt::Write as _,
};

use html5ever::{
    tendril::StrTendril,
    tokenizer::{
        BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
        states::RawKind,
    },
};

/// The visible text of a page.
pub fn to_text(page: &str) -> String {
    let input = BufferQueue::default();
    input.push_back(StrTendril::from(page));
    let tokenizer = Tokenizer::new(Sink::default(), TokenizerOpts::default());
    // The tokenizer pauses after each script; what follows is still in the queue.
    while !input.is_empty() {
        let before = input.len();
        let _ = tokenizer.feed(&input);
        if input.len() == before {
            break;
        }
    }
    tokenizer.end();
    tokenizer.sink.page.into_inner().finish()
}

#[derive(Default)]
struct Sink {
    page: RefCell<Page>,
}

/// What is written so far, and inside what.
#[derive(Default)]
struct Page {
    lines: String,
    line: String,
    /// The element whose raw content is left out, until its end tag.
    skipped: Option<String>,
    /// Open `template` elements: their content is not part of the page.
    templates: u32,
    preformatted: u32,
}

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut page = self.page.borrow_mut();
        match token {
            Token::CharacterTokens(text) => page.text(&text),
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => return page.open(&tag),
            Token::TagToken(tag) => page.close(&tag.name),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

impl Page {
    fn open(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        let name: &str = &tag.name;
        let raw = match name {
            "script" => Some(RawKind::ScriptData),
            "style" | "iframe" | "noembed" | "noframes" | "xmp" => Some(RawKind::Rawtext),
            "title" | "textarea" => Some(RawKind::Rcdata),
            _ => None,
        };
        if let Some(kind) = raw {
            // What a person types into a text area belongs to the page; the other raw contents do not.
            self.skipped = (name != "textarea" && name != "xmp").then(|| name.to_owned());
            return TokenSinkResult::RawData(kind);
        }
        match name {
            "template" => self.templates += 1,
            "pre" => self.preformatted += 1,
            _ => {}
        }
        if is_block(name) {
            self.end_line();
        }
        match name {
            "li" => self.write("* "),
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                let level = name.bytes().last().map_or(1, |digit| usize::from(digit.saturating_sub(b'0')));
                self.write(&format!("{} ", "#".repeat(level.min(6))));
            }
            "td" | "th" if !self.line.trim().is_empty() => self.write(" | "),
            "img" => {
                let alt = tag.attrs.iter().find(|attribute| &*attribute.name.local == "alt");
                if let Some(alt) = alt.filter(|alt| !alt.value.trim().is_empty()) {
                    self.write(&format!("[{}]", alt.value.trim()));
                }
            }
            _ => {}
        }
        TokenSinkResult::Continue
    }

    fn close(&mut self, name: &str) {
        if self.skipped.as_deref() == Some(name) {
            self.skipped = None;
            return;
        }
        match name {
            "template" => self.templates = self.templates.saturating_sub(1),
            "pre" => self.preformatted = self.preformatted.saturating_sub(1),
            _ => {}
        }
        if is_block(name) {
            self.end_line();
        }
    }

    fn text(&mut self, text: &str) {
        if self.preformatted == 0 {
            return self.write(text);
        }
        let mut parts = text.split('\n');
        self.write(parts.next().unwrap_or_default());
        for part in parts {
            self.end_line();
            self.write(part);
        }
    }

    fn write(&mut self, text: &str) {
        if self.skipped.is_none() && self.templates == 0 {
            self.line.push_str(text);
        }
    }

    /// Lines of a `pre` keep their inner spaces; everywhere else a run of white space is one space.
    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = match self.preformatted {
            0 => line.split_whitespace().collect::<Vec<_>>().join(" "),
            _ => line.trim_end().to_owned(),
        };
        // A bullet or a heading mark with nothing behind it is no line.
        if !line.trim_matches(['#', '*', '|', ' ']).is_empty() {
            let _ = writeln!(self.lines, "{line}");
        }
    }

    fn finish(mut self) -> String {
        self.end_line();
        self.lines
    }
}

fn is_block(name: &str) -> bool {
    matches!(
        name,
        "address" | "article" | "aside" | "blockquote" | "body" | "br" | "caption" | "dd" | "details" | "dialog" | "div"
            | "dl" | "dt" | "fieldset" | "figcaption" | "figure" | "footer" | "form" | "h1" | "h2" | "h3" | "h4" | "h5"
            | "h6" | "head" | "header" | "hr" | "html" | "legend" | "li" | "main" | "menu" | "nav" | "ol" | "option" | "p"
            | "pre" | "search" | "section" | "summary" | "table" | "tbody" | "textarea" | "tfoot" | "thead" | "tr" | "ul"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(page: &str, expected: &str) {
        assert_eq!(to_text(page), expected, "{page}");
    }

    #[test]
    fn pages_become_lines() {
        check("<p>Pro  20\n€</p><p>Free</p>", "Pro 20 €\nFree\n");
        check("<h2>Plans</h2><ul><li>One<li><b>Two</b> &amp; more</ul>", "## Plans\n* One\n* Two & more\n");
        check("<table><tr><th>Plan<th>Price<tr><td>Pro<td>20 €</table>", "Plan | Price\nPro | 20 €\n");
        check("<html><head><title>T</title><style>p{}</style></head><body>a<br>b<hr>c</body></html>", "a\nb\nc\n");
        check("a<script>if (1 < 2) { document.write('<p>x</p>') }</script>b", "ab\n");
        check("<script>1</script><p>a<script>2</script><p>b", "a\nb\n");
        check("<pre>  one\n    two\n</pre>three", "  one\n    two\nthree\n");
        check("<template><p>no</p></template>yes<img alt='a cat'><img>", "yes[a cat]\n");
        check("<a href='/x'>link</a> text<!-- comment -->", "link text\n");
        check("<p>broken <b>and <i>nested</p", "broken and nested\n");
        check("", "");
    }

    #[test]
    fn a_hostile_page_costs_no_more_than_its_size() {
        let depth = 200_000;
        let nested = format!("{}x", "<div>".repeat(depth));
        check(&nested, "x\n");
        let formats = format!("{}x", "<p><b a=1>".repeat(depth));
        check(&formats, "x\n");
        assert!(to_text(&"<hr><li><h1><td>".repeat(depth)).is_empty());
    }
}
