//! Requirements: [JMESPath](https://jmespath.org/specification.html) expressions over the match document.
//!
//! Expressions come from game servers and from the configuration, so both the text and its nesting are limited
//! before the parser, which recurses, sees it, and the work that it can be (`work`) before it is evaluated. An
//! expression that fails at evaluation (a function given a wrong type) does not fit; only its text can be invalid.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;

use jmespath::ast::Ast;
use jmespath::functions::{ArgumentType, CustomFunction, Signature};
use jmespath::{Context, ErrorReason, Rcvar, Runtime, Variable};

use self::work::{MAX_WORK, work};
use super::model::{MatchSpec, Properties};
use crate::ids::MatchId;

mod work;

/// Longest expression, in bytes.
pub const MAX_EXPRESSION_BYTES: usize = 4096;
/// Deepest nesting of brackets and negations in an expression.
pub const MAX_EXPRESSION_DEPTH: usize = 64;
/// Most operators (`.`, `|`, `&`, `[`) in an expression; each may be one level of the parsed tree.
pub const MAX_EXPRESSION_OPERATORS: usize = 512;
/// Distinct texts kept compiled.
const MAX_COMPILED: usize = 10_000;

/// Why a text is no expression.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidRequirements {
    /// Character position of the fault, from 0.
    pub at: usize,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for InvalidRequirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no valid JMESPath expression: at character {}: {}", self.at, self.problem)
    }
}

/// A compiled expression. Empty text fits every match.
pub struct Requirement {
    text: Arc<str>,
    ast: Option<Ast>,
}

impl Requirement {
    /// The expression as it was written; empty for "any match".
    #[must_use]
    pub const fn text(&self) -> &Arc<str> {
        &self.text
    }
}

impl fmt::Debug for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Requirement({:?})", self.text)
    }
}

/// A match as requirements see it.
#[derive(Clone)]
pub struct Document(Rcvar);

impl Document {
    /// `{"MatchId", "PlayerIds", "MatchProperties", "PlayerProperties"}`.
    #[must_use]
    pub fn new(id: &MatchId, spec: &MatchSpec) -> Self {
        let players = spec.players.iter().map(|player| string(player.as_str())).collect();
        let player_properties =
            spec.player_properties.iter().map(|(id, value)| (id.to_string(), value.variable())).collect();
        let mut document = BTreeMap::new();
        document.insert("MatchId".to_string(), string(id.as_str()));
        document.insert("PlayerIds".to_string(), Rcvar::new(Variable::Array(players)));
        document.insert("MatchProperties".to_string(), spec.properties.variable());
        document.insert("PlayerProperties".to_string(), Rcvar::new(Variable::Object(player_properties)));
        Self(Rcvar::new(Variable::Object(document)))
    }
}

fn string(text: &str) -> Rcvar {
    Rcvar::new(Variable::String(text.to_string()))
}

impl Properties {
    fn variable(&self) -> Rcvar {
        // The text was checked when the properties were made, so the fallback is never taken.
        let parsed = self.text().and_then(|text| Variable::from_json(text).ok());
        Rcvar::new(parsed.unwrap_or_else(|| Variable::Object(BTreeMap::new())))
    }
}

/// Compiles expressions, each text once, and evaluates them.
pub struct Requirements {
    runtime: Runtime,
    compiled: BTreeMap<Arc<str>, Arc<Requirement>>,
}

impl Requirements {
    /// A compiler that knows JMESPath's built-in functions.
    #[must_use]
    pub fn new() -> Self {
        let mut runtime = Runtime::new();
        runtime.register_builtin_functions();
        let signature = Signature::new(
            alloc::vec![ArgumentType::TypedArray(alloc::boxed::Box::new(ArgumentType::Number))],
            None,
        );
        // The specification says that the average of nothing is null; the library's own fails there.
        runtime.register_function(
            "avg",
            alloc::boxed::Box::new(CustomFunction::new(signature, alloc::boxed::Box::new(average))),
        );
        Self { runtime, compiled: BTreeMap::new() }
    }

    /// The compiled form of `text`, shared by equal texts. Space around the text does not count.
    ///
    /// # Errors
    /// [`InvalidRequirements`] with the position of the first fault.
    pub fn compile(&mut self, text: &str) -> Result<Arc<Requirement>, InvalidRequirements> {
        let text = text.trim();
        if let Some(known) = self.compiled.get(text) {
            return Ok(Arc::clone(known));
        }
        let requirement = Arc::new(compile(text)?);
        if self.compiled.len() >= MAX_COMPILED {
            // Whoever uses an expression holds it; this only forgets that it can be shared.
            self.compiled.retain(|_, kept| Arc::strong_count(kept) > 1);
        }
        if self.compiled.len() < MAX_COMPILED {
            self.compiled.insert(Arc::clone(&requirement.text), Arc::clone(&requirement));
        }
        Ok(requirement)
    }

    /// As [`Self::fits`], for the text of an expression that was checked before. One that was not does not fit.
    #[must_use]
    pub fn fits_text(&self, text: &str, document: &Document) -> bool {
        match self.compiled.get(text.trim()) {
            Some(requirement) => self.fits(requirement, document),
            None => compile(text.trim()).is_ok_and(|requirement| self.fits(&requirement, document)),
        }
    }

    /// Whether the match fits: the expression's value is true in JMESPath's sense.
    #[must_use]
    pub fn fits(&self, requirement: &Requirement, document: &Document) -> bool {
        let Some(ast) = &requirement.ast else { return true };
        let mut context = Context::new(&requirement.text, &self.runtime);
        jmespath::interpret(&document.0, ast, &mut context).is_ok_and(|value| value.is_truthy())
    }
}

