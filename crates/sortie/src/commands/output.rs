//! Tables for people, JSON for programs.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::failure::Failure;

/// One line on standard output. A reader that has gone away is no error of ours.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{text}").and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::of("cannot write", error)),
        _ => Ok(()),
    }
}

/// A column: its heading, and where its value is in an item (a JSON pointer).
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
            table.add_row([name.clone(), cell(Some(value))]);
        }
    }
    line(table)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(values)) => {
            values.iter().map(|value| cell(Some(value))).collect::<Vec<_>>().join(" ")
        }
        Some(value) => value.to_string(),
    }
}
