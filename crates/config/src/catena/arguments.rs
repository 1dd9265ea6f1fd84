//! One string of arguments as a list.
//!
//! Split as .NET does when it starts a process with a string of arguments, on Linux too, because Catena started these
//! servers that way: blanks separate, double quotes group, a backslash counts only before a double quote, and two
//! double quotes within quotes are one. A shell's rules would remove single quotes and every backslash.
//! Source: `ParseArgumentsIntoList` of `System.Diagnostics.Process`.

/// The arguments in `text`.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut rest = text.chars().peekable();
    let mut arguments = Vec::new();
    loop {
        while rest.next_if(|&one| is_blank(one)).is_some() {}
        if rest.peek().is_none() {
            return arguments;
        }
        arguments.push(next(&mut rest));
    }
}

const fn is_blank(one: char) -> bool {
    matches!(one, ' ' | '\t')
}

fn next(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut argument = String::new();
    let mut quoted = false;
    loop {
        let mut backslashes = 0;
        while rest.next_if_eq(&'\\').is_some() {
            backslashes += 1;
        }
        let before_quote = rest.peek() == Some(&'"');
        let kept = if before_quote { backslashes / 2 } else { backslashes };
        argument.extend(std::iter::repeat_n('\\', kept));
        let Some(one) = rest.next_if(|&one| quoted || !is_blank(one)) else { return argument };
        match one {
            '"' if backslashes % 2 == 1 => argument.push('"'),
            '"' if quoted && rest.next_if_eq(&'"').is_some() => argument.push('"'),
            '"' => quoted = !quoted,
            other => argument.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_split_as_their_first_starter_does() {
        for (text, expected) in [
            ("", &[][..]),
            (" \t ", &[]),
            ("-batchmode -port 7777", &["-batchmode", "-port", "7777"]),
            (r#"-map "a b"  x"#, &["-map", "a b", "x"]),
            (r#"--name="two words""#, &["--name=two words"]),
            (r#""" x"#, &["", "x"]),
            (r"C:\games\a 'b c'", &[r"C:\games\a", "'b", "c'"]),
            (r#"\"a \\"b c\\" d"#, &[r#""a"#, r"\b c\", "d"]),
            (r#""say ""hi"" now""#, &[r#"say "hi" now"#]),
            (r#""never closed x"#, &["never closed x"]),
            (r"ends\", &[r"ends\"]),
            ("line\nbreak", &["line\nbreak"]),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }
}
