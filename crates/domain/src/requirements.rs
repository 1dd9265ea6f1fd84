//! Requirements: [JMESPath](https://jmespath.org/specification.html) expressions over the match document.
//!
//! Expressions come from game servers and from the configuration, so both the text and its nesting are limited before
//! the parser, which recurses, sees it. The cost is limited twice: exponential growth is refused by the text alone
//! (`work`), and an evaluation is stopped once it has done too much (`evaluation`, `meter`). An expression whose
//! evaluation fails (a function with a wrong type) or is stopped does not fit.
//!
//! This module handles one expression and one match; `queue` and `askers` do it for many: they find the oldest match
//! that fits, and the first server that a match fits. Conjunctions of equalities are looked up there; any other
//! expression has to be evaluated, and the verdict is remembered.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use jmespath::ast::Ast;
use jmespath::functions::{ArgumentType, CustomFunction, Signature};
use jmespath::{Context, ErrorReason, Rcvar, Runtime, Variable};

use self::evaluation::{Evaluation, Failed};
use self::meter::{DOCUMENT_WORK, EVALUATION, EVALUATION_WORK, Meter, NODE};
use self::work::{MAX_WORK, work};

mod conjunction;
mod document;
mod evaluation;
mod meter;
mod numbers;
mod reading;

pub(crate) use conjunction::{Conjunction, Path, Paths, key, path_of};
pub use document::Document;
pub(crate) use document::Values;
pub use meter::MAX_STEP_WORK;
pub(crate) use meter::{STEP_WORK, Search};
pub(crate) use numbers::{equal, whole};
pub(crate) use reading::read;

mod work;

/// Maximum length of an expression, in bytes.
pub const MAX_EXPRESSION_BYTES: usize = 4096;
/// Maximum nesting of brackets and negations in an expression.
pub const MAX_EXPRESSION_DEPTH: usize = 64;
/// Maximum number of operators (`.`, `|`, `&`, `[`) in an expression; each may be one level of the parsed tree.
pub const MAX_EXPRESSION_OPERATORS: usize = 512;
/// Unused expressions are forgotten once the kept ones take this many bytes.
const MAX_UNUSED_BYTES: usize = 32 << 20;
/// Budget for distinct expressions that are kept compiled, in bytes as [`Requirement::bytes`] counts them.
const MAX_COMPILED_BYTES: usize = 256 << 20;
/// When a new expression finds no room, unused ones are only searched for after this many attempts, because that looks
/// at all of them.
const LOOKED_FOR: usize = 1_000;

/// Why a text is refused as an expression.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidRequirements {
    /// Character position of the error, from 0.
    pub at: usize,
    /// What is wrong there.
    pub problem: String,
    /// Whether the text is valid, but could cost too much work.
    pub too_costly: bool,
}

impl InvalidRequirements {
    const fn at(at: usize, problem: String) -> Self {
        Self { at, problem, too_costly: false }
    }
}

impl fmt::Display for InvalidRequirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, problem, too_costly } = self;
        if *too_costly {
            return f.write_str(problem);
        }
        write!(f, "not a valid JMESPath expression: at character {at}: {problem}")
    }
}

/// There is no room for one more expression besides those that servers ask with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoRoom;

impl NoRoom {
    /// The budget, in bytes.
    pub(crate) const LIMIT: usize = MAX_COMPILED_BYTES;
}

/// The result of an expression on a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Fits,
    DoesNotFit,
    /// The evaluation was stopped, which counts as not fitting.
    TooCostly,
}

/// A compiled expression. Empty text fits every match.
pub struct Requirement {
    text: Arc<str>,
    ast: Option<Ast>,
    conjunction: Option<Conjunction>,
    /// Whether it looks at the players.
    players: bool,
}

/// Approximate size of an operator or a value in a compiled expression, in bytes.
const BYTES_OF_OPERATOR: usize = 160;

