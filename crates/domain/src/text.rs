//! Characters that a text for people must not bring along.

/// Whether a character could make a terminal or a reader see something else than what is there: controls (C0, DEL, C1,
/// line ends and tabs among them), whatever changes the direction of the text around it, line and paragraph separators, and
/// characters without a width that join nothing.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_and_what_turns_text_around_are_deceptive_and_letters_are_not() {
        let bad = "\0\u{7}\t\n\r\u{1b}\u{7f}\u{80}\u{9b}\u{9f}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\
            \u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{feff}\u{e0001}\u{ad}\u{34f}\u{115f}\u{180e}\u{3164}";
        assert!(bad.chars().all(is_deceptive));
        // Joiners belong to words of some scripts and to emoji.
        assert!(!"a Z~ é ü \u{a0}日本 مرحبا नमस्ते \u{200d}\u{200c}👩‍🚀".chars().any(is_deceptive));
    }
}
