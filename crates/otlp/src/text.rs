//! Text that is safe to show: escapes, quotes, display width, truncation.
//!
//! Names and values come from whoever exports. A terminal obeys control
//! characters, and bidirectional marks make a line read as something else, so
//! neither is ever written as it came.

use std::fmt::Write as _;

/// Whether `c` must not reach a terminal or a snapshot as it is: control
/// characters, line separators, and invisible or direction-changing marks.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}'
            | '\u{061c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Appends `c`, escaped if it is unsafe, a backslash, or in `quotes` a quote.
fn push_escaped(out: &mut String, c: char, quotes: bool) {
    match c {
        '\\' => out.push_str("\\\\"),
        '"' if quotes => out.push_str("\\\""),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if is_unsafe(c) => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        c => out.push(c),
    }
}

/// `text` in double quotes, with escapes that [`unquote`] reads back.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        push_escaped(&mut out, c, true);
    }
    out.push('"');
    out
}

/// `text` for a person: one line, nothing in it that a terminal obeys.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push_escaped(&mut out, c, false);
    }
    out
}

/// Reads a quoted text at the start of `input`; gives the text and what follows.
pub(crate) fn unquote(input: &str) -> Result<(String, &str), String> {
    let Some(body) = input.strip_prefix('"') else {
        return Err("expected a quoted text".to_owned());
    };
    let mut out = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, &body[at + 1..])),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('\\') => out.push('\\'),
                Some('"') => out.push('"'),
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some('u') => {
                    let mut hex = String::new();
                    if chars.next().map(|(_, c)| c) != Some('{') {
                        return Err("expected { after \\u".to_owned());
                    }
                    loop {
                        match chars.next().map(|(_, c)| c) {
                            Some('}') => break,
                            Some(c) if c.is_ascii_hexdigit() && hex.len() < 6 => hex.push(c),
                            _ => return Err("bad \\u{…} escape".to_owned()),
                        }
                    }
                    let c = u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32);
                    out.push(c.ok_or("bad \\u{…} escape")?);
                }
                _ => return Err("unknown escape".to_owned()),
            },
            c => out.push(c),
        }
    }
    Err("a quote is not closed".to_owned())
}

/// How many terminal columns `c` takes: 0, 1 or 2. An approximation by ranges
/// (Unicode Standard Annex 11 has the whole truth); being wrong costs
/// alignment and nothing else.
pub(crate) fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f
        | 0x0483..=0x0489
        | 0x0591..=0x05bd
        | 0x064b..=0x065f
        | 0x0e31
        | 0x0e34..=0x0e3a
        | 0x0e47..=0x0e4e
        | 0x1ab0..=0x1aff
        | 0x1dc0..=0x1dff
        | 0x200b..=0x200f
        | 0x20d0..=0x20ff
        | 0xfe00..=0xfe0f
        | 0xfe20..=0xfe2f => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe4f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// How many terminal columns `text` takes, about.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// `text` cut to at most `columns`, ending in `ellipsis` if anything was cut.
pub(crate) fn truncate(text: &str, columns: usize, ellipsis: &str) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let ellipsis = if width(ellipsis) <= columns {
        ellipsis
    } else {
        ""
    };
    let room = columns - width(ellipsis);
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = char_width(c);
        if used + w > room {
            break;
        }
        used += w;
        out.push(c);
    }
    out.push_str(ellipsis);
    out
}

/// `text` cut to at most `room`, as `width` measures it, ending in `…` if anything was cut.
pub(crate) fn fit_width(text: &str, width: impl Fn(char) -> f64, room: f64) -> String {
    let whole: f64 = text.chars().map(&width).sum();
    if whole <= room {
        return text.to_owned();
    }
    let mut left = room - width('…');
    let mut out: String = text
        .chars()
        .take_while(|c| {
            left -= width(*c);
            left >= 0.0
        })
        .collect();
    out.push('…');
    out
}

/// `text` truncated to `columns` and filled up with spaces on the right.
pub(crate) fn fit(text: &str, columns: usize, ellipsis: &str) -> String {
    let mut out = truncate(text, columns, ellipsis);
    let used = width(&out);
    out.extend(std::iter::repeat_n(' ', columns.saturating_sub(used)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_reads_back() {
        for text in [
            "",
            "GET /fast",
            "a\"b\\c",
            "line\nline\r\t",
            "\u{1b}[31mred\u{0}\u{202e}",
            "日本 😀 é",
            "\\u{41}",
        ] {
            let quoted = quote(text);
            assert!(!quoted.chars().any(is_unsafe), "{quoted}");
            assert_eq!(unquote(&quoted), Ok((text.to_owned(), "")));
        }
        assert_eq!(unquote("\"a\" b"), Ok(("a".to_owned(), " b")));
        for bad in [
            "",
            "a",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u{d800}\"",
            "\"\\u{",
            "\"\\u41\"",
        ] {
            assert!(unquote(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn truncation_counts_columns() {
        assert_eq!(truncate("abc", 3, "…"), "abc");
        assert_eq!(truncate("abcd", 3, "…"), "ab…");
        assert_eq!(truncate("日本語", 4, "…"), "日…");
        assert_eq!(truncate("abcd", 0, "…"), "");
        assert_eq!(truncate("abcd", 2, "..."), "ab");
        assert_eq!(fit("日本", 6, "…"), "日本  ");
    }
}
