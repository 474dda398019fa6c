#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Format, apply};

fn patched(format: Format, mut document: Value, patch: Value) -> Value {
    apply(format, "Pod", &mut document, patch).unwrap();
    document
}

fn pod(containers: Value) -> Value {
    json!({ "spec": { "containers": containers } })
}

#[test]
fn strategic_merge_merges_lists_by_key() {
    let before = pod(
        json!([{ "name": "a", "image": "1", "env": [{ "name": "X", "value": "x" }] }, { "name": "b", "image": "1" }]),
    );
    let patch = pod(json!([{ "name": "a", "image": "2", "env": [{ "name": "Y", "value": "y" }] }]));
    let after = patched(Format::Strategic, before, patch);
    assert_eq!(
        after["spec"]["containers"],
        json!([
            { "name": "a", "image": "2", "env": [{ "name": "X", "value": "x" }, { "name": "Y", "value": "y" }] },
            { "name": "b", "image": "1" },
        ])
    );
}

#[test]
fn strategic_merge_replaces_atomic_lists_and_removes_nulls() {
    let before =
        json!({ "metadata": { "labels": { "a": "1", "b": "2" } }, "spec": { "tolerations": [{ "key": "x" }] } });
    let patch = json!({ "metadata": { "labels": { "a": null } }, "spec": { "tolerations": [{ "key": "y" }] } });
    let after = patched(Format::Strategic, before, patch);
    assert_eq!(
        after,
        json!({ "metadata": { "labels": { "b": "2" } }, "spec": { "tolerations": [{ "key": "y" }] } })
    );
}

#[test]
fn directives_delete_and_replace_elements() {
    let before = pod(json!([{ "name": "a" }, { "name": "b" }]));
    let gone = patched(
        Format::Strategic,
        before.clone(),
        pod(json!([{ "name": "a", "$patch": "delete" }])),
    );
    assert_eq!(gone, pod(json!([{ "name": "b" }])));
    let replaced = patched(
        Format::Strategic,
        before,
        pod(json!([{ "$patch": "replace" }, { "name": "c" }])),
    );
    assert_eq!(replaced, pod(json!([{ "name": "c" }])));
}

#[test]
fn directives_replace_and_delete_objects() {
    let before = json!({ "metadata": { "labels": { "a": "1" }, "annotations": { "x": "y" } } });
    let patch =
        json!({ "metadata": { "labels": { "$patch": "replace", "b": "2" }, "annotations": { "$patch": "delete" } } });
    assert_eq!(
        patched(Format::Strategic, before, patch),
        json!({ "metadata": { "labels": { "b": "2" } } })
    );
}

#[test]
fn retain_keys_drops_the_old_source_of_a_volume() {
    let before = json!({ "spec": { "volumes": [{ "name": "v", "emptyDir": {} }] } });
    let patch = json!({ "spec": { "volumes": [{ "name": "v", "$retainKeys": ["name", "configMap"], "configMap": { "name": "c" } }] } });
    let after = patched(Format::Strategic, before, patch);
    assert_eq!(
        after["spec"]["volumes"],
        json!([{ "name": "v", "configMap": { "name": "c" } }])
    );
}

#[test]
fn primitive_lists_are_united_and_cut() {
    let before = json!({ "metadata": { "finalizers": ["a/a", "b/b"] } });
    let more = patched(
        Format::Strategic,
        before.clone(),
        json!({ "metadata": { "finalizers": ["b/b", "c/c"] } }),
    );
    assert_eq!(more["metadata"]["finalizers"], json!(["a/a", "b/b", "c/c"]));
    let less = patched(
        Format::Strategic,
        before,
        json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["a/a"] } }),
    );
    assert_eq!(less["metadata"]["finalizers"], json!(["b/b"]));
}

