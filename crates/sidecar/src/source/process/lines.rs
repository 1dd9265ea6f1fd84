//! Splits a program's output into lines, however it is written.

/// Maximum length of a line, in bytes; the rest of a longer line is dropped.
pub(super) const MAX_LINE_BYTES: usize = 4096;
/// Suffix of a truncated line.
const CUT: &str = "… (cut)";

/// Assembles lines from pieces. Holds at most [`MAX_LINE_BYTES`].
#[derive(Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    is_cut: bool,
}

impl Lines {
    /// Adds what was read, and passes each completed line to `each`, without its line break.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], String)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.extend(line);
            self.finish(&mut each);
            bytes = rest.strip_prefix(b"\n").unwrap_or_default();
        }
        self.extend(bytes);
    }

    /// The output has ended: the rest is a line too.
    pub(super) fn end(&mut self, mut each: impl FnMut(&[u8], String)) {
        if !self.line.is_empty() {
            self.finish(&mut each);
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = MAX_LINE_BYTES - self.line.len().min(MAX_LINE_BYTES);
        let (kept, dropped) = bytes.split_at(room.min(bytes.len()));
        self.line.extend_from_slice(kept);
        self.is_cut |= !dropped.is_empty();
    }

    fn finish(&mut self, each: &mut impl FnMut(&[u8], String)) {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let mut text = String::from_utf8_lossy(line).into_owned();
        if self.is_cut {
            text.push_str(CUT);
        }
        each(line, text);
        self.line.clear();
        self.is_cut = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for piece in pieces {
            lines.push(piece, |_, text| all.push(text));
        }
        lines.end(|_, text| all.push(text));
        all
    }

    #[test]
    fn pieces_become_lines() {
        assert_eq!(lines(&[b"a", b"b\r\n\nc", b"\nd"]), ["ab", "", "c", "d"]);
        assert_eq!(lines(&[b"bad \xff\xfe utf-8\n"]), ["bad \u{fffd}\u{fffd} utf-8"]);
        assert_eq!(lines(&[]), Vec::<String>::new());
    }

    #[test]
    fn a_line_without_end_is_cut_and_takes_no_memory() {
        let mut lines = Lines::default();
        for _ in 0..2560 {
            lines.push(&[b'x'; 4096], |_, _| panic!("no line has ended"));
        }
        assert!(lines.line.capacity() <= 2 * MAX_LINE_BYTES);
        let mut all = Vec::new();
        lines.push(b"\nnext\n", |_, text| all.push(text));
        assert_eq!(all, [format!("{}{CUT}", "x".repeat(MAX_LINE_BYTES)), "next".to_owned()]);
    }

    proptest! {
        #[test]
        fn the_split_into_pieces_does_not_matter(
            text in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            cuts in prop::collection::vec(0_usize..200, 0..5),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            prop_assert_eq!(lines(&pieces), lines(&[&text]));
        }
    }
}