impl Requirement {
    /// The expression as it was written; empty for "any match".
    #[must_use]
    pub const fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The expression as a conjunction of equalities, if it is one.
    pub(crate) const fn conjunction(&self) -> Option<&Conjunction> {
        self.conjunction.as_ref()
    }

    /// The paths at which these two fields of the document must have equal values for the expression to be true.
    pub(crate) fn shared_paths(&self, one: &str, other: &str) -> Vec<Path> {
        let mut found = Vec::new();
        if let Some(ast) = &self.ast {
            conjunction::shared_paths(ast, (one, other), &mut found);
        }
        found
    }

    /// An upper estimate of its size in bytes: every character that is neither a letter nor a digit may begin an
    /// operator or a value.
    fn bytes(&self) -> usize {
        let marks = self.text.bytes().filter(|byte| !byte.is_ascii_alphanumeric()).count();
        2 * self.text.len() + BYTES_OF_OPERATOR * (1 + marks)
    }

    /// Shared by all who ask for any match.
    pub(crate) fn none() -> Self {
        Self { text: Arc::from(""), ast: None, conjunction: Some(Conjunction::of_nothing()), players: false }
    }
}

impl fmt::Debug for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Requirement({:?})", self.text)
    }
}

/// Compiles each text once, and evaluates expressions.
pub struct Requirements {
    runtime: Runtime,
    compiled: BTreeMap<Arc<str>, Arc<Requirement>>,
    /// The size of `compiled`, in bytes.
    bytes: usize,
    /// Texts that found no room since unused ones were last searched for.
    turned_away: usize,
    meter: Meter,
}

impl Requirements {
    /// A compiler that knows JMESPath's built-in functions.
    #[must_use]
    pub fn new() -> Self {
        let mut runtime = Runtime::new();
        runtime.register_builtin_functions();
        let signature =
            Signature::new(alloc::vec![ArgumentType::TypedArray(Box::new(ArgumentType::Number))], None);
        // The specification says that the average of nothing is null; the library's own implementation fails there.
        runtime.register_function("avg", Box::new(CustomFunction::new(signature, Box::new(average))));
        Self { runtime, compiled: BTreeMap::new(), bytes: 0, turned_away: 0, meter: Meter::new() }
    }

    /// The compiled form of `text`, shared by equal texts. Space around the text does not count.
    ///
    /// # Errors
    /// [`InvalidRequirements`] with the position of the first fault.
    pub fn compile(&mut self, text: &str) -> Result<Arc<Requirement>, InvalidRequirements> {
        let text = text.trim();
        if let Some(known) = self.known(text) {
            return Ok(Arc::clone(known));
        }
        let requirement = Arc::new(compile(text)?);
        // Without room, it is just not shared.
        let _ = self.keep(&requirement);
        Ok(requirement)
    }

    /// Ensures that the expression is one of the kept ones, which are limited in bytes: for callers that are going to
    /// hold it.
    pub(crate) fn keep(&mut self, requirement: &Arc<Requirement>) -> Result<(), NoRoom> {
        if self.known(&requirement.text).is_some() {
            return Ok(());
        }
        let bytes = requirement.bytes();
        if self.bytes + bytes > MAX_UNUSED_BYTES {
            self.make_room();
        }
        if self.bytes + bytes > MAX_COMPILED_BYTES {
            return Err(NoRoom);
        }
        self.bytes += bytes;
        self.compiled.insert(Arc::clone(&requirement.text), Arc::clone(requirement));
        Ok(())
    }

    /// The expression that fits if both fit. The limits of a text are not applied to it: each of the two met them, and
    /// together they are only one operator deeper.
    pub(crate) fn both(&mut self, one: &Arc<Requirement>, other: &Arc<Requirement>) -> Arc<Requirement> {
        let (Some(lhs), Some(rhs)) = (&one.ast, &other.ast) else {
            return Arc::clone(if one.ast.is_some() { one } else { other });
        };
        let text = format!("({}) && ({})", one.text, other.text);
        if let Some(known) = self.known(&text) {
            return Arc::clone(known);
        }
        let ast = Ast::And { offset: 0, lhs: Box::new(lhs.clone()), rhs: Box::new(rhs.clone()) };
        let (conjunction, players) = (Conjunction::of(&ast), one.players || other.players);
        let both = Arc::new(Requirement { text: Arc::from(text), ast: Some(ast), conjunction, players });
        // Without room, it is just not shared.
        let _ = self.keep(&both);
        both
    }

