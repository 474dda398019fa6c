//! What the API offers, for clients that look before they ask.

use serde_json::{Value, json};

use crate::registry::{self, Resource, Review};

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
/// The API that this one behaves like.
pub(crate) const VERSION: &str = "v1.36.2";

pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": format!("{VERSION}+witlet"), "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc", "platform": format!("linux/{}", platform()),
    })
}

fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `/api`
pub(crate) fn core_versions() -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
}

fn group_value(group: &str) -> Value {
    let version = json!({ "groupVersion": format!("{group}/v1"), "version": "v1" });
    json!({ "name": group, "versions": [version], "preferredVersion": version })
}

/// `/apis`
pub(crate) fn group_list() -> Value {
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": registry::groups().into_iter().map(group_value).collect::<Vec<_>>() })
}

/// `/apis/<group>`
pub(crate) fn group(group: &str) -> Option<Value> {
    let known = registry::groups().contains(&group);
    known.then(|| {
        let mut value = group_value(group);
        value["kind"] = "APIGroup".into();
        value["apiVersion"] = "v1".into();
        value
    })
}

fn resources(group: &str) -> impl Iterator<Item = &'static Resource> {
    registry::all().iter().filter(move |r| r.group == group)
}

fn reviews(group: &str) -> impl Iterator<Item = &'static Review> {
    registry::REVIEWS.iter().filter(move |r| r.group == group)
}

/// `/api/v1` and `/apis/<group>/<version>`
pub(crate) fn resource_list(group: &str, version: &str) -> Option<Value> {
    if version != "v1" || !(group.is_empty() || registry::groups().contains(&group)) {
        return None;
    }
    let mut list = Vec::new();
    for r in resources(group) {
        let mut item = json!({ "name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind, "verbs": VERBS });
        if !r.short_names.is_empty() {
            item["shortNames"] = r.short_names.into();
        }
        if !r.categories.is_empty() {
            item["categories"] = r.categories.into();
        }
        list.push(item);
        for sub in r.subresources {
            let name = format!("{}/{}", r.plural, sub.name);
            let mut item = json!({ "name": name, "singularName": "", "namespaced": r.namespaced, "kind": sub.kind, "verbs": sub.verbs });
            if let Some((group, version)) = sub.of {
                item["group"] = group.into();
                item["version"] = version.into();
            }
            list.push(item);
        }
    }
    for r in reviews(group) {
        list.push(json!({ "name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind, "verbs": ["create"] }));
    }
    let name = if group.is_empty() {
        "v1".to_owned()
    } else {
        format!("{group}/v1")
    };
    Some(json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": list }))
}

/// Everything at once, the form that newer clients prefer. `core`: `/api`, else `/apis`.
pub(crate) fn aggregated(core: bool) -> Value {
    let groups = if core { vec![""] } else { registry::groups() };
    let items: Vec<Value> = groups.into_iter().map(aggregated_group).collect();
    json!({ "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items })
}

fn aggregated_group(group: &str) -> Value {
    let scope = |namespaced: bool| if namespaced { "Namespaced" } else { "Cluster" };
    let mut list = Vec::new();
    for r in resources(group) {
        let subresources: Vec<Value> = r
            .subresources
            .iter()
            .map(|sub| {
                let (group, version) = sub.of.unwrap_or((r.group, r.version));
                json!({ "subresource": sub.name, "verbs": sub.verbs, "responseKind": { "group": group, "version": version, "kind": sub.kind } })
            })
            .collect();
        let mut item = json!({
            "resource": r.plural, "singularResource": r.singular, "scope": scope(r.namespaced), "verbs": VERBS,
            "responseKind": { "group": r.group, "version": r.version, "kind": r.kind },
        });
        for (key, names) in [("shortNames", r.short_names), ("categories", r.categories)] {
            if !names.is_empty() {
                item[key] = names.into();
            }
        }
        if !subresources.is_empty() {
            item["subresources"] = subresources.into();
        }
        list.push(item);
    }
    for r in reviews(group) {
        list.push(json!({
            "resource": r.plural, "singularResource": r.singular, "scope": scope(r.namespaced), "verbs": ["create"],
            "responseKind": { "group": r.group, "version": "v1", "kind": r.kind },
        }));
    }
    let metadata = if group.is_empty() {
        json!({})
    } else {
        json!({ "name": group })
    };
    json!({ "metadata": metadata, "versions": [{ "version": "v1", "freshness": "Current", "resources": list }] })
}
