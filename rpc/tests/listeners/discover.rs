//! `rpc_methods` and `rpc.discover` against what is registered and what the methods do.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::fixture::Node;
use crate::wire::{call, post, result};

fn names(list: &Value, name: impl Fn(&Value) -> &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|item| name(item).as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_document_has_every_registered_method_and_no_other() {
    for (node, dev) in [(Node::start(), false), (Node::start_dev(), true)] {
        let methods = result(node.public, "rpc_methods", json!([]));
        let registered = names(&methods["methods"], |name| name);
        let document = result(node.public, "rpc.discover", json!([]));
        assert_eq!(names(&document["methods"], |method| &method["name"]), registered);
        assert_eq!(registered.contains("dev_submitChanges"), dev);
        assert!(!registered.iter().any(|name| name.starts_with("engine_")), "{registered:?}");
        // What is registered, by what happens when it is called: all exist, and nothing that is not listed does.
        for name in &registered {
            let answer = post(node.public, &[], call(name, json!([])).to_string().as_bytes()).json();
            assert_ne!(answer["error"]["code"], -32601, "{name}");
        }
        for absent in ["sync_status", "engine_forkchoice", "engine_rollback", "dev_submit"] {
            let answer = post(node.public, &[], call(absent, json!([])).to_string().as_bytes()).json();
            assert_eq!(answer["error"]["code"], -32601, "{absent}");
        }
    }
}

#[test]
fn required_params_are_those_that_are_required() {
    let node = Node::start_dev();
    let document = result(node.public, "rpc.discover", json!([]));
    for method in document["methods"].as_array().unwrap() {
        let name = method["name"].as_str().unwrap();
        // Refused for another reason.
        if name.contains("ubscribe") {
            continue;
        }
        let required = method["params"].as_array().unwrap().iter().any(|param| param["required"] == true);
        let answer = post(node.public, &[], call(name, json!([])).to_string().as_bytes()).json();
        assert_eq!(answer["error"]["code"] == -32602, required, "{name}: {answer}");
    }
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let node = Node::start();
    let document = result(node.public, "rpc.discover", json!([]));
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    assert_eq!(document["openrpc"], "1.3.2");
    assert!(document["components"]["errors"]["UnknownBlock"]["code"] == 4001);
}
