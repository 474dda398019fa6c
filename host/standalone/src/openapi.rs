//! OpenAPI as far as clients need it to trust the server with validation: for every kind the operations, and that they take
//! `fieldValidation` and `dryRun`. Schemas of the kinds are not served; `kubectl` then uses the ones that it was built with.

use serde_json::{Map, Value, json};

use crate::registry::{self, Resource};

fn root(group: &str) -> String {
    if group.is_empty() {
        "api/v1".to_owned()
    } else {
        format!("apis/{group}/v1")
    }
}

/// `/openapi/v3`: where each group's document is.
pub(crate) fn index() -> Value {
    let mut paths = Map::new();
    for group in std::iter::once("").chain(registry::groups()) {
        let root = root(group);
        let url = format!("/openapi/v3/{root}?hash={}", env!("CARGO_PKG_VERSION"));
        paths.insert(root, json!({ "serverRelativeURL": url }));
    }
    json!({ "paths": paths })
}

/// `/openapi/v3/<root>`
pub(crate) fn document(wanted: &str) -> Option<Value> {
    let group = std::iter::once("")
        .chain(registry::groups())
        .find(|g| root(g) == wanted)?;
    let mut paths = Map::new();
    for resource in registry::all().iter().filter(|r| r.group == group) {
        let scope = if resource.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let base = format!("/{}{scope}/{}", root(group), resource.plural);
        paths.insert(
            base.clone(),
            json!({ "get": operation(resource, "list"), "post": operation(resource, "post") }),
        );
        let one = json!({
            "get": operation(resource, "get"), "put": operation(resource, "put"),
            "patch": operation(resource, "patch"), "delete": operation(resource, "delete"),
        });
        paths.insert(format!("{base}/{{name}}"), one);
    }
    Some(
        json!({ "openapi": "3.0.0", "info": { "title": "Kubernetes", "version": crate::discovery::VERSION }, "paths": paths, "components": { "schemas": {} } }),
    )
}

fn operation(resource: &Resource, action: &str) -> Value {
    let names: &[&str] = match action {
        "post" | "put" => &["dryRun", "fieldManager", "fieldValidation"],
        "patch" => &["dryRun", "fieldManager", "fieldValidation", "force"],
        "delete" => &["dryRun", "gracePeriodSeconds", "propagationPolicy"],
        "list" => &[
            "allowWatchBookmarks",
            "continue",
            "fieldSelector",
            "labelSelector",
            "limit",
            "resourceVersion",
            "timeoutSeconds",
            "watch",
        ],
        _ => &[],
    };
    let parameter =
        |name: &&str| json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } });
    json!({
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": { "group": resource.group, "version": resource.version, "kind": resource.kind },
        "parameters": names.iter().map(parameter).collect::<Vec<_>>(),
        "responses": { "200": { "description": "OK" } },
    })
}

/// `/openapi/v2` for clients that take JSON.
pub(crate) fn v2() -> Value {
    json!({ "swagger": "2.0", "info": { "title": "Kubernetes", "version": crate::discovery::VERSION }, "paths": {}, "definitions": {} })
}

/// The same as `openapi.v2.Document` in protobuf, which Go clients insist on.
pub(crate) fn v2_protobuf() -> Vec<u8> {
    let field = |number: u8, content: &[u8]| {
        // All of them are short strings or messages: one byte of length is enough.
        let mut out = vec![number << 3 | 2, content.len() as u8];
        out.extend(content);
        out
    };
    let info = [field(1, b"Kubernetes"), field(2, crate::discovery::VERSION.as_bytes())].concat();
    [field(1, b"2.0"), field(2, &info), field(8, &[])].concat()
}
