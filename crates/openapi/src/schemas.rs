//! Schemas of Rust types for OpenAPI.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

/// Where schemas are in the document, as the beginning of a `$ref`.
pub const PLACE: &str = "#/components/schemas/";

/// Schemas of the types in requests and responses, each under its own name, for OpenAPI 3.1's `/components/schemas`.
pub struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Default for Schemas {
    fn default() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        // Separate, because an optional field of a request may always be present in a response.
        let read = settings().for_deserialize().into_generator();
        Self { read, written: settings().for_serialize().into_generator() }
    }
}

impl Schemas {
    /// The schema of a type in requests, or a reference to it.
    pub fn read<T: JsonSchema>(&mut self) -> Value {
        self.read.subschema_for::<T>().to_value()
    }

    /// The schema of a type in responses, or a reference to it.
    pub fn written<T: JsonSchema>(&mut self) -> Value {
        self.written.subschema_for::<T>().to_value()
    }

    /// The referenced schemas, by name.
    #[must_use]
    pub fn into_definitions(mut self) -> Map<String, Value> {
        let mut definitions = self.read.take_definitions(true);
        definitions.extend(self.written.take_definitions(true));
        definitions
    }
}
