//! Tables for people, JSON for programs. All output of subcommands goes through [`line`] and [`note`], which escape
//! control characters in foreign text.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::failure::Failure;
use crate::terminal::{escaped, escaped_lines};

/// Prints one or more lines on standard output. A broken pipe is not an error.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    let text = text.to_string();
    let text = escaped_lines(&text);
    match writeln!(io::stdout().lock(), "{text}").and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::of("cannot write", error)),
        _ => Ok(()),
    }
}

/// Prints on standard error, ignoring errors.
pub(crate) fn note(text: impl std::fmt::Display) {
    let text = text.to_string();
    let _nobody_reads_it = writeln!(io::stderr().lock(), "{}", escaped_lines(&text));
}

/// A column: its heading, and the JSON pointer to its value in an item.
pub(crate) type Column = (&'static str, &'static str);

/// The items as a table, or as a JSON array.
pub(crate) fn items(items: &[Value], columns: &[Column], json: bool) -> Result<(), Failure> {
    if json {
        return line(Value::Array(items.to_vec()));
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(columns.iter().map(|(heading, _)| *heading));
    for item in items {
        table.add_row(columns.iter().map(|(_, at)| cell(item.pointer(at))));
    }
    line(table)
}

/// One item as lines, or as JSON.
pub(crate) fn item(item: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return line(item);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for (name, value) in item.as_object().into_iter().flatten() {
        if !value.is_null() {
            table.add_row([escaped(name).into_owned(), cell(Some(value))]);
        }
    }
    line(table)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => escaped(text).into_owned(),
        Some(Value::Array(values)) => {
            values.iter().map(|value| cell(Some(value))).collect::<Vec<_>>().join(" ")
        }
        Some(value) => value.to_string(),
    }
}

/// An explanation as sentences, or as JSON. `id` is the field with the id of what it explains.
pub(crate) fn explained(explanation: &Value, id: &str, json: bool) -> Result<(), Failure> {
    if json {
        return line(explanation);
    }
    let text = |at: &str| escaped(explanation.get(at).and_then(Value::as_str).unwrap_or_default());
    line(format_args!("{} is {}: {}", text(id), text("state"), text("summary")))?;
    let sentences = explanation.get("sentences").and_then(Value::as_array);
    sentences.into_iter().flatten().filter_map(Value::as_str).map(escaped).try_for_each(line)
}

/// An option's value, parsed as JSON.
pub(crate) fn json_of(option: &str, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::of(format!("{option} is not valid JSON"), error))
}