    fn known(&self, text: &str) -> Option<&Arc<Requirement>> {
        self.compiled.get(text)
    }

    /// Searches rarely enough that the cost per expression stays small.
    fn make_room(&mut self) {
        if self.turned_away.is_multiple_of(LOOKED_FOR) {
            // Users of an expression hold it; this only forgets that it can be shared.
            self.compiled.retain(|_, kept| Arc::strong_count(kept) > 1);
            self.bytes = self.compiled.values().map(|kept| kept.bytes()).sum();
        }
        self.turned_away += 1;
    }

    /// Begins a step, or something else that may cost as much work as a step.
    pub(crate) fn begin_step(&self) {
        self.meter.begin();
    }

    /// Whether this step has evaluated so much that the rest is left for later ones.
    pub(crate) fn is_spent(&self) -> bool {
        self.meter.is_spent()
    }

    /// The work spent since the step began.
    pub(crate) fn spent(&self) -> u64 {
        self.meter.spent()
    }

    /// Counts work of this step that was done elsewhere: looking at this many entries.
    pub(crate) fn spend(&self, looks: usize) {
        self.meter.spend(NODE * looks as u64);
    }

    /// The work spent, plus what [`Self::spend_for`] would add.
    pub(crate) fn spent_with(&self, document: &Document<'_>) -> u64 {
        self.spent().saturating_add(document.work(false))
    }

    /// Counts the cost of making the part of `document` that is not about players, if it does not exist yet.
    pub(crate) fn spend_for(&self, document: &Document<'_>) {
        self.meter.spend(document.work(false));
    }

    /// As [`Self::fits`], for the text of an expression that was checked before. Unchecked texts do not fit.
    #[must_use]
    pub fn fits_text(&self, text: &str, document: &Document<'_>) -> bool {
        self.verdict_of_text(text, document) == Verdict::Fits
    }

    /// As [`Self::verdict`], for the text of an expression that was checked before. Unchecked texts do not fit.
    pub(crate) fn verdict_of_text(&self, text: &str, document: &Document<'_>) -> Verdict {
        match self.known(text.trim()) {
            Some(requirement) => self.verdict(requirement, document),
            None => compile(text.trim()).map_or(Verdict::DoesNotFit, |found| self.verdict(&found, document)),
        }
    }

    /// Whether the match fits: the expression's value is true in JMESPath's sense.
    #[must_use]
    pub fn fits(&self, requirement: &Requirement, document: &Document<'_>) -> bool {
        self.verdict(requirement, document) == Verdict::Fits
    }

    /// As [`Self::fits`], and whether the evaluation was stopped.
    pub(crate) fn verdict(&self, requirement: &Requirement, document: &Document<'_>) -> Verdict {
        let Some(ast) = &requirement.ast else { return Verdict::Fits };
        match self.value_over(&requirement.text, ast, document, requirement.players) {
            Ok(value) if value.is_truthy() => Verdict::Fits,
            Ok(_) | Err(Failed::Fault) => Verdict::DoesNotFit,
            Err(Failed::TooCostly) => Verdict::TooCostly,
        }
    }

    /// Whether a value that is not a match document fits.
    pub(crate) fn fits_value(&self, requirement: &Requirement, root: &Rcvar) -> bool {
        let Some(ast) = &requirement.ast else { return true };
        self.interpret(&requirement.text, ast, root).is_ok_and(|value| value.is_truthy())
    }

    /// The value of `ast`, a part of the expression `text`; `None` if its evaluation fails.
    pub(crate) fn value(&self, text: &str, ast: &Ast, document: &Document<'_>) -> Option<Rcvar> {
        self.value_over(text, ast, document, looks_at_players(ast)).ok()
    }

