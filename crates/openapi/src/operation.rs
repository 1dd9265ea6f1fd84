//! The description of one route.

use std::fmt::Display;

use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::schemas::{PLACE, Schemas};

/// The names of the security schemes by which a request may send an API key.
pub const KEY_SCHEMES: [&str; 2] = ["bearer", "key"];
/// [`Operation::security`] that requires an API key with the permission `admin`.
pub const ADMIN_KEY: [(&str, Option<&str>); 2] =
    [(KEY_SCHEMES[0], Some("admin")), (KEY_SCHEMES[1], Some("admin"))];

/// The description of one route.
#[derive(Clone, PartialEq, Debug)]
pub struct Operation {
    route: String,
    document: Value,
}

impl Operation {
    /// An operation for the route `METHOD /path`; `id` is its name in generated clients.
    #[must_use]
    pub fn new(route: &str, tag: &str, id: &str, summary: &str) -> Self {
        let document = json!({"tags": [tag], "operationId": id, "summary": summary, "responses": {}});
        Self { route: route.to_owned(), document }
    }

    /// Details beyond the summary. A further text is a further paragraph.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        let before = self.document["description"].as_str().map(|text| format!("{text}\n\n"));
        self.document["description"] = format!("{}{text}", before.unwrap_or_default()).into();
        self
    }

    /// Who may call it: one of these ways suffices, each a security scheme with the permission that it needs. Without
    /// any, everybody.
    #[must_use]
    pub fn security<'a>(mut self, ways: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let way = |(scheme, permission): (&str, Option<&str>)| json!({scheme: Vec::from_iter(permission)});
        self.document["security"] = ways.into_iter().map(way).collect();
        self
    }

    /// A parameter of the path.
    #[must_use]
    pub fn path_parameter(self, name: &str, schema: &Value) -> Self {
        self.parameter(json!({"name": name, "in": "path", "required": true, "schema": schema}))
    }

    /// An optional query parameter.
    #[must_use]
    pub fn query(self, name: &str, schema: &Value, text: &str) -> Self {
        self.parameter(json!({"name": name, "in": "query", "schema": schema, "description": text}))
    }

    /// A query parameter that is required.
    #[must_use]
    pub fn required_query(self, name: &str, schema: &Value, text: &str) -> Self {
        let required =
            json!({"name": name, "in": "query", "required": true, "schema": schema, "description": text});
        self.parameter(required)
    }

    /// Optional query parameters that are texts and speak for themselves.
    #[must_use]
    pub fn queries(self, names: &[&str]) -> Self {
        let parameter = |name: &&str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
        names.iter().map(parameter).fold(self, Self::parameter)
    }

    /// An optional header.
    #[must_use]
    pub fn header(self, name: &str, schema: &Value, text: &str) -> Self {
        self.parameter(json!({"name": name, "in": "header", "schema": schema, "description": text}))
    }

    /// Adds a parameter in the form of the document, unless it is there already.
    #[must_use]
    pub fn parameter(mut self, parameter: Value) -> Self {
        let is_same = |one: &Value| one["name"] == parameter["name"] && one["in"] == parameter["in"];
        match &mut self.document["parameters"] {
            Value::Array(list) if list.iter().any(is_same) => {}
            Value::Array(list) => list.push(parameter),
            none => *none = json!([parameter]),
        }
        self
    }

    /// A body that is a `T`, optional if it is not `required`.
    #[must_use]
    pub fn body<T: JsonSchema>(self, schemas: &mut Schemas, required: bool, example: &Value) -> Self {
        let schema = schemas.read::<T>();
        self.body_media(required, &json!({"schema": schema, "example": example}))
    }

    /// A JSON body, as a media type object.
    #[must_use]
    pub fn body_media(mut self, required: bool, media: &Value) -> Self {
        self.document["requestBody"] = json!({"required": required, "content": {"application/json": media}});
        self
    }

    /// What the body is for.
    #[must_use]
    pub fn body_text(mut self, text: &str) -> Self {
        self.document["requestBody"]["description"] = text.into();
        self
    }

    /// A response that is a `T`. `status` is a number, or `default`.
    #[must_use]
    pub fn answer<T: JsonSchema>(self, schemas: &mut Schemas, status: impl Display, text: &str) -> Self {
        let schema = schemas.written::<T>();
        self.content(status, text, "application/json", &schema)
    }

    /// A response of another content type, or of a form without a Rust type.
    #[must_use]
    pub fn content(self, status: impl Display, text: &str, kind: &str, schema: &Value) -> Self {
        self.media(status, text, kind, &json!({"schema": schema}))
    }

    /// A response, as a media type object.
    #[must_use]
    pub fn media(self, status: impl Display, text: &str, kind: &str, media: &Value) -> Self {
        let mut answered = self.bare(&status, text);
        answered.document["responses"][status.to_string()]["content"] = json!({kind: media});
        answered
    }

    /// A response without a body.
    #[must_use]
    pub fn bare(mut self, status: impl Display, text: &str) -> Self {
        self.document["responses"][status.to_string()] = json!({"description": text});
        self
    }

    /// Every other response is an error of this form, the name of a schema.
    #[must_use]
    pub fn error(self, schema: &str) -> Self {
        let schema = json!({"$ref": format!("{PLACE}{schema}")});
        self.content("default", "An error; see the table of codes", "application/json", &schema)
    }

    /// `METHOD /path`.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// `GET` and so on.
    #[must_use]
    pub fn method(&self) -> &str {
        self.route.split_once(' ').map_or(&self.route, |(method, _)| method)
    }

    /// The path, with the names of its parameters in braces.
    #[must_use]
    pub fn path(&self) -> &str {
        self.route.split_once(' ').map_or("", |(_, path)| path)
    }

    /// The names of the parameters in the path.
    pub fn path_names(&self) -> impl Iterator<Item = &str> {
        self.path().split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    /// The operation as an object of the document.
    #[must_use]
    pub fn into_document(self) -> Value {
        self.document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_what_openapi_expects() {
        let operation = Operation::new("PUT /doors/{id}", "Door", "open", "Open a door")
            .text("Quietly.")
            .text("Needs a key.")
            .security(ADMIN_KEY.into_iter().chain([("knock", None)]))
            .path_parameter("id", &json!({"type": "string"}))
            .path_parameter("id", &json!({"type": "integer"}))
            .queries(&["why"])
            .required_query("by", &json!({"type": "string"}), "Who it is.")
            .body::<u8>(&mut Schemas::default(), false, &json!(3))
            .body_text("How wide.")
            .bare(101, "It turns")
            .content(200, "It is open", "text/plain", &json!({"type": "string"}))
            .error("Error");
        assert_eq!(
            (operation.route(), operation.method(), operation.path()),
            ("PUT /doors/{id}", "PUT", "/doors/{id}")
        );
        assert_eq!(operation.path_names().collect::<Vec<_>>(), ["id"]);
        let text = json!({"type": "string"});
        let byte = json!({"type": "integer", "format": "uint8", "minimum": 0, "maximum": 255});
        let error = json!({"$ref": "#/components/schemas/Error"});
        assert_eq!(
            operation.into_document(),
            json!({
                "tags": ["Door"], "operationId": "open", "summary": "Open a door",
                "description": "Quietly.\n\nNeeds a key.",
                "security": [{"bearer": ["admin"]}, {"key": ["admin"]}, {"knock": []}],
                "parameters": [
                    {"name": "id", "in": "path", "required": true, "schema": text},
                    {"name": "why", "in": "query", "schema": text},
                    {"name": "by", "in": "query", "required": true, "schema": text, "description": "Who it is."},
                ],
                "requestBody": {
                    "required": false, "description": "How wide.",
                    "content": {"application/json": {"schema": byte, "example": 3}},
                },
                "responses": {
                    "101": {"description": "It turns"},
                    "200": {"description": "It is open", "content": {"text/plain": {"schema": text}}},
                    "default": {
                        "description": "An error; see the table of codes",
                        "content": {"application/json": {"schema": error}},
                    },
                },
            })
        );
    }
}
