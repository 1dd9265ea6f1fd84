//! Evaluates an expression and counts the work, so that it can be stopped.
//!
//! The library's interpreter always runs to the end, at any cost, and no bound that can be derived from the expression
//! is both safe and close to its cost. So the tree is walked here, operator by operator as the library does, and the
//! library's functions are called once the work of the call is paid for. Functions that take an expression (`map`,
//! `sort_by`, …) would evaluate it uncounted, so they are implemented here. The tests compare the results with the
//! library's.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use jmespath::ast::{Ast, Comparator};
use jmespath::{Context, Rcvar, Runtime, Variable};

use super::meter::NODE;
use super::numbers;
use super::reading::plain;

/// Why there is no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failed {
    /// A function got an invalid argument, or does not exist.
    Fault,
    /// The budget was spent before the value was found.
    TooCostly,
}

type Value = Result<Rcvar, Failed>;

/// One evaluation.
pub(super) struct Evaluation<'a> {
    pub(super) runtime: &'a Runtime,
    /// The whole expression.
    pub(super) text: &'a str,
    /// Remaining work budget.
    pub(super) left: u64,
}

impl Evaluation<'_> {
    fn spend(&mut self, work: u64) -> Result<(), Failed> {
        match self.left.checked_sub(work) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Failed::TooCostly)
            }
        }
    }

    fn nodes(&mut self, count: usize) -> Result<(), Failed> {
        self.spend(NODE.saturating_mul(count as u64))
    }

    /// The value of `node` over `data`.
    pub(super) fn value(&mut self, data: &Rcvar, node: &Ast) -> Value {
        self.spend(NODE)?;
        match node {
            Ast::Field { name, .. } => {
                self.spend(name.len() as u64)?;
                Ok(data.get_field(name))
            }
            Ast::Identity { .. } => Ok(Rcvar::clone(data)),
            Ast::Literal { value, .. } => Ok(Rcvar::clone(value)),
            Ast::Index { idx, .. } if *idx >= 0 => Ok(data.get_index(idx.unsigned_abs() as usize)),
            Ast::Index { idx, .. } => Ok(data.get_negative_index(idx.unsigned_abs() as usize)),
            Ast::Slice { start, stop, step, .. } => self.slice(data, *start, *stop, *step),
            Ast::Subexpr { lhs, rhs, .. } => {
                let left = self.value(data, lhs)?;
                self.value(&left, rhs)
            }
            Ast::Or { lhs, rhs, .. } => {
                let left = self.value(data, lhs)?;
                if left.is_truthy() { Ok(left) } else { self.value(data, rhs) }
            }
            Ast::And { lhs, rhs, .. } => {
                let left = self.value(data, lhs)?;
                if left.is_truthy() { self.value(data, rhs) } else { Ok(left) }
            }
            Ast::Not { node, .. } => {
                let value = self.value(data, node)?;
                Ok(boolean(!value.is_truthy()))
            }
            Ast::Condition { predicate, then, .. } => {
                let holds = self.value(data, predicate)?.is_truthy();
                if holds { self.value(data, then) } else { Ok(null()) }
            }
            Ast::Comparison { comparator, lhs, rhs, .. } => {
                let (left, right) = (self.value(data, lhs)?, self.value(data, rhs)?);
                self.compare(comparator, &left, &right)
            }
            Ast::Function { name, args, .. } => {
                let arguments = args.iter().map(|argument| self.value(data, argument));
                let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
                self.call(name, &arguments)
            }
            Ast::Expref { ast, .. } => {
                // The tree is copied.
                self.nodes(self.text.len())?;
                Ok(Rcvar::new(Variable::Expref((**ast).clone())))
            }
            _ => self.list(data, node),
        }
    }

    /// What makes a list or an object.
    fn list(&mut self, data: &Rcvar, node: &Ast) -> Value {
        match node {
            Ast::ObjectValues { node, .. } => {
                let value = self.value(data, node)?;
                let Some(fields) = value.as_object().filter(|_| !numbers::is_number(&value)) else {
                    return Ok(null());
                };
                self.nodes(fields.len())?;
                Ok(array(fields.values().cloned().collect()))
            }
            Ast::Projection { lhs, rhs, .. } => {
                let left = self.value(data, lhs)?;
                let Some(items) = left.as_array() else { return Ok(null()) };
                let mut collected = Vec::new();
                for item in items {
                    let value = self.value(item, rhs)?;
                    if !value.is_null() {
                        collected.push(value);
                    }
                }
                Ok(array(collected))
            }
            Ast::Flatten { node, .. } => {
                let value = self.value(data, node)?;
                let Some(items) = value.as_array() else { return Ok(null()) };
                let mut collected = Vec::new();
                for item in items {
                    match item.as_array() {
                        Some(inner) => {
                            self.nodes(1 + inner.len())?;
                            collected.extend(inner.iter().cloned());
                        }
                        None => {
                            self.spend(NODE)?;
                            collected.push(Rcvar::clone(item));
                        }
                    }
                }
                Ok(array(collected))
            }
            Ast::MultiList { .. } | Ast::MultiHash { .. } if data.is_null() => Ok(null()),
            Ast::MultiList { elements, .. } => {
                let values = elements.iter().map(|element| self.value(data, element));
                Ok(array(values.collect::<Result<_, _>>()?))
            }
            Ast::MultiHash { elements, .. } => {
                let mut fields = BTreeMap::new();
                for pair in elements {
                    self.spend(pair.key.len() as u64)?;
                    fields.insert(pair.key.clone(), self.value(data, &pair.value)?);
                }
                Ok(Rcvar::new(Variable::Object(fields)))
            }
            // Every other kind is handled above.
            _ => Err(Failed::Fault),
        }
    }

    fn slice(&mut self, data: &Rcvar, start: Option<i32>, stop: Option<i32>, step: i32) -> Value {
        if step == 0 {
            return Err(Failed::Fault);
        }
        let Some(items) = data.as_array() else { return Ok(null()) };
        self.nodes(items.len())?;
        // The library's own indexes overflow beyond the end of the list; a step of at most its length has the same
        // result.
        let longest = i32::try_from(items.len()).unwrap_or(i32::MAX / 2).max(1);
        let step = step.clamp(-longest, longest);
        Ok(data.slice(start, stop, step).map_or_else(null, array))
    }

    fn compare(&mut self, comparator: &Comparator, left: &Variable, right: &Variable) -> Value {
        Ok(match comparator {
            Comparator::Equal => boolean(self.equal(left, right)?),
            Comparator::NotEqual => boolean(!self.equal(left, right)?),
            // Only numbers have an order.
            _ => numbers::compare(comparator, left, right).map_or_else(null, boolean),
        })
    }

    fn equal(&mut self, one: &Variable, other: &Variable) -> Result<bool, Failed> {
        self.spend(NODE)?;
        match (one, other) {
            (Variable::Array(one), Variable::Array(other)) => {
                if one.len() != other.len() {
                    return Ok(false);
                }
                for (one, other) in one.iter().zip(other) {
                    if !self.equal(one, other)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Variable::Object(one), Variable::Object(other)) => {
                if one.len() != other.len() {
                    return Ok(false);
                }
                for ((name, one), (other_name, other)) in one.iter().zip(other) {
                    self.spend(name.len() as u64)?;
                    if name != other_name || !self.equal(one, other)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Variable::String(one), Variable::String(other)) => {
                self.spend(one.len().min(other.len()) as u64)?;
                Ok(one == other)
            }
            (Variable::Expref(_), Variable::Expref(_)) => {
                self.nodes(self.text.len())?;
                Ok(one == other)
            }
            _ => Ok(numbers::equal_scalars(one, other)),
        }
    }

    fn call(&mut self, name: &str, arguments: &[Rcvar]) -> Value {
        // Invalid arguments are left to the library, which returns the error.
        match (name, arguments) {
            ("map", [of, list]) => {
                if let (Some(of), Some(list)) = (of.as_expref(), list.as_array()) {
                    return Ok(array(self.each(list, of)?));
                }
            }
            ("sort_by" | "max_by" | "min_by", [list, of]) => {
                if let (Some(list), Some(of)) = (list.as_array(), of.as_expref()) {
                    return self.by(name, list, of);
                }
            }
            ("contains", [list, wanted]) => {
                if let Some(list) = list.as_array() {
                    for item in list {
                        if self.equal(item, wanted)? {
                            return Ok(boolean(true));
                        }
                    }
                    return Ok(boolean(false));
                }
            }
            ("sort" | "max" | "min", [list]) => {
                if let Some(items) =
                    list.as_array().filter(|items| items.iter().all(|item| numbers::is_number(item)))
                {
                    return self.by_order(name, items);
                }
            }
            _ => {}
        }
        self.pay_for(name, arguments)?;
        if let [argument] = arguments
            && let Some(value) = numbers::calculated(name, argument)
        {
            return Ok(value);
        }
        let arguments = self.plain(name, arguments)?;
        let arguments = &*arguments;
        let function = self.runtime.get_function(name).ok_or(Failed::Fault)?;
        let mut context = Context::new(self.text, self.runtime);
        function.evaluate(arguments, &mut context).map_err(|_| Failed::Fault)
    }

    /// Arguments as the library's functions know them. Functions that only pass values on get them as they are. Not
    /// inlined, because the caller recurses and should need little of the stack.
    #[inline(never)]
    fn plain<'a>(&mut self, name: &str, arguments: &'a [Rcvar]) -> Result<Cow<'a, [Rcvar]>, Failed> {
        let passes_on = matches!(name, "reverse" | "to_array" | "not_null" | "merge" | "values" | "keys");
        let is_long = |value: &Rcvar| !value.is_number() && numbers::is_number(value);
        let has_long = |value: &Rcvar| is_long(value) || (!passes_on && items(value).iter().any(is_long));
        if name != "to_string" && !arguments.iter().any(has_long) {
            return Ok(Cow::Borrowed(arguments));
        }
        // The values are copied.
        arguments.iter().try_for_each(|value| self.pay_for_text(value))?;
        Ok(arguments.iter().map(plain).collect())
    }

    /// `sort`, `max`, `min` of numbers. Not inlined for the same reason.
    #[inline(never)]
    fn by_order(&mut self, name: &str, list: &[Rcvar]) -> Value {
        self.pay_for_order(list, name == "sort")?;
        let order = |a: &Rcvar, b: &Rcvar| numbers::sorted(a, b);
        let mut sorted: Vec<Rcvar> = list.to_vec();
        Ok(match name {
            "sort" => {
                sorted.sort_by(order);
                array(sorted)
            }
            "max" => sorted.into_iter().max_by(order).unwrap_or_else(null),
            _ => sorted.into_iter().min_by(order).unwrap_or_else(null),
        })
    }

    fn each(&mut self, list: &[Rcvar], of: &Ast) -> Result<Vec<Rcvar>, Failed> {
        list.iter().map(|item| self.value(item, of)).collect()
    }

    /// `sort_by`, `max_by`, `min_by`: keys must be all numbers or all texts.
    fn by(&mut self, name: &str, list: &[Rcvar], of: &Ast) -> Value {
        let keys = self.each(list, of)?;
        let is_key = |key: &Rcvar| numbers::is_number(key) || key.is_string();
        if keys.iter().any(|key| !is_key(key) || key.is_string() != keys[0].is_string()) {
            return Err(Failed::Fault);
        }
        self.pay_for_order(&keys, name == "sort_by")?;
        let mut pairs: Vec<_> = keys.iter().zip(list).collect();
        if name == "sort_by" {
            pairs.sort_by(|a, b| numbers::sorted(a.0, b.0));
            return Ok(array(pairs.into_iter().map(|(_, item)| Rcvar::clone(item)).collect()));
        }
        let best = pairs.into_iter().reduce(|best, next| {
            let order = numbers::sorted(next.0, best.0);
            let better = if name == "max_by" { order.is_gt() } else { order.is_lt() };
            if better { next } else { best }
        });
        Ok(best.map_or_else(null, |(_, item)| Rcvar::clone(item)))
    }

    /// Pays for a call of one of the library's functions.
    fn pay_for(&mut self, name: &str, arguments: &[Rcvar]) -> Result<(), Failed> {
        self.nodes(arguments.len())?;
        match name {
            "abs" | "ceil" | "floor" | "type" | "to_array" | "not_null" => Ok(()),
            "sort" => arguments.iter().try_for_each(|list| self.pay_for_order(items(list), true)),
            "to_string" => arguments.iter().try_for_each(|value| self.pay_for_text(value)),
            "to_number" => {
                // The text is parsed.
                let length = arguments.iter().map(|value| length(value)).sum();
                self.nodes(length)
            }
            "join" => {
                let glue = arguments.first().map_or(0, |glue| length(glue));
                let count = arguments.get(1).map_or(0, |list| items(list).len());
                self.spend(glue.saturating_mul(count) as u64)?;
                arguments.iter().try_for_each(|value| self.pay_for_items(value))
            }
            _ => arguments.iter().try_for_each(|value| self.pay_for_items(value)),
        }
    }

    /// Pays for looking at each item, and for copying its text or name.
    fn pay_for_items(&mut self, value: &Variable) -> Result<(), Failed> {
        self.spend(2 * length(value) as u64)?;
        self.pay_for_order(items(value), false)?;
        let Some(fields) = value.as_object() else { return Ok(()) };
        self.nodes(fields.len())?;
        self.spend(fields.keys().map(|name| name.len() as u64).sum())
    }

    /// Pays for comparing neighbours, or for as many comparisons as sorting takes.
    fn pay_for_order(&mut self, items: &[Rcvar], sorting: bool) -> Result<(), Failed> {
        let rounds = if sorting { 1 + u64::from(items.len().checked_ilog2().unwrap_or(0)) } else { 1 };
        self.spend((NODE * items.len() as u64).saturating_mul(rounds))?;
        let texts: u64 = items.iter().map(|item| length(item) as u64).sum();
        self.spend(texts.saturating_mul(rounds))
    }

    /// Pays for writing the value as JSON.
    fn pay_for_text(&mut self, value: &Variable) -> Result<(), Failed> {
        self.spend(NODE + 2 * length(value) as u64)?;
        match value {
            Variable::Array(items) => items.iter().try_for_each(|item| self.pay_for_text(item)),
            Variable::Object(fields) => fields.iter().try_for_each(|(name, field)| {
                self.spend(2 * name.len() as u64)?;
                self.pay_for_text(field)
            }),
            Variable::Expref(_) => self.nodes(self.text.len()),
            _ => Ok(()),
        }
    }
}

