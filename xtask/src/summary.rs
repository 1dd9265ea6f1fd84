//! Sums up what the test binaries report, while their output passes through.

use std::fmt;
use std::io::{self, BufRead, Write};

/// Tests over all binaries.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Tests {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tests {
    /// Copies `output` to `to`, line by line, and sums up its results.
    pub(crate) fn pass_on(output: impl BufRead, mut to: impl Write) -> io::Result<Self> {
        let mut sum = Self::default();
        for line in output.split(b'\n') {
            let line = line?;
            to.write_all(&line)?;
            to.write_all(b"\n")?;
            sum.add(&String::from_utf8_lossy(&line));
        }
        to.flush()?;
        Ok(sum)
    }

    /// `test result: ok. 12 passed; 0 failed; 0 ignored; …`
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else { return };
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Tests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &[u8] = b"running 2 tests\n\
        test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s\n\
        a test says: 100 passed\n\xff\n\
        test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\n";

    #[test]
    fn results_are_added_up_and_everything_passes_by() {
        let mut seen = Vec::new();
        let sum = Tests::pass_on(OUTPUT, &mut seen).unwrap();
        assert_eq!(sum, Tests { passed: 15, failed: 2 });
        assert_eq!(sum.to_string(), "15 passed, 2 failed");
        assert_eq!(seen, OUTPUT);
    }
}
