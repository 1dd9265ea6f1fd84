//! How a handler of Sortie's own API is described.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// Schemas of the types that are read and written, each under its own name.
pub(crate) struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Schemas {
    pub(crate) fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        // Apart, because a field that may be left out in a request can be one that is always there in an answer.
        let read = settings().for_deserialize().into_generator();
        Self { read, written: settings().for_serialize().into_generator() }
    }

    fn read<T: JsonSchema>(&mut self) -> Value {
        self.read.subschema_for::<T>().to_value()
    }

    fn written<T: JsonSchema>(&mut self) -> Value {
        self.written.subschema_for::<T>().to_value()
    }

    /// The schemas by name.
    pub(super) fn into_definitions(mut self) -> Map<String, Value> {
        let mut definitions = self.read.take_definitions(true);
        definitions.extend(self.written.take_definitions(true));
        definitions
    }
}

/// The description of one route. Who may call it, parameters in its path and the form of its errors are added from
/// the rules.
pub(crate) struct Operation {
    route: &'static str,
    document: Value,
}

impl Operation {
    /// Of the route `METHOD /path`; `id` is what generated clients call it.
    pub(crate) fn new(route: &'static str, tag: &str, id: &str, summary: &str) -> Self {
        let document = json!({"tags": [tag], "operationId": id, "summary": summary, "responses": {}});
        Self { route, document }
    }

    /// More than the summary says.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.document["description"] = text.into();
        self
    }

    /// A parameter of the query that may be left out.
    pub(crate) fn query(self, name: &str, schema: &Value, text: &str) -> Self {
        self.parameter("query", name, schema, text)
    }

    /// A header that may be left out.
    pub(crate) fn header(self, name: &str, schema: &Value, text: &str) -> Self {
        self.parameter("header", name, schema, text)
    }

    fn parameter(mut self, place: &str, name: &str, schema: &Value, text: &str) -> Self {
        let parameter = json!({"name": name, "in": place, "description": text, "schema": schema});
        add_parameter(&mut self.document, parameter);
        self
    }

    /// A body that is a `T`, which may be left out if it is not `required`.
    pub(crate) fn body<T: JsonSchema>(
        mut self,
        schemas: &mut Schemas,
        required: bool,
        example: &Value,
    ) -> Self {
        let content = json!({"application/json": {"schema": schemas.read::<T>(), "example": example}});
        self.document["requestBody"] = json!({"required": required, "content": content});
        self
    }

    /// The answer, a `T`.
    pub(crate) fn answer<T: JsonSchema>(self, schemas: &mut Schemas, status: u16, text: &str) -> Self {
        let schema = schemas.written::<T>();
        self.content(status, text, "application/json", &schema)
    }

    /// An answer of another content type, or of a form that no type has.
    pub(crate) fn content(mut self, status: u16, text: &str, kind: &str, schema: &Value) -> Self {
        let response = json!({"description": text, "content": {kind: {"schema": schema}}});
        self.document["responses"][status.to_string()] = response;
        self
    }

    pub(super) fn route(&self) -> &'static str {
        self.route
    }

    pub(super) fn document(&self) -> &Value {
        &self.document
    }
}

/// Adds a parameter to an operation.
pub(super) fn add_parameter(operation: &mut Value, parameter: Value) {
    match &mut operation["parameters"] {
        Value::Array(list) => list.push(parameter),
        none => *none = json!([parameter]),
    }
}
