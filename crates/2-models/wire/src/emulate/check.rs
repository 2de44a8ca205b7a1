//! Schemas: the one that a constrained model gets, and the check of what comes back.
//!
//! The check is not a validator. It looks at what a model gets wrong without constraint: no object, fields that are missing,
//! made up or of another type, words that are not in the list.

use serde_json::{Map, Value};

use super::{Choice, Tools};
use crate::{
    Object, Raw,
    fields::{self, Build},
};

pub fn any_object() -> Raw {
    Build::kind("object").with("properties", &Object::default()).raw()
}

/// One object for each tool, and one for a reply. `None`: a schema with references cannot stand within another one.
pub fn union(tools: &Tools, reply: Option<&Raw>) -> Option<Raw> {
    if tools.choice == Choice::Fixed {
        return tools.callable.first().map(|(_, schema)| schema.clone());
    }
    let refers = |schema: &Raw| schema.get().contains("\"$ref\"");
    if tools.callable.iter().any(|(_, schema)| refers(schema)) || reply.is_some_and(refers) {
        return None;
    }
    let mut variants: Vec<Raw> = tools.callable.iter().map(|(name, schema)| call(name, schema)).collect();
    if tools.choice == Choice::Auto {
        let text = Build::kind("string").raw();
        let properties = Build::new().with("reply", reply.unwrap_or(&text)).object();
        variants.push(closed(&properties, &["reply"]));
    }
    Some(Build::new().list("anyOf", &variants).raw())
}

fn call(name: &str, schema: &Raw) -> Raw {
    let tool = Build::kind("string").with("const", name).object();
    closed(&Build::new().with("tool", &tool).with("arguments", schema).object(), &["tool", "arguments"])
}

fn closed(properties: &Object, required: &[&str]) -> Raw {
    Build::kind("object")
        .with("properties", properties)
        .with("required", required)
        .with("additionalProperties", &false)
        .raw()
}

/// What is wrong with a value, in a sentence.
pub fn check(schema: &Raw, value: &Value) -> Result<(), String> {
    let Ok(schema) = fields::read::<Value>(schema, "schema") else { return Err("the schema is no JSON".to_owned()) };
    of_type(&schema, value, "the answer")?;
    let Some(object) = value.as_object() else { return Ok(()) };
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    if let Some(name) = required.filter_map(Value::as_str).find(|name| !object.contains_key(*name)) {
        return Err(format!("the field '{name}' is missing"));
    }
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    for (name, field) in object {
        match properties.get(name) {
            Some(schema) => of_type(schema, field, &format!("the field '{name}'"))?,
            None if closed => return Err(format!("the field '{name}' was not asked for")),
            None => {}
        }
    }
    Ok(())
}

/// `type`, `enum` and `const`.
fn of_type(schema: &Value, value: &Value, what: &str) -> Result<(), String> {
    let fits = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    };
    let right = match schema.get("type") {
        Some(Value::String(kind)) => fits(kind),
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).any(fits),
        _ => true,
    };
    if !right {
        return Err(format!("{what} is of another type than its schema says"));
    }
    let listed = schema.get("enum").and_then(Value::as_array).is_none_or(|list| list.contains(value));
    if !listed || schema.get("const").is_some_and(|only| only != value) {
        return Err(format!("{what} has a value that its schema does not list"));
    }
    Ok(())
}
