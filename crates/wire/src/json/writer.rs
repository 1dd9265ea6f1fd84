//! Writes hint flags by name.
//!
//! The generated code writes them as numbers, since they are `uint32`. The writer of a document sees every key before
//! its value, so it can recognize the field without knowing the message.

use std::io::{self, Write};

use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

use crate::hints;

/// Compact JSON in which the number of a hint field that is exactly one flag becomes that flag's name.
#[derive(Default)]
pub(super) struct HintNames {
    in_key: bool,
    /// Whether the last key was that of a hint field.
    hints: bool,
}

impl HintNames {
    fn number<W: ?Sized + Write>(&self, writer: &mut W, value: u64) -> io::Result<()> {
        let name = u32::try_from(value).ok().filter(|_| self.hints).and_then(hints::name_of_one);
        match name {
            Some(name) => write!(writer, "\"{name}\""),
            None => CompactFormatter.write_u64(writer, value),
        }
    }
}

impl Formatter for HintNames {
    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.in_key = true;
        self.hints = false;
        CompactFormatter.begin_object_key(writer, first)
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.in_key = false;
        CompactFormatter.end_object_key(writer)
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if self.in_key {
            self.hints = hints::FIELD_NAMES.contains(&fragment);
        }
        CompactFormatter.write_string_fragment(writer, fragment)
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        if self.in_key {
            self.hints = false;
        }
        CompactFormatter.write_char_escape(writer, escape)
    }

    fn write_u32<W: ?Sized + Write>(&mut self, writer: &mut W, value: u32) -> io::Result<()> {
        self.number(writer, u64::from(value))
    }

    /// Numbers of a message inside an `Any` arrive in this type.
    fn write_u64<W: ?Sized + Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        self.number(writer, value)
    }
}
