//! An upper bound for the work of an expression, derived from its text alone.
//!
//! Forty bytes can be an endless evaluation: each `[@, @] |` doubles the input of the next one. The interpreter cannot
//! be interrupted, so such an expression is refused when it is parsed. Counting operators is not enough, because long
//! but plain expressions are cheap: only lists, projections and texts inside one another multiply.

use alloc::string::ToString as _;

use jmespath::ast::Ast;

use super::MAX_EXPRESSION_BYTES;

/// Maximum work of an expression, in steps per byte of the match document. An expression without multiplication takes
/// at most about two steps for each of its own bytes, so none of those is refused.
pub(super) const MAX_WORK: u64 = 2 * MAX_EXPRESSION_BYTES as u64;

/// The factor by which `to_string` can lengthen a text: a control character becomes `\u0000`.
const MAX_ESCAPE: u64 = 6;

/// Bounds for a value that has one byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bounds {
    /// Length of the result, in bytes.
    length: u64,
    /// Number of steps to compute it.
    work: u64,
}

impl Bounds {
    const ONE: Self = Self { length: 1, work: 1 };

    /// Both, one after the other over the same value.
    const fn and(self, other: Self) -> Self {
        Self { length: self.length.saturating_add(other.length), work: self.work.saturating_add(other.work) }
    }

    /// `next` over the result of this, as a whole or one element at a time.
    const fn then(self, next: Self) -> Self {
        Self {
            length: self.length.saturating_mul(next.length),
            work: self.work.saturating_add(self.length.saturating_mul(next.work)),
        }
    }
}

/// Maximum number of steps of evaluating `ast`, per byte of the match document.
pub(super) fn work(ast: &Ast) -> u64 {
    bounds(ast).work
}

fn bounds(ast: &Ast) -> Bounds {
    match ast {
        Ast::Identity { .. } | Ast::Field { .. } | Ast::Index { .. } | Ast::Slice { .. } => Bounds::ONE,
        Ast::Literal { value, .. } => Bounds { length: value.to_string().len() as u64, work: 1 },
        Ast::Expref { ast: node, .. }
        | Ast::Flatten { node, .. }
        | Ast::Not { node, .. }
        | Ast::ObjectValues { node, .. } => bounds(node).then(Bounds::ONE),
        Ast::Subexpr { lhs, rhs, .. } | Ast::Projection { lhs, rhs, .. } => bounds(lhs).then(bounds(rhs)),
        Ast::And { lhs, rhs, .. } | Ast::Or { lhs, rhs, .. } => {
            let (left, right) = (bounds(lhs), bounds(rhs));
            Bounds { length: left.length.max(right.length), ..left.and(right) }
        }
        Ast::Condition { predicate, then, .. } => {
            let (predicate, then) = (bounds(predicate), bounds(then));
            Bounds { length: then.length, ..predicate.and(then) }
        }
        Ast::Comparison { lhs, rhs, .. } => {
            let both = bounds(lhs).and(bounds(rhs));
            Bounds { length: 1, work: both.work.saturating_add(both.length) }
        }
        Ast::MultiList { elements, .. } => all(elements.iter()),
        Ast::MultiHash { elements, .. } => all(elements.iter().map(|element| &element.value)),
        Ast::Function { name, args, .. } => function(name, args),
    }
}

fn all<'a>(nodes: impl Iterator<Item = &'a Ast>) -> Bounds {
    nodes.map(bounds).fold(Bounds::ONE, Bounds::and)
}

fn function(name: &str, args: &[Ast]) -> Bounds {
    let found = match (name, args) {
        // The separator occurs once per element.
        ("join", [Ast::Literal { value, .. }, list]) => {
            let glue = value.to_string().len() as u64;
            bounds(list).then(Bounds { length: glue, work: 1 })
        }
        // Both come from the match: the product of two of its parts.
        ("join", _) => Bounds { length: u64::MAX, work: u64::MAX },
        ("to_string", [value]) => bounds(value).then(Bounds { length: MAX_ESCAPE, work: 1 }),
        (_, [Ast::Expref { ast, .. }, list] | [list, Ast::Expref { ast, .. }]) => {
            bounds(list).then(bounds(ast))
        }
        _ => all(args.iter()),
    };
    Bounds { work: found.work.saturating_add(found.length), ..found }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::*;

    fn work_of(text: &str) -> u64 {
        work(&jmespath::parse(text).unwrap())
    }

    #[test]
    fn plain_expressions_of_any_length_are_allowed() {
        for unit in
            ["a == 'b' || ", "a.b[0].c && ", "!a || ", "length(a) > `1` && ", "a[?b].c || ", "{x: a} && "]
        {
            let mut text = String::new();
            while text.len() + unit.len() < MAX_EXPRESSION_BYTES - 1 {
                text += unit;
            }
            let work = work_of(&format!("{text}a"));
            assert!(work <= MAX_WORK, "{unit}: {work} steps");
        }
        let maps = (0..300).map(|number| format!("\"map{number}\"")).collect::<alloc::vec::Vec<_>>();
        assert!(work_of(&format!("contains(`[{}]`, MatchProperties.map)", maps.join(","))) <= MAX_WORK);
        assert!(work_of("sort_by(PlayerIds, &@)[0] == join(',', PlayerIds)") <= MAX_WORK);
        assert!(work_of("length(values(PlayerProperties)[?mmr > `1000`][]) == `2`") <= MAX_WORK);
    }

    #[test]
    fn what_multiplies_is_not_allowed() {
        for text in [
            ["[@, @]"; 40].join(" | "),
            ["{a: @, b: @}"; 40].join(" | "),
            ["[@, @][]"; 40].join(" | ") + " | length(to_string(@))",
            ["to_string([@])"; 40].join(" | "),
            ["map(&[@, @], @)"; 40].join(" | "),
            ["merge(@, {a: @})"; 40].join(" | "),
            ["map(&`[1,2,3,4,5,6,7,8,9,10]`, @)[]"; 10].join(" | "),
            ["join('0123456789', [@, @])"; 10].join(" | "),
            "join(MatchProperties.a, MatchProperties.b)".into(),
        ] {
            assert!(work_of(&text) > MAX_WORK, "{text}: {} steps", work_of(&text));
        }
    }
}
