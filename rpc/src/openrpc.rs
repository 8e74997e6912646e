//! The OpenRPC document of the public methods, made from the very types that cross the wire.
//!
//! Each file of `api/` describes its methods with [`describe!`]; a test holds the described names against the registered
//! ones. Schemas are JSON Schema draft 7, as OpenRPC wants them, each named type once under `components/schemas`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::api::Identity;

/// The version of the OpenRPC specification.
const OPENRPC: &str = "1.3.2";

/// A document that grows method by method.
pub(crate) struct Document {
    generator: SchemaGenerator,
    info: Value,
    methods: Vec<Value>,
}

/// Adds a method: `describe!(document, name "summary" (required: Type, …; optional: Type, …) -> Type)`.
macro_rules! describe {
    ($doc:ident, $name:ident $summary:literal $rest:tt -> $result:ty) => {
        describe!($doc, stringify!($name), $summary, $rest -> $result)
    };
    ($doc:ident, $name:literal $summary:literal $rest:tt -> $result:ty) => {
        describe!($doc, $name, $summary, $rest -> $result)
    };
    (
        $doc:ident, $name:expr, $summary:literal,
        ($($required:ident: $required_type:ty),*; $($optional:ident: $optional_type:ty),*) -> $result:ty
    ) => {{
        let params = vec![
            $($doc.param::<$required_type>(stringify!($required), true),)*
            $($doc.param::<Option<$optional_type>>(stringify!($optional), false),)*
        ];
        $doc.method::<$result>($name, $summary, params);
    }};
}
pub(crate) use describe;

impl Document {
    pub(crate) fn new(identity: &Identity) -> Self {
        let settings = SchemaSettings::draft07().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self {
            generator: settings.into_generator(),
            info: json!({
                "title": format!("{} JSON-RPC", identity.node_name),
                "version": identity.node_version,
                "license": { "name": "MIT OR Apache-2.0" },
            }),
            methods: Vec::new(),
        }
    }

    /// A param's content descriptor.
    pub(crate) fn param<T: JsonSchema>(&mut self, name: &str, required: bool) -> Value {
        json!({ "name": name, "required": required, "schema": self.generator.subschema_for::<T>() })
    }

    /// Adds a method whose result is a `T`.
    pub(crate) fn method<T: JsonSchema>(&mut self, name: &str, summary: &str, params: Vec<Value>) {
        let schema = self.generator.subschema_for::<T>();
        self.methods.push(json!({
            "name": name,
            "summary": summary,
            "paramStructure": "by-position",
            "params": params,
            "result": { "name": "result", "schema": schema },
        }));
    }

    /// The whole.
    pub(crate) fn finish(mut self) -> Value {
        let schemas: Map<String, Value> = self.generator.take_definitions(true);
        json!({
            "openrpc": OPENRPC,
            "info": self.info,
            "methods": self.methods,
            "components": { "schemas": schemas, "errors": crate::error::document() },
        })
    }
}
