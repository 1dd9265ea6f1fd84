//! The JSON form of the published messages and services as JSON Schemas, for whoever describes an API.
//!
//! Made from the descriptors that the types are made from, with the comments of the `.proto` files as descriptions,
//! so that a description cannot differ from what is served. The mapping is that of
//! [ProtoJSON](https://protobuf.dev/programming-guides/json/), as [`crate::json`] reads and writes it.

use std::collections::{BTreeMap, HashMap};

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
};
use serde_json::{Map, Value, json};

use crate::hints;

/// The descriptors with their comments.
const DESCRIBED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/described.bin"));

/// Where a document keeps its schemas, as the beginning of a reference.
pub const PLACE: &str = "#/components/schemas/";

/// Numbers of fields in the descriptors' own descriptors: the steps of a path to a comment.
mod step {
    pub(super) const MESSAGE: i32 = 4;
    pub(super) const ENUM: i32 = 5;
    pub(super) const SERVICE: i32 = 6;
    pub(super) const FIELD: i32 = 2;
    pub(super) const NESTED: i32 = 3;
    pub(super) const METHOD: i32 = 2;
}

/// One method of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Method {
    /// The service's full name: `catena.events.Events`.
    pub service: String,
    /// Its own name.
    pub name: String,
    /// What it does, in words; may be empty.
    pub comment: String,
    /// Full name of the request's message.
    pub input: String,
    /// Full name of the answer's message.
    pub output: String,
    /// Whether there are many answers.
    pub streams: bool,
}

/// Methods and messages of everything that is published.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Described {
    /// By `package.Service/Method`.
    pub methods: BTreeMap<String, Method>,
    /// A schema for each message and each enum, by full name. They refer to each other by [`PLACE`].
    pub schemas: BTreeMap<String, Value>,
}

/// Everything that is published.
#[must_use]
pub fn described() -> Described {
    let mut described = Described::default();
    // Made by the build script, so it can be read.
    let set = FileDescriptorSet::decode(DESCRIBED).unwrap_or_default();
    for file in &set.file {
        let comments = Comments::of(file);
        for (message, at) in file.message_type.iter().zip(0..) {
            described.message(&comments, file.package(), message, &[step::MESSAGE, at]);
        }
        for (one, at) in file.enum_type.iter().zip(0..) {
            let name = format!("{}.{}", file.package(), one.name());
            described.schemas.insert(name, enumeration(one, &comments.at(&[step::ENUM, at])));
        }
        described.services(&comments, file);
    }
    described.schemas.insert(ANY.to_owned(), any());
    described
}

impl Described {
    fn services(&mut self, comments: &Comments<'_>, file: &FileDescriptorProto) {
        for (service, at) in file.service.iter().zip(0..) {
            let full = format!("{}.{}", file.package(), service.name());
            for (method, index) in service.method.iter().zip(0..) {
                let described = Method {
                    service: full.clone(),
                    name: method.name().to_owned(),
                    comment: comments.at(&[step::SERVICE, at, step::METHOD, index]),
                    input: method.input_type().trim_start_matches('.').to_owned(),
                    output: method.output_type().trim_start_matches('.').to_owned(),
                    streams: method.server_streaming(),
                };
                self.methods.insert(format!("{full}/{}", method.name()), described);
            }
        }
    }

    fn message(&mut self, comments: &Comments<'_>, scope: &str, message: &DescriptorProto, path: &[i32]) {
        let name = format!("{scope}.{}", message.name());
        let mut properties = Map::new();
        for (field, at) in message.field.iter().zip(0..) {
            let mut schema = field_schema(message, field);
            let comment = comments.at(&[path, &[step::FIELD, at]].concat());
            if !comment.is_empty() {
                schema["description"] = comment.into();
            }
            properties.insert(field.json_name().to_owned(), schema);
        }
        let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
        let comment = comments.at(path);
        if !comment.is_empty() {
            schema["description"] = comment.into();
        }
        for (nested, at) in message.nested_type.iter().zip(0..) {
            if !is_map_entry(nested) {
                self.message(comments, &name, nested, &[path, &[step::NESTED, at]].concat());
            }
        }
        self.schemas.insert(name, schema);
    }
}

const ANY: &str = "google.protobuf.Any";

fn any() -> Value {
    json!({
        "type": "object",
        "description": "A message of any type: the URL of the type, and the message's own fields.",
        "properties": {"@type": {"type": "string"}},
        "required": ["@type"],
    })
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
}

fn field_schema(message: &DescriptorProto, field: &FieldDescriptorProto) -> Value {
    let entry = message.nested_type.iter().find(|nested| {
        is_map_entry(nested) && field.type_name().ends_with(&format!(".{}.{}", message.name(), nested.name()))
    });
    // The entry of a map has two fields, the key and the value.
    if let Some(value) = entry.and_then(|entry| entry.field.iter().find(|field| field.name() == "value")) {
        return json!({"type": "object", "additionalProperties": single(value)});
    }
    if field.label() == Label::Repeated {
        return json!({"type": "array", "items": single(field)});
    }
    single(field)
}

fn single(field: &FieldDescriptorProto) -> Value {
    if hints::FIELD_NAMES.contains(&field.name()) {
        return hint_flags();
    }
    match field.r#type() {
        Type::Message | Type::Group | Type::Enum => {
            json!({"$ref": format!("{PLACE}{}", field.type_name().trim_start_matches('.'))})
        }
        Type::Bool => json!({"type": "boolean"}),
        Type::String => json!({"type": "string"}),
        Type::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
        Type::Int32 | Type::Sint32 | Type::Sfixed32 => json!({"type": "integer", "format": "int32"}),
        Type::Uint32 | Type::Fixed32 => json!({"type": "integer", "format": "uint32", "minimum": 0}),
        Type::Double | Type::Float => json!({"type": ["number", "string"]}),
        // As text in answers, because many readers of JSON keep 53 bits of a number.
        Type::Int64 | Type::Sint64 | Type::Sfixed64 => {
            json!({"type": ["string", "integer"], "format": "int64"})
        }
        Type::Uint64 | Type::Fixed64 => json!({"type": ["string", "integer"], "format": "uint64"}),
    }
}

/// One flag as its name, a combination as a number.
fn hint_flags() -> Value {
    let none = hints::HintFlag::try_from(0).ok().map(|none| none.as_str_name());
    let bits = (0..u32::BITS).map(|bit| 1 << bit);
    let names: Vec<_> = none.into_iter().chain(bits.filter_map(hints::name_of_one)).collect();
    json!({
        "anyOf": [{"type": "string", "enum": names}, {"type": "integer", "minimum": 0, "maximum": hints::ALL}],
    })
}

/// Names in answers, names or numbers in requests.
fn enumeration(one: &EnumDescriptorProto, comment: &str) -> Value {
    let names = one.value.iter().map(|value| Value::from(value.name()));
    let numbers = one.value.iter().map(|value| Value::from(value.number()));
    let mut schema = json!({"enum": names.chain(numbers).collect::<Vec<_>>()});
    if !comment.is_empty() {
        schema["description"] = comment.into();
    }
    schema
}

/// The comments of one file by the path of what they are about.
struct Comments<'a>(HashMap<&'a [i32], &'a str>);

impl<'a> Comments<'a> {
    fn of(file: &'a FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        Self(locations.map(|location| (location.path.as_slice(), location.leading_comments())).collect())
    }

    /// As one line.
    fn at(&self, path: &[i32]) -> String {
        let comment = self.0.get(path).copied().unwrap_or_default();
        comment.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}