impl Default for Requirements {
    fn default() -> Self {
        Self::new()
    }
}

/// Checks an expression without keeping it.
///
/// # Errors
/// [`InvalidRequirements`] with the position of the first fault.
pub fn check(text: &str) -> Result<(), InvalidRequirements> {
    compile(text.trim()).map(|_| ())
}

fn compile(text: &str) -> Result<Requirement, InvalidRequirements> {
    if text.is_empty() {
        return Ok(Requirement { text: Arc::from(text), ast: None });
    }
    limit(text)?;
    let ast = jmespath::parse(text).map_err(|error| InvalidRequirements {
        at: error.offset,
        problem: match error.reason {
            ErrorReason::Parse(problem) => problem,
            ErrorReason::Runtime(problem) => problem.to_string(),
        },
    })?;
    if work(&ast) > MAX_WORK {
        let problem = "lists, projections or texts inside one another multiply to too much work".to_string();
        return Err(InvalidRequirements { at: 0, problem });
    }
    Ok(Requirement { text: Arc::from(text), ast: Some(ast) })
}

/// Refuses what would let the parser or the interpreter, which both recurse, run out of stack.
fn limit(text: &str) -> Result<(), InvalidRequirements> {
    let refuse = |at, problem| Err(InvalidRequirements { at, problem });
    if text.len() > MAX_EXPRESSION_BYTES {
        return refuse(MAX_EXPRESSION_BYTES, format!("longer than {MAX_EXPRESSION_BYTES} bytes"));
    }
    let (mut depth, mut operators) = (0_usize, 0_usize);
    for (at, character) in text.chars().enumerate() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        operators += usize::from(matches!(character, '.' | '|' | '&' | '[' | '!' | '<' | '>' | '='));
        if depth > MAX_EXPRESSION_DEPTH {
            return refuse(at, format!("brackets nested deeper than {MAX_EXPRESSION_DEPTH}"));
        }
        if operators > MAX_EXPRESSION_OPERATORS {
            return refuse(at, format!("more than {MAX_EXPRESSION_OPERATORS} operators"));
        }
    }
    // The interpreter negates a negative index, which this one does not survive.
    match text.find("-2147483648") {
        Some(at) => refuse(at, "an index below -2147483647".to_string()),
        None => Ok(()),
    }
}

fn average(arguments: &[Rcvar], _: &mut Context<'_>) -> jmespath::SearchResult {
    let numbers = arguments.first().and_then(|array| array.as_array());
    let values: alloc::vec::Vec<f64> =
        numbers.into_iter().flatten().filter_map(|value| value.as_number()).collect();
    if values.is_empty() {
        return Ok(Rcvar::new(Variable::Null));
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    Variable::from_serializable(mean).map(Rcvar::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(properties: &str) -> Document {
        let spec = MatchSpec { properties: Properties::parse(properties).unwrap(), ..MatchSpec::default() };
        Document::new(&MatchId::new("m").unwrap(), &spec)
    }

    fn fits(text: &str, properties: &str) -> bool {
        let mut requirements = Requirements::new();
        let requirement = requirements.compile(text).unwrap();
        requirements.fits(&requirement, &document(properties))
    }

    #[test]
    fn expressions_see_the_match_document() {
        assert!(fits("MatchProperties.map == 'forbidden_forest'", r#"{"map":"forbidden_forest"}"#));
        assert!(!fits("MatchProperties.map == 'forbidden_forest'", r#"{"map":"desert"}"#));
        assert!(fits("MatchId == 'm' && length(PlayerIds) == `0`", ""));
        assert!(fits("", "") && fits("  ", ""), "no requirements fit every match");
        assert!(!fits("length(MatchProperties.absent) > `0`", ""), "a failing evaluation does not fit");
        assert!(fits("avg(MatchProperties.none) == `null`", r#"{"none":[]}"#));
        assert!(
            fits("avg(MatchProperties.some) == `2`", r#"{"some":[1,3]}"#)
                || fits("avg(MatchProperties.some) == `2.0`", r#"{"some":[1,3]}"#)
        );
    }

    #[test]
    fn equal_texts_share_one_compiled_expression() {
        let mut requirements = Requirements::new();
        let first = requirements.compile("a == 'b'").unwrap();
        assert!(Arc::ptr_eq(&first, &requirements.compile(" a == 'b' ").unwrap()));
    }

    #[test]
    fn an_invalid_expression_is_refused_with_its_position() {
        let error = check("MatchProperties.map ==").unwrap_err();
        assert_eq!(error.at, 22, "{error}");
        let error = check("a || [").unwrap_err();
        assert!(error.at >= 5, "{error}");
    }

    #[test]
    fn hostile_expressions_are_refused_or_evaluated_on_a_small_stack() {
        let document = document("{}");
        let mut requirements = Requirements::new();
        for unit in [
            "(", "!", "[", "{a:", "a.", "a|", "a&&", "a||", "a[", "&", "[]", "[*]", "a[?", "a==", "`", "'",
            "\"",
        ] {
            for count in [1, 60, 64, 500, 512, 2000, 10_000] {
                for tail in ["", "a", "a)", "]"] {
                    if let Ok(requirement) = requirements.compile(&(unit.repeat(count) + tail)) {
                        let _ = requirements.fits(&requirement, &document);
                    }
                }
            }
        }
        assert!(check("a[-2147483648]").is_err());
    }
}
