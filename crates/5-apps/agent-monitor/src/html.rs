//! HTML to readable lines: one line a block, cells of a row joined, nothing wrapped.
//!
//! Reads tags one after the other and builds no tree: a hostile page can make a tree that is a hundred times its own size,
//! and the usual parsers compare every attribute of a tag with every other. Here the cost is linear in the page. Style,
//! visibility and scripts are not looked at; link targets are not shown.

use std::fmt::Write as _;

/// The visible text of a page.
pub fn to_text(page: &str) -> String {
    let mut out = Page::default();
    let mut rest = page;
    while let Some((text, markup)) = rest.find('<').and_then(|at| rest.split_at_checked(at)) {
        out.text(&htmlize::unescape(text));
        rest = out.markup(markup);
    }
    out.text(&htmlize::unescape(rest));
    out.finish()
}

/// What is written so far, and inside what.
#[derive(Default)]
struct Page {
    lines: String,
    line: String,
    /// Open `template` elements: their content is not part of the page.
    templates: u32,
    preformatted: u32,
}

/// A tag up to its closing bracket.
struct Tag<'p> {
    name: String,
    alt: Option<&'p str>,
    /// What follows it.
    rest: &'p str,
}

impl Page {
    /// `markup` begins with `<`. Returns what is left to read.
    fn markup<'p>(&mut self, markup: &'p str) -> &'p str {
        let after = markup.get(1..).unwrap_or_default();
        let begins_name = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
        if let Some(comment) = after.strip_prefix("!--") {
            // `<!-->` is a whole comment, therefore the search begins at the dashes.
            return behind(comment.strip_prefix('>').map_or(comment, |_| after), "-->").unwrap_or_default();
        }
        if after.starts_with(['!', '?']) {
            return behind(after, ">").unwrap_or_default();
        }
        match after.strip_prefix('/') {
            Some(name) if begins_name(name) => {
                let tag = read_tag(name);
                self.close(&tag.name);
                tag.rest
            }
            None if begins_name(after) => {
                let tag = read_tag(after);
                self.open(&tag)
            }
            _ => {
                self.write("<");
                after
            }
        }
    }

    fn open<'p>(&mut self, tag: &Tag<'p>) -> &'p str {
        let name = tag.name.as_str();
        if is_block(name) {
            self.end_line();
        }
        match name {
            "script" | "style" | "title" | "iframe" | "noembed" | "noframes" => return split_raw(tag).1,
            "textarea" => {
                let (content, rest) = split_raw(tag);
                self.text(&htmlize::unescape(content));
                return rest;
            }
            "template" => self.templates += 1,
            "pre" => self.preformatted += 1,
            "li" => self.write("* "),
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                let level = name.bytes().last().map_or(1, |digit| usize::from(digit.saturating_sub(b'0')));
                self.write(&format!("{} ", "#".repeat(level)));
            }
            "td" | "th" if !self.line.trim().is_empty() => self.write(" | "),
            "img" => {
                if let Some(alt) = tag.alt.filter(|alt| !alt.trim().is_empty()) {
                    self.write(&format!("[{}]", htmlize::unescape_attribute(alt.trim())));
                }
            }
            _ => {}
        }
        tag.rest
    }

    fn close(&mut self, name: &str) {
        if is_block(name) {
            self.end_line();
        }
        match name {
            "template" => self.templates = self.templates.saturating_sub(1),
            "pre" => self.preformatted = self.preformatted.saturating_sub(1),
            _ => {}
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
        if self.templates == 0 {
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

fn behind<'p>(text: &'p str, mark: &str) -> Option<&'p str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

/// From the name on. Quotes hide a bracket only where a value may begin, as in the standard; a tag without an end takes the
/// rest of the page with it.
fn read_tag(text: &str) -> Tag<'_> {
    let name_end = text.find(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>').unwrap_or(text.len());
    let (name, mut rest) = text.split_at_checked(name_end).unwrap_or((text, ""));
    let mut alt = None;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if rest.is_empty() || rest.starts_with('>') {
            return Tag { name: name.to_ascii_lowercase(), alt, rest: rest.get(1..).unwrap_or_default() };
        }
        let (attribute, value, next) = read_attribute(rest);
        if alt.is_none() && attribute.eq_ignore_ascii_case("alt") {
            alt = Some(value);
        }
        rest = next;
    }
}

/// Name, value and what follows. `text` is not empty and begins with neither space, `/` nor `>`, so this always moves on.
fn read_attribute(text: &str) -> (&str, &str, &str) {
    let first = text.chars().next().map_or(0, char::len_utf8);
    let ends = |c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>' | '=');
    // An equals sign at the very beginning belongs to the name.
    let name_end = text.get(first..).and_then(|tail| tail.find(ends)).map_or(text.len(), |at| first + at);
    let (name, rest) = text.split_at_checked(name_end).unwrap_or((text, ""));
    let Some(value) = rest.trim_ascii_start().strip_prefix('=').map(str::trim_ascii_start) else {
        return (name, "", rest);
    };
    for quote in ['"', '\''] {
        if let Some(quoted) = value.strip_prefix(quote) {
            let (value, rest) = quoted.split_once(quote).unwrap_or((quoted, ""));
            return (name, value, rest);
        }
    }
    let value_end = value.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(value.len());
    let (value, rest) = value.split_at_checked(value_end).unwrap_or((value, ""));
    (name, value, rest)
}

/// The content of an element that holds no markup, and what begins at its end tag.
fn split_raw<'p>(tag: &Tag<'p>) -> (&'p str, &'p str) {
    let ends = |at: &usize| {
        let name = tag.rest.get(at + 2..at + 2 + tag.name.len());
        let after = tag.rest.get(at + 2 + tag.name.len()..).unwrap_or_default();
        name.is_some_and(|name| name.eq_ignore_ascii_case(&tag.name))
            && after.starts_with(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>')
    };
    let end = tag.rest.match_indices("</").map(|(at, _)| at).find(ends).unwrap_or(tag.rest.len());
    tag.rest.split_at_checked(end).unwrap_or((tag.rest, ""))
}

fn is_block(name: &str) -> bool {
    matches!(
        name,
        "address"
            | "article"
            | "aside"
            | "blockquote"
            | "body"
            | "br"
            | "caption"
            | "dd"
            | "details"
            | "dialog"
            | "div"
            | "dl"
            | "dt"
            | "fieldset"
            | "figcaption"
            | "figure"
            | "footer"
            | "form"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "head"
            | "header"
            | "hr"
            | "html"
            | "legend"
            | "li"
            | "main"
            | "menu"
            | "nav"
            | "ol"
            | "option"
            | "p"
            | "pre"
            | "search"
            | "section"
            | "summary"
            | "table"
            | "tbody"
            | "textarea"
            | "tfoot"
            | "thead"
            | "tr"
            | "ul"
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
        check("<table><tr><th>Plan<th>Price<tr><td>Pro<td>20 &euro;</table>", "Plan | Price\nPro | 20 €\n");
        check("<html><head><title>T</title><style>p{}</style></head><body>a<br/>b<HR>c</body></html>", "a\nb\nc\n");
        check("a<script>if (1 < 2) { document.write('<p>x</p>') }</script>b", "ab\n");
        check("<script>1</script><p>a<SCRIPT>'</scripty>'</Script ><p>b", "a\nb\n");
        check("<pre>  one\n    two\n</pre>three", "  one\n    two\nthree\n");
        check("<template><p>no</p></template>yes<img src=x alt='a &lt; \"cat\"'><img alt>", "yes[a < \"cat\"]\n");
        check("<a href='/x?a>b' title=\">\">link</a> text<!-- <p> -->!<!-->?<!doctype html>", "link text!?\n");
        check("<textarea>a <b> c</textarea>", "a <b> c\n");
    }

    #[test]
    fn broken_markup_loses_no_text() {
        check("1 < 2 <3 </ 4 <> 5", "1 < 2 <3 </ 4 <> 5\n");
        check("<p>broken <b>and <i>nested</p", "broken and nested\n");
        check("<p =a b='>' c=\">\" / d>x", "x\n");
        check("<é>&eacute;&#233;&bogus;", "<é>éé&bogus;\n");
        check("", "");
    }

    #[test]
    fn unterminated_markup_ends_the_page() {
        for open in ["<!-- x", "<p class='x", "<script>x", "<!x", "<p x"] {
            check(&format!("a{open} y"), "a\n");
        }
    }

    #[test]
    fn a_hostile_page_costs_no_more_than_its_size() {
        // Each of these takes minutes where the cost is the square of the size.
        let count = 200_000;
        check(&format!("{}x", "<div>".repeat(count)), "x\n");
        check(&format!("{}x", "<p><b a=1>".repeat(count)), "x\n");
        check(&format!("<p{}>x", " a=1".repeat(count)), "x\n");
        check(&format!("<p {}>x", "=".repeat(count)), "x\n");
        check(&format!("<script>{}", "</scrip".repeat(count)), "");
        check(&"<!-".repeat(count), "");
        assert!(to_text(&"<hr><li><h1><td>".repeat(count)).is_empty());
        assert_eq!(to_text(&"<".repeat(count)).len(), count + 1);
        assert_eq!(to_text(&"&amp".repeat(count)).len(), count + 1);
    }
}
