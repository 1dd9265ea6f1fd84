//! The description of a handler of Sortie's own API.

use schemars::JsonSchema;
use serde_json::{Value, json};
use sortie_serving::Schemas;

/// The description of one route. Who may call it, parameters in its path and the form of its errors are added from
/// the rules.
pub(crate) struct Operation {
    route: &'static str,
    document: Value,
}

impl Operation {
    /// An operation for the route `METHOD /path`; `id` is its name in generated clients.
    pub(crate) fn new(route: &'static str, tag: &str, id: &str, summary: &str) -> Self {
        let document = json!({"tags": [tag], "operationId": id, "summary": summary, "responses": {}});
        Self { route, document }
    }

    /// Details beyond the summary.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.document["description"] = text.into();
        self
    }

    /// An optional query parameter.
    pub(crate) fn query(self, name: &str, schema: &Value, text: &str) -> Self {
        self.parameter("query", name, schema, text)
    }

    /// An optional header.
    pub(crate) fn header(self, name: &str, schema: &Value, text: &str) -> Self {
        self.parameter("header", name, schema, text)
    }

    fn parameter(mut self, place: &str, name: &str, schema: &Value, text: &str) -> Self {
        let parameter = json!({"name": name, "in": place, "description": text, "schema": schema});
        add_parameter(&mut self.document, parameter);
        self
    }

    /// A body that is a `T`, optional if it is not `required`.
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

    /// An answer of another content type, or of a form without a Rust type.
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