/// The length of a text, in bytes.
fn length(value: &Variable) -> usize {
    value.as_string().map_or(0, String::len)
}

fn items(value: &Variable) -> &[Rcvar] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn null() -> Rcvar {
    Rcvar::new(Variable::Null)
}

fn boolean(value: bool) -> Rcvar {
    Rcvar::new(Variable::Bool(value))
}

fn array(items: Vec<Rcvar>) -> Rcvar {
    Rcvar::new(Variable::Array(items))
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::super::Requirements;
    use super::super::meter::EVALUATION_WORK;
    use super::*;

    const DOCUMENT: &str = r#"{"a": {"b": [1, -2.5, "x", null, true, [], {}], "n": [3, 1, 2, 1], "s": ["b", "", "a", "b"]},
        "o": [{"k": 2, "t": "y"}, {"k": 1, "t": "x"}, {"k": 2, "t": "z"}], "m": [{"k": 1}, {"k": "x"}, {}],
        "d": [[1], 2, [3, [4]]], "e": {"f": "gh", "i": {"j": null}}, "t": "texts", "z": 0.71, "y": 0.7100000000000002}"#;

    /// Every kind of operator, every function, and invalid arguments.
    const EXPRESSIONS: &[&str] = &[
        "a",
        "nothing",
        "a.b.c",
        "@",
        "a.b[0]",
        "a.b[-1]",
        "a.b[-9]",
        "a.b[9]",
        "t[0]",
        "a.n[1:3]",
        "a.n[::-1]",
        "a.n[::2]",
        "a.n[-3:]",
        "a.n[5:1:-2]",
        "t[1:2]",
        "a.n[::0]",
        "a || t",
        "e.i.j || t",
        "a && t",
        "e.i.j && t",
        "!a",
        "!e.i.j",
        "t == 'texts'",
        "t != 'texts'",
        "z == y",
        "a == a",
        "a == e",
        "o == o",
        "o[0] == o[2]",
        "a.b == a.n",
        "z < `1`",
        "z <= y",
        "z > y",
        "z >= `1`",
        "t > 'a'",
        "t < `1`",
        "e.*",
        "t.*",
        "e.*.j",
        "o[*].k",
        "t[*]",
        "d[]",
        "t[]",
        "d[][]",
        "o[?k == `2`].t",
        "o[?t > 'a']",
        "o[?nothing]",
        "[t, e.f]",
        "nothing.[a]",
        "{x: t, y: e}",
        "nothing.{x: a}",
        "o[*].{k: k}",
        "o[*].[k, t][]",
        "a | b",
        "o[*].k | [0]",
        "&a",
        "[&a][0]",
        "abs(z)",
        "abs(t)",
        "avg(a.n)",
        "avg(a.s)",
        "avg(`[]`)",
        "ceil(z)",
        "floor(z)",
        "contains(a.b, `1`)",
        "contains(a.b, `[]`)",
        "contains(a.s, 'c')",
        "contains(t, 'ex')",
        "contains(t, `1`)",
        "contains(e, 'f')",
        "ends_with(t, 's')",
        "starts_with(t, 't')",
        "starts_with(a, 't')",
        "join(', ', a.s)",
        "join(', ', a.b)",
        "keys(e)",
        "keys(t)",
        "values(e)",
        "length(t)",
        "length(a.b)",
        "length(e)",
        "length(z)",
        "map(&k, o)",
        "map(&nothing, o)",
        "map(k, o)",
        "map(&k, t)",
        "map(&k)",
        "max(a.n)",
        "max(a.s)",
        "max(a.b)",
        "max(`[]`)",
        "min(a.n)",
        "min(a.s)",
        "max_by(o, &k)",
        "max_by(o, &t)",
        "min_by(o, &k)",
        "min_by(`[]`, &k)",
        "max_by(m, &k)",
        "max_by(o, &nothing)",
        "min_by(t, &k)",
        "sort_by(o, &k)[*].t",
        "sort_by(o, &t)[*].k",
        "sort_by(m, &k)",
        "sort_by(o, &@)",
        "sort_by(`[]`, &k)",
        "sort_by(o, k)",
        "merge(e, a)",
        "merge(e, t)",
        "not_null(nothing, e.i.j, t)",
        "not_null(nothing)",
        "reverse(a.b)",
        "reverse(t)",
        "reverse(e)",
        "sort(a.n)",
        "sort(a.s)",
        "sort(a.b)",
        "sum(a.n)",
        "sum(a.s)",
        "to_array(t)",
        "to_array(a.b)",
        "to_number('1.5')",
        "to_number('x')",
        "to_number(t)",
        "to_number(a)",
        "to_string(a)",
        "to_string(t)",
        "to_string(&a)",
        "type(a)",
        "type(&a)",
        "unknown(a)",
        "length(a, t)",
        "length()",
        "map(&sort_by(@, &@), d)",
        "o[*].k | sort(@)[0]",
    ];

    #[test]
    fn values_are_those_of_the_library() {
        let requirements = Requirements::new();
        let root = Rcvar::new(Variable::from_json(DOCUMENT).unwrap());
        for text in EXPRESSIONS {
            let ast = jmespath::parse(text).unwrap();
            let mut context = Context::new(text, &requirements.runtime);
            let expected = jmespath::interpret(&root, &ast, &mut context).ok();
            let found = requirements.interpret(text, &ast, &root);
            assert_eq!(found.ok(), expected, "{text}");
        }
    }

    /// The library's own index overflows there.
    #[test]
    fn steps_of_slices_may_be_as_long_as_they_can_be_written() {
        let requirements = Requirements::new();
        let root = Rcvar::new(Variable::from_json("[1, 2, 3]").unwrap());
        for (text, expected) in [("[1::2147483647]", "[2]"), ("[1::-2147483647]", "[2]"), ("[::3]", "[1]")] {
            let found = requirements.interpret(text, &jmespath::parse(text).unwrap(), &root).unwrap();
            assert_eq!(format!("{found}"), expected, "{text}");
        }
    }

    /// Whatever is done to a large document: the evaluation ends, and stays within its budget.
    #[test]
    fn an_evaluation_is_stopped_whatever_it_does() {
        let requirements = Requirements::new();
        let texts: Vec<_> = (0..5_000).map(|n| format!("\"{n:012}\"")).collect();
        let objects: Vec<_> = (0..5_000).map(|n| format!("{{\"k{n}\": {n}}}")).collect();
        let document = format!(r#"{{"l": [{}], "o": [{}]}}"#, texts.join(","), objects.join(","));
        let root = Rcvar::new(Variable::from_json(&document).unwrap());
        let list = |unit: &str, count: usize| format!("[{}]", alloc::vec![unit; count].join(","));
        let expressions: &[String] = &[
            list("reverse(to_string(@))", 100),
            list("sort(l)", 100),
            list("sort_by(l, &@)", 50),
            list("max_by(l, &join('', [@, @]))", 50),
            list("join('0123456789', l)", 100),
            list("o[*].keys(@)", 100),
            list("values(merge(o[0], o[1]))", 300) + " | [*][*] | " + &list("to_string(@)", 100),
            list("contains(l, 'x')", 200),
            list("o[*].*[]", 100),
            list("l[?@ == 'x']", 200),
            list("map(&to_number(@), l)", 100),
            list("map(&[@, @][0], l)", 100),
            list("reverse(l)", 500),
            "map(&map(&sort_by(@, &@), @), [l, l, l])".into(),
        ];
        for text in expressions {
            let Ok(ast) = jmespath::parse(text) else { panic!("{text}") };
            requirements.begin_step();
            let found = requirements.interpret(text, &ast, &root);
            let spent = requirements.spent();
            assert!(spent <= EVALUATION_WORK, "{text}: {spent}");
            assert!(spent == EVALUATION_WORK || found != Err(Failed::TooCostly), "{text}");
        }
        let ast = jmespath::parse(&expressions[0]).unwrap();
        assert_eq!(requirements.interpret(&expressions[0], &ast, &root), Err(Failed::TooCostly));
    }

    /// Sorting panics over an order that contradicts itself, and the values are foreign.
    #[test]
    fn lists_with_objects_that_imitate_long_numbers_are_sorted_or_refused() {
        let requirements = Requirements::new();
        for seed in 0..200_u64 {
            let item = |place: u64| match crate::ids::mix(seed.wrapping_mul(1_000) + place) % 4 {
                0 => format!(r#"{{"\u0000number":"{}e0"}}"#, 1 + crate::ids::mix(place) % 90),
                1 => format!("{}.5", crate::ids::mix(place) % 90),
                2 => format!("1{}e30", crate::ids::mix(place) % 90),
                _ => format!("{}", crate::ids::mix(place) % 90),
            };
            let list: Vec<String> = (0..64).map(item).collect();
            let root = Rcvar::new(super::super::read(&format!("[{}]", list.join(","))).unwrap());
            for text in ["sort(@)", "sort_by(@, &@)", "max(@)", "min_by(@, &@)"] {
                let ast = jmespath::parse(text).unwrap();
                let _ = requirements.interpret(text, &ast, &root);
            }
        }
    }
}
