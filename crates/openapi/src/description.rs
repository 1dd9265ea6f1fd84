//! The routes of one part of a process, and the document of all parts.

use serde_json::{Map, Value, json};

use crate::operation::Operation;
use crate::schemas::{PLACE, Schemas};

/// A part of a document, or all of it.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Description {
    tags: Vec<Value>,
    paths: Map<String, Value>,
    schemas: Map<String, Value>,
    security_schemes: Map<String, Value>,
}

impl Description {
    /// A group of routes, with an explanation.
    #[must_use]
    pub fn tag(mut self, name: &str, text: &str) -> Self {
        self.tags.push(json!({"name": name, "description": text}));
        self
    }

    /// A way to authenticate.
    #[must_use]
    pub fn security_scheme(mut self, name: &str, scheme: Value) -> Self {
        self.security_schemes.insert(name.to_owned(), scheme);
        self
    }

    /// Adds routes.
    #[must_use]
    pub fn operations(mut self, operations: impl IntoIterator<Item = Operation>) -> Self {
        for operation in operations {
            let method = operation.method().to_lowercase();
            let item = self.paths.entry(operation.path()).or_insert_with(|| json!({}));
            item[method] = operation.into_document();
        }
        self
    }

    /// Adds the schemas of Rust types.
    #[must_use]
    pub fn types(self, schemas: Schemas) -> Self {
        self.schemas(schemas.into_definitions())
    }

    /// Adds schemas.
    #[must_use]
    pub fn schemas(mut self, schemas: impl IntoIterator<Item = (String, Value)>) -> Self {
        self.schemas.extend(schemas);
        self
    }

    /// Adds another part. Existing entries stay.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.tags.extend(other.tags);
        for (ours, theirs) in [
            (&mut self.paths, other.paths),
            (&mut self.schemas, other.schemas),
            (&mut self.security_schemes, other.security_schemes),
        ] {
            for (name, entry) in theirs {
                ours.entry(name).or_insert(entry);
            }
        }
        self
    }

    /// The described routes, by path and by method in lower case.
    #[must_use]
    pub fn paths(&self) -> &Map<String, Value> {
        &self.paths
    }

    /// The whole document; `info` is its title, version and so on.
    #[must_use]
    pub fn document(&self, info: &Value) -> Value {
        json!({
            "openapi": "3.1.0",
            "info": info,
            "servers": [{"url": "/", "description": "the server of this document"}],
            "tags": self.tags,
            "paths": self.paths,
            "components": {"securitySchemes": self.security_schemes, "schemas": self.schemas},
        })
    }
}

/// The names of the schemas that are referred to within `node`.
#[must_use]
pub fn references(node: &Value) -> Vec<String> {
    match node {
        Value::Object(fields) => {
            let own = fields.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix(PLACE));
            own.map(ToOwned::to_owned).into_iter().chain(fields.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_added_and_does_not_replace_what_is_there() {
        let health = |summary| Operation::new("GET /healthz", "Health", "healthz", summary);
        let ours = Description::default().tag("Health", "For probes.").operations([health("ours")]);
        let other = Description::default()
            .tag("Door", "To go in.")
            .operations([health("another"), Operation::new("POST /door", "Door", "knock", "Knock")])
            .schemas([("Key".to_owned(), json!({"type": "string"}))])
            .security_scheme("knock", json!({"type": "http"}));
        let document = ours.merge(other).document(&json!({"title": "A house"}));
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["info"]["title"], "A house");
        assert_eq!(document["paths"]["/door"]["post"]["operationId"], "knock");
        assert_eq!(document["paths"]["/healthz"]["get"]["summary"], "ours");
        assert_eq!(document["components"]["schemas"]["Key"]["type"], "string");
        assert_eq!(document["components"]["securitySchemes"]["knock"]["type"], "http");
        assert_eq!(document["tags"][1], json!({"name": "Door", "description": "To go in."}));
    }

    #[test]
    fn references_are_found_at_any_depth() {
        let node = json!({"a": [{"$ref": "#/components/schemas/One"}], "$ref": "#/components/schemas/Two", "b": "x"});
        let mut found = references(&node);
        found.sort();
        assert_eq!(found, ["One", "Two"]);
    }
}
