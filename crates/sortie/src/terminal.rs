//! Foreign text, made safe for terminals and logs: characters that would move the cursor, ring, reverse the line or
//! look like another line are replaced by their code.
//!
//! Codes are written as in JSON, so that a JSON text keeps its meaning.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use sortie_domain::text::is_deceptive;
use tracing_subscriber::fmt::MakeWriter;

/// `text` on one line.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    without(text, is_deceptive)
}

/// `text` with its own lines.
pub(crate) fn escaped_lines(text: &str) -> Cow<'_, str> {
    without(text, |character| !matches!(character, '\n' | '\t') && is_deceptive(character))
}

fn without(text: &str, bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&bad) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if bad(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Where log lines go: standard error, one line at a time.
pub(crate) struct LogLines {
    /// Whether lines are coloured.
    pub(crate) coloured: bool,
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = LogLine<io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        LogLine { to: io::stderr(), coloured: self.coloured }
    }
}

/// Expects one whole line in each write, which is what the library does.
pub(crate) struct LogLine<W> {
    to: W,
    coloured: bool,
}

impl<W: Write> Write for LogLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (text, end) = match text.strip_suffix('\n') {
            Some(text) => (text, "\n"),
            None => (&*text, ""),
        };
        let shown = if self.coloured { escaped_but_colours(text) } else { escaped(text).into_owned() };
        self.to.write_all((shown + end).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The colours come from the library, which escapes those in the text that it is given.
fn escaped_but_colours(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut parts = text.split("\u{1b}[");
    shown.push_str(&escaped(parts.next().unwrap_or_default()));
    for part in parts {
        let end = part.find(|character: char| !character.is_ascii_digit() && character != ';');
        match end.and_then(|end| part.split_at_checked(end)) {
            Some((codes, rest)) if rest.starts_with('m') => {
                shown.push_str("\u{1b}[");
                shown.push_str(codes);
                shown.push_str(&escaped(rest));
            }
            _ => {
                shown.push_str(&escaped("\u{1b}["));
                shown.push_str(&escaped(part));
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_by_its_number() {
        assert_eq!(
            escaped("a\u{1b}[2J\u{7}\r\nb\u{9b}1m\u{202e}"),
            "a\\u001b[2J\\u0007\\u000d\\u000ab\\u009b1m\\u202e"
        );
        assert_eq!(escaped("\u{e0041}"), "\\udb40\\udc41");
        assert_eq!(escaped_lines("a\nb\r"), "a\nb\\u000d");
        assert!(matches!(escaped("plain é 日本"), Cow::Borrowed(_)));
    }

    #[test]
    fn escaped_json_means_the_same() {
        let value = serde_json::json!({"a\u{9b}": "b\u{202e}\u{7f}\u{e0041}\u{1b}\n"});
        let shown = escaped(&value.to_string()).into_owned();
        assert!(!shown.chars().any(is_deceptive));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    fn logged(line: &str, coloured: bool) -> String {
        let mut log = LogLine { to: Vec::new(), coloured };
        log.write_all(line.as_bytes()).unwrap();
        String::from_utf8(log.to).unwrap()
    }

    #[test]
    fn a_log_line_is_one_line_and_has_no_colours_but_its_own() {
        let line = "WARN server=a\nERROR forged\u{1b}]0;x\u{7} \u{9b}2J\n";
        assert_eq!(logged(line, false), "WARN server=a\\u000aERROR forged\\u001b]0;x\\u0007 \\u009b2J\n");
        let line = "\u{1b}[2m12:00\u{1b}[0m \u{1b}[1;31mWARN\u{1b}[0m a\u{1b}[2J\u{1b}[\n";
        let shown = "\u{1b}[2m12:00\u{1b}[0m \u{1b}[1;31mWARN\u{1b}[0m a\\u001b[2J\\u001b[\n";
        assert_eq!(logged(line, true), shown);
    }
}
