//! Watches: where they start, what they see, how they end.

use serde_json::{Value, json};

use crate::client::{Api, MAPS, PODS, config_map, pod, version};

fn labelled(name: &str, app: &str) -> Value {
    let mut object = config_map(name, json!({}));
    object["metadata"]["labels"] = json!({ "app": app });
    object
}

#[tokio::test]
async fn a_watch_goes_on_where_the_list_ended() {
    let api = Api::start().await;
    for client in [api.client(), api.client().with_http2()] {
        client.pod("before").await;
        let rv = client.get(PODS).await.ok()["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .to_owned();
        let mut watch = client.watch(&format!("{PODS}?watch=true&resourceVersion={rv}")).await;
        let mut elsewhere = client
            .watch(&format!(
                "/api/v1/namespaces/kube-system/pods?watch=true&resourceVersion={rv}"
            ))
            .await;
        let made = client.pod("new").await;
        client
            .patch(
                &format!("{PODS}/new"),
                "merge",
                &json!({ "metadata": { "labels": { "a": "b" } } }),
            )
            .await
            .ok();
        client.delete(&format!("{PODS}/new"), &json!({})).await.ok();
        client.delete(&format!("{PODS}/before"), &json!({})).await.ok();
        let first = watch.next().await.unwrap();
        assert_eq!((&first["type"], &first["object"]), (&json!("ADDED"), &made));
        assert_eq!(watch.step().await, ("MODIFIED".into(), "new".into()));
        let gone = watch.next().await.unwrap();
        assert_eq!(
            (&gone["type"], &gone["object"]["metadata"]["labels"]["a"]),
            (&json!("DELETED"), &json!("b"))
        );
        assert!(
            version(&gone["object"]) > version(&made) + 1,
            "a removal has a version of its own"
        );
        assert_eq!(watch.step().await, ("DELETED".into(), "before".into()));
        client
            .post("/api/v1/namespaces/kube-system/pods", &pod("other"))
            .await
            .ok();
        assert_eq!(
            elsewhere.step().await,
            ("ADDED".into(), "other".into()),
            "only its namespace"
        );
        client
            .delete("/api/v1/namespaces/kube-system/pods/other", &json!({}))
            .await
            .ok();
    }
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let api = Api::start().await;
    let client = api.client();
    let rv = version(&client.post(MAPS, &labelled("m", "other")).await.ok());
    let mut watch = client
        .watch(&format!(
            "{MAPS}?watch=true&resourceVersion={rv}&labelSelector=app%3Dweb"
        ))
        .await;
    let set = |app: &str| json!({ "metadata": { "labels": { "app": app } } });
    let path = format!("{MAPS}/m");
    client.patch(&path, "merge", &set("web")).await.ok();
    client
        .patch(&path, "merge", &json!({ "data": { "k": "v" } }))
        .await
        .ok();
    let left = client.patch(&path, "merge", &set("other")).await.ok();
    client
        .patch(&path, "merge", &json!({ "data": { "k": "w" } }))
        .await
        .ok();
    client.patch(&path, "merge", &set("web")).await.ok();
    client.delete(&path, &json!({})).await.ok();
    assert_eq!(watch.step().await.0, "ADDED");
    assert_eq!(watch.step().await.0, "MODIFIED");
    let gone = watch.next().await.unwrap();
    assert_eq!(
        (&gone["type"], version(&gone["object"])),
        (&json!("DELETED"), version(&left))
    );
    assert_eq!(
        gone["object"]["metadata"]["labels"]["app"], "web",
        "in the last state that matched"
    );
    assert_eq!(watch.step().await.0, "ADDED");
    assert_eq!(watch.step().await.0, "DELETED");
}

#[tokio::test]
async fn without_a_version_a_watch_starts_with_what_is_there() {
    let api = Api::start().await;
    let client = api.client();
    for name in ["a", "b"] {
        client.pod(name).await;
    }
    for query in ["", "&resourceVersion=0"] {
        let mut watch = client.watch(&format!("{PODS}?watch=true{query}")).await;
        assert_eq!([watch.step().await.1, watch.step().await.1], ["a", "b"]);
    }
    let mut one = client.watch(&format!("{PODS}/b?watch=true")).await;
    assert_eq!(one.step().await, ("ADDED".into(), "b".into()));
}

#[tokio::test]
async fn streaming_lists_are_closed_by_a_bookmark() {
    let api = Api::start().await;
    let client = api.client();
    client.pod("a").await;
    let query = "watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    let mut watch = client.watch(&format!("{PODS}?{query}")).await;
    assert_eq!(watch.step().await, ("ADDED".into(), "a".into()));
    let mark = watch.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(
        mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert!(version(&mark["object"]) > 0);
    client
        .get(&format!("{PODS}?watch=true&sendInitialEvents=true"))
        .await
        .refused(422, "Invalid");
    let mut empty = client
        .watch(&format!("/api/v1/namespaces/kube-system/pods?{query}"))
        .await;
    assert_eq!(empty.step().await.0, "BOOKMARK");
}

#[tokio::test]
async fn a_watch_ends_in_time_with_a_bookmark() {
    let api = Api::start().await;
    let client = api.client();
    let rv = version(&client.pod("a").await);
    let mut watch = client
        .watch(&format!(
            "{PODS}?watch=true&resourceVersion={rv}&timeoutSeconds=1&allowWatchBookmarks=true"
        ))
        .await;
    // Something elsewhere moves the version on.
    let other = client.post(MAPS, &config_map("m", json!({}))).await.ok();
    let mark = watch.next().await.unwrap();
    assert_eq!(
        (&mark["type"], version(&mark["object"])),
        (&json!("BOOKMARK"), version(&other))
    );
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_version_that_is_too_old_or_unknown_is_gone() {
    let api = Api::start().await;
    let client = api.client();
    let old = version(&client.pod("a").await);
    client.pod("b").await;
    let api = api.restart().await;
    let client = api.client();
    for rv in [old, 1_000_000] {
        let mut watch = client.watch(&format!("{PODS}?watch=true&resourceVersion={rv}")).await;
        let error = watch.next().await.unwrap();
        assert_eq!(
            (&error["type"], &error["object"]["code"], &error["object"]["reason"]),
            (&json!("ERROR"), &json!(410), &json!("Expired"))
        );
        assert_eq!(watch.next().await, None);
    }
    let listed = client.get(PODS).await.ok()["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut watch = client
        .watch(&format!("{PODS}?watch=true&resourceVersion={listed}"))
        .await;
    client.pod("c").await;
    assert_eq!(
        watch.step().await,
        ("ADDED".into(), "c".into()),
        "what was listed after the restart can be watched from"
    );
}

#[tokio::test]
async fn tables_are_watched_too() {
    let api = Api::start().await;
    let client = api.client();
    client.pod("a").await;
    let mut watch = client
        .watch_as(
            &format!("{PODS}?watch=true"),
            "application/json;as=Table;v=v1;g=meta.k8s.io",
        )
        .await;
    let first = watch.next().await.unwrap();
    assert_eq!(
        (&first["object"]["kind"], &first["object"]["rows"][0]["cells"][0]),
        (&json!("Table"), &json!("a"))
    );
    assert!(!first["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    client.pod("b").await;
    let second = watch.next().await.unwrap();
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
    assert!(
        second["object"]["columnDefinitions"].as_array().unwrap().is_empty(),
        "columns are told once"
    );
}

#[tokio::test]
async fn watches_end_when_the_api_stops() {
    let api = Api::start().await;
    let mut watch = api.client().watch(&format!("{PODS}?watch=true")).await;
    api.stop().await;
    assert_eq!(watch.next().await, None);
}