#[test]
fn the_wished_order_of_elements_is_kept_and_others_stay_near_their_place() {
    let before = pod(json!([{ "name": "a" }, { "name": "server" }, { "name": "b" }]));
    let patch = json!({ "spec": {
        "$setElementOrder/containers": [{ "name": "b" }, { "name": "new" }, { "name": "a" }],
        "containers": [{ "name": "new" }],
    } });
    let after = patched(Format::Strategic, before, patch);
    let names: Vec<&str> = after["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    let place = |name: &str| names.iter().position(|n| *n == name).unwrap();
    assert!(place("b") < place("new") && place("new") < place("a"), "{names:?}");
    assert_eq!(names.len(), 4);
}

#[test]
fn a_status_patch_as_nodes_send_it() {
    let before = json!({ "status": { "conditions": [
        { "type": "PodScheduled", "status": "True" }, { "type": "Ready", "status": "False", "reason": "ContainersNotReady" },
    ] } });
    let patch = json!({ "metadata": { "uid": "u" }, "status": {
        "$setElementOrder/conditions": [{ "type": "Ready" }, { "type": "PodScheduled" }],
        "conditions": [{ "type": "Ready", "status": "True", "reason": null }],
        "podIPs": [{ "ip": "10.0.0.1" }],
    } });
    let after = patched(Format::Strategic, before, patch);
    assert_eq!(
        after["status"]["conditions"],
        json!([{ "type": "Ready", "status": "True" }, { "type": "PodScheduled", "status": "True" }])
    );
    assert_eq!(after["status"]["podIPs"], json!([{ "ip": "10.0.0.1" }]));
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (before, patch) in [
        (json!({}), pod(json!([{ "image": "no name" }]))),
        (json!({}), pod(json!(["text"]))),
        (pod(json!([{ "name": "a" }])), pod(json!([{ "$patch": "delete" }]))),
        (json!({}), pod(json!([{ "name": "a", "$patch": "twist" }]))),
        (json!({}), json!({ "$retainKeys": "x" })),
        (json!({}), json!([])),
    ] {
        let mut document = before;
        let error = apply(Format::Strategic, "Pod", &mut document, patch.clone()).unwrap_err();
        assert_eq!(error.code, 400, "{patch}");
    }
}

#[test]
fn merge_patch_replaces_lists() {
    let after = patched(
        Format::Merge,
        json!({ "a": [1, 2], "b": { "c": 1, "d": 2 } }),
        json!({ "a": [3], "b": { "c": null } }),
    );
    assert_eq!(after, json!({ "a": [3], "b": { "d": 2 } }));
}

#[test]
fn json_patch_operations() {
    let before = json!({ "a": { "b": [1, 2] }, "x/y": 1 });
    let operations = json!([
        { "op": "test", "path": "/a/b/0", "value": 1 },
        { "op": "add", "path": "/a/b/1", "value": 9 },
        { "op": "add", "path": "/a/b/-", "value": 3 },
        { "op": "replace", "path": "/x~1y", "value": 2 },
        { "op": "copy", "from": "/a/b", "path": "/c" },
        { "op": "move", "from": "/a", "path": "/d" },
        { "op": "remove", "path": "/d/b/0" },
    ]);
    assert_eq!(
        patched(Format::Json, before, operations),
        json!({ "x/y": 2, "c": [1, 9, 2, 3], "d": { "b": [9, 2, 3] } })
    );
}

#[test]
fn json_patch_that_does_not_fit_is_refused() {
    for operation in [
        json!({ "op": "test", "path": "/a", "value": 2 }),
        json!({ "op": "remove", "path": "/missing" }),
        json!({ "op": "add", "path": "/list/9", "value": 1 }),
        json!({ "op": "add", "path": "/list/01", "value": 1 }),
        json!({ "op": "move", "from": "/list", "path": "/list/0" }),
        json!({ "op": "dance", "path": "/a" }),
        json!({ "op": "add", "path": "no-slash", "value": 1 }),
        json!("text"),
    ] {
        let mut document = json!({ "a": 1, "list": [1] });
        assert!(
            apply(Format::Json, "Pod", &mut document, json!([operation.clone()])).is_err(),
            "{operation}"
        );
    }
}

#[test]
fn copies_cannot_grow_a_document_without_bound() {
    let wide = (0..64)
        .map(|i| json!({ "op": "copy", "from": "", "path": format!("/{i}") }))
        .collect();
    let error = |operations: Vec<Value>| {
        let mut document = json!({ "a": "x".repeat(100) });
        apply(Format::Json, "Pod", &mut document, Value::Array(operations))
            .unwrap_err()
            .message
    };
    assert!(error(wide).contains("copies too much"));
    let deep = vec![json!({ "op": "copy", "from": "", "path": "/a" }); 1000];
    assert!(error(deep).contains("levels deep"));
}

#[test]
fn server_side_apply_merges_by_all_keys() {
    let before = pod(json!([{ "name": "a", "image": "1", "ports": [{ "containerPort": 80, "protocol": "TCP" }] }]));
    let config = pod(
        json!([{ "name": "a", "image": "2", "ports": [{ "containerPort": 80, "protocol": "UDP" }, { "containerPort": 80, "name": "w" }] }]),
    );
    let after = patched(Format::Apply, before, config);
    assert_eq!(
        after["spec"]["containers"][0],
        json!({ "name": "a", "image": "2", "ports": [
            { "containerPort": 80, "protocol": "TCP", "name": "w" }, { "containerPort": 80, "protocol": "UDP" },
        ] })
    );
}

/// Documents with the shapes and words that steer merging.
fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..5_i64).prop_map(Value::from),
        prop::sample::select(vec!["a", "b", "c", "delete", "replace", "merge"]).prop_map(Value::from),
    ];
    let keys = prop::sample::select(vec![
        "name",
        "spec",
        "metadata",
        "containers",
        "volumes",
        "env",
        "ports",
        "containerPort",
        "finalizers",
        "labels",
        "status",
        "conditions",
        "type",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$deleteFromPrimitiveList/finalizers",
        "$setElementOrder/finalizers",
    ]);
    leaf.prop_recursive(6, 64, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(keys.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// Well-formed pods and patches for them: every element has its key.
fn pods() -> impl Strategy<Value = Value> {
    let env = prop::collection::btree_map("[A-C]", "[x-z]", 0..3).prop_map(|m| {
        m.into_iter()
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .collect::<Vec<_>>()
    });
    let container =
        ("[a-d]", "[1-3]", env).prop_map(|(name, image, env)| json!({ "name": name, "image": image, "env": env }));
    let containers = prop::collection::vec(container, 0..4).prop_map(|mut list| {
        list.sort_by_key(|c| c["name"].to_string());
        list.dedup_by_key(|c| c["name"].to_string());
        list
    });
    let labels = prop::collection::btree_map(
        "[k-n]",
        prop_oneof![Just(Value::Null), "[u-w]".prop_map(Value::from)],
        0..4,
    )
    .prop_map(|m| Value::Object(m.into_iter().collect()));
    let finalizers = prop::collection::btree_set("[f-h]", 0..3);
    (containers, labels, finalizers, any::<bool>()).prop_map(|(containers, labels, finalizers, ordered)| {
        let order: Vec<Value> = containers.iter().rev().map(|c| json!({ "name": c["name"] })).collect();
        let mut pod =
            json!({ "metadata": { "labels": labels, "finalizers": finalizers }, "spec": { "containers": containers } });
        if ordered {
            pod["spec"]["$setElementOrder/containers"] = order.into();
        }
        pod
    })
}

proptest! {
    #[test]
    fn no_format_panics_on_anything(document in documents(), patch in documents()) {
        for format in [Format::Json, Format::Merge, Format::Strategic, Format::Apply] {
            let mut document = document.clone();
            let _ = apply(format, "Pod", &mut document, patch.clone());
        }
    }

    #[test]
    fn patching_twice_is_patching_once(base in pods(), patch in pods()) {
        for format in [Format::Merge, Format::Strategic, Format::Apply] {
            let clean = patched(Format::Strategic, json!({}), base.clone());
            let once = patched(format, clean, patch.clone());
            let twice = patched(format, once.clone(), patch.clone());
            prop_assert_eq!(&once, &twice, "{:?}", format);
        }
    }

    #[test]
    fn directives_never_stay_in_the_object(base in pods(), patch in pods()) {
        let clean = patched(Format::Strategic, json!({}), base);
        let after = patched(Format::Strategic, clean, patch).to_string();
        prop_assert!(!after.contains('$'), "{}", after);
    }

    #[test]
    fn an_object_applied_to_nothing_is_itself(base in pods()) {
        let clean = patched(Format::Strategic, json!({}), base);
        let again = patched(Format::Strategic, json!({}), clean.clone());
        prop_assert_eq!(clean, again);
    }
}
