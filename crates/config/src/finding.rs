//! What is wrong, or looks wrong, and where.

use std::collections::BTreeMap;
use std::fmt;

/// Maximum number of problems, and of warnings, that are listed; further ones are counted.
pub const MAX_FINDINGS: usize = 100;

/// One problem or warning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The key it is about, like `fleets.arena.max`; or a file, or an environment variable that is not a setting.
    pub path: String,
    /// What is wrong and what would be right. Contains no secrets.
    pub text: String,
    /// The environment variable or flag that set the value; `None` for the file and for defaults.
    pub set_by: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)?;
        match &self.set_by {
            Some(name) => write!(f, " (set by {name})"),
            None => Ok(()),
        }
    }
}

/// Everything that makes a configuration unusable. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problems {
    /// The first [`MAX_FINDINGS`] problems, in the order of the file's sections.
    pub list: Vec<Finding>,
    /// How many more there are.
    pub unlisted: usize,
}

impl Problems {
    pub(crate) fn one(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { list: vec![Finding { path: path.into(), text: text.into(), set_by: None }], unlisted: 0 }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len() + self.unlisted;
        write!(f, "{count} problem{} in the configuration:", if count == 1 { "" } else { "s" })?;
        for finding in &self.list {
            write!(f, "\n  {finding}")?;
        }
        match self.unlisted {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl std::error::Error for Problems {}

/// Collects findings while everything is read to its end.
#[derive(Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    unlisted: usize,
}

impl Findings {
    pub(crate) fn push(&mut self, finding: Finding) {
        if self.list.len() < MAX_FINDINGS {
            self.list.push(finding);
        } else {
            self.unlisted += 1;
        }
    }

    pub(crate) fn problems(self) -> Result<(), Problems> {
        if self.list.is_empty() {
            return Ok(());
        }
        Err(Problems { list: self.list, unlisted: self.unlisted })
    }

    pub(crate) fn into_list(self) -> Vec<Finding> {
        self.list
    }
}

/// Which variable or flag set the value at a path.
pub(crate) type Origins = BTreeMap<String, String>;
