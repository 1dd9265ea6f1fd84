//! Deceptive characters in texts for people, and suggestions for misspelt names.

use alloc::vec::Vec;

/// Whether a character could make a terminal or a reader see something else than what is there: controls (C0, DEL, C1,
/// including line ends and tabs), characters that change the direction of the text around them, line and paragraph
/// separators, and zero-width characters that are not joiners.
#[must_use]
pub fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{00ad}'
                | '\u{034f}'
                | '\u{061c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{180e}'
                | '\u{3164}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Maximum number of steps of the search for the closest name. Names beyond that are not compared.
const MAX_STEPS: usize = 200_000;

/// The name that was most likely meant by an unknown one: at most a third of its letters differ.
#[must_use]
pub fn closest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong: Vec<char> = wrong.chars().flat_map(char::to_lowercase).collect();
    let mut best: Option<(usize, &str)> = None;
    let mut steps = 0;
    for name in names {
        let letters: Vec<char> = name.chars().flat_map(char::to_lowercase).collect();
        let most = (letters.len() / 3).max(1);
        steps += 1 + letters.len();
        if letters.len().abs_diff(wrong.len()) <= most {
            steps += letters.len() * wrong.len();
            let far = distance(&wrong, &letters);
            if far <= most && best.is_none_or(|(least, _)| far < least) {
                best = Some((far, name));
            }
        }
        if steps > MAX_STEPS {
            break;
        }
    }
    best.map(|(_, name)| name)
}

/// The number of insertions, deletions, replacements and swaps of neighbouring letters that turn one into the other.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut rows: [Vec<usize>; 3] = [Vec::new(), Vec::new(), (0..=other.len()).collect()];
    for (i, a) in one.iter().enumerate() {
        rows.rotate_left(1);
        let [before, last, row] = &mut rows;
        row.clear();
        row.push(i + 1);
        for (j, b) in other.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(last, j) + usize::from(a != b);
            let mut least = replaced.min(at(last, j + 1) + 1).min(at(row, j) + 1);
            let crosswise = i > 0 && j > 0 && one.get(i - 1) == Some(b) && other.get(j - 1) == Some(a);
            if crosswise {
                least = least.min(at(before, j - 1) + 1);
            }
            row.push(least);
        }
    }
    rows[2].last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_is_found_and_another_word_is_not() {
        let names = ["duel", "ranked-5v5", "casual"];
        for (wrong, meant) in [
            ("dual", Some("duel")),
            ("DUEL", Some("duel")),
            ("ranked-5v4", Some("ranked-5v5")),
            ("rnaked5v5", Some("ranked-5v5")),
            ("casaul", Some("casual")),
            ("crowd", None),
            ("", None),
        ] {
            assert_eq!(closest(wrong, names), meant, "{wrong}");
        }
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        for (one, other, far) in
            [("", "abc", 3), ("abc", "", 3), ("abcd", "acbd", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(&letters(one), &letters(other)), far, "{one} {other}");
        }
    }

    #[test]
    fn looking_for_a_name_among_many_long_ones_ends() {
        let names: Vec<alloc::string::String> = (0..1_000).map(|at| alloc::format!("{at:0>100}")).collect();
        let wrong = "9".repeat(100);
        assert_eq!(closest(&wrong, names.iter().map(|name| &**name)), None);
    }

    #[test]
    fn controls_and_what_turns_text_around_are_deceptive_and_letters_are_not() {
        let bad = "\0\u{7}\t\n\r\u{1b}\u{7f}\u{80}\u{9b}\u{9f}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\
            \u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{feff}\u{e0001}\u{ad}\u{34f}\u{115f}\u{180e}\u{3164}";
        assert!(bad.chars().all(is_deceptive));
        // Joiners belong to words of some scripts and to emoji.
        assert!(!"a Z~ é ü \u{a0}日本 مرحبا नमस्ते \u{200d}\u{200c}👩‍🚀".chars().any(is_deceptive));
    }
}