    fn value_over(
        &self,
        text: &str,
        ast: &Ast,
        document: &Document<'_>,
        players: bool,
    ) -> Result<Rcvar, Failed> {
        let work = document.work(players);
        if work > DOCUMENT_WORK {
            // The cost of seeing that.
            self.meter.spend(work / 16);
            return Err(Failed::TooCostly);
        }
        self.meter.spend(EVALUATION + work);
        self.interpret(text, ast, document.root(players))
    }

    fn interpret(&self, text: &str, ast: &Ast, root: &Rcvar) -> Result<Rcvar, Failed> {
        let mut evaluation = Evaluation { runtime: &self.runtime, text, left: EVALUATION_WORK };
        let value = evaluation.value(root, ast);
        self.meter.spend(EVALUATION_WORK - evaluation.left);
        value
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
    let Some(ast) = parse(text)? else { return Ok(Requirement::none()) };
    let (conjunction, players) = (Conjunction::of(&ast), looks_at_players(&ast));
    Ok(Requirement { text: Arc::from(text), ast: Some(ast), conjunction, players })
}

/// The tree of an expression; `None` if it is empty.
pub(crate) fn parse(text: &str) -> Result<Option<Ast>, InvalidRequirements> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    limit(text)?;
    let ast = jmespath::parse(&reading::exact_literals(text)).map_err(|error| {
        let problem = match error.reason {
            ErrorReason::Parse(problem) => problem,
            ErrorReason::Runtime(problem) => problem.to_string(),
        };
        InvalidRequirements::at(error.offset, problem)
    })?;
    if work(&ast) > MAX_WORK {
        let problem =
            "the expression could cost too much work: lists, projections or texts inside one another \
                       multiply; ask for less at a time"
                .to_string();
        return Err(InvalidRequirements { at: 0, problem, too_costly: true });
    }
    Ok(Some(ast))
}

/// Whether the value of an expression over the whole document can depend on the players.
fn looks_at_players(ast: &Ast) -> bool {
    match ast {
        Ast::Field { name, .. } => document::is_of_players(name),
        Ast::Literal { .. } => false,
        // The right side looks at the result of the left.
        Ast::Subexpr { lhs, .. } | Ast::Projection { lhs, .. } => looks_at_players(lhs),
        Ast::Flatten { node, .. } | Ast::ObjectValues { node, .. } | Ast::Not { node, .. } => {
            looks_at_players(node)
        }
        Ast::And { lhs, rhs, .. } | Ast::Or { lhs, rhs, .. } | Ast::Comparison { lhs, rhs, .. } => {
            looks_at_players(lhs) || looks_at_players(rhs)
        }
        Ast::Function { args, .. } => args.iter().any(looks_at_players),
        Ast::MultiList { elements, .. } => elements.iter().any(looks_at_players),
        Ast::MultiHash { elements, .. } => elements.iter().any(|pair| looks_at_players(&pair.value)),
        _ => true,
    }
}

/// Refuses texts on which the parser or the interpreter, which both recurse, would overflow the stack.
fn limit(text: &str) -> Result<(), InvalidRequirements> {
    let refuse = |at, problem| Err(InvalidRequirements::at(at, problem));
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
    // The interpreter negates a negative index, and would overflow on this one.
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
    use crate::ids::MatchId;
    use crate::match_spec::MatchSpec;
    use crate::properties::Properties;

    fn fits(text: &str, properties: &str) -> bool {
        let spec = MatchSpec { properties: Properties::parse(properties).unwrap(), ..MatchSpec::default() };
        let mut requirements = Requirements::new();
        let requirement = requirements.compile(text).unwrap();
        requirements.fits(&requirement, &Document::new(&MatchId::new("m").unwrap(), &spec))
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
        let (id, spec) = (MatchId::new("m").unwrap(), MatchSpec::default());
        let document = Document::new(&id, &spec);
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
