//! Creating, reading and changing objects.

use serde_json::{Value, json};

use crate::client::{Api, MAPS, PODS, config_map, pod, version};

#[tokio::test]
async fn a_new_object_gets_its_metadata_and_defaults() {
    let api = Api::start().await;
    let client = api.client();
    let created = client.pod("web").await;
    let meta = &created["metadata"];
    assert_eq!(
        (&meta["namespace"], &meta["generation"]),
        (&json!("default"), &json!(1))
    );
    assert_eq!(meta["uid"].as_str().unwrap().len(), 36);
    assert!(version(&created) > 0 && meta["creationTimestamp"].is_string());
    let spec = &created["spec"];
    assert_eq!(
        (&spec["restartPolicy"], &spec["dnsPolicy"], &spec["serviceAccountName"]),
        (&json!("Always"), &json!("ClusterFirst"), &json!("default"))
    );
    assert_eq!(
        (&spec["terminationGracePeriodSeconds"], &spec["priority"]),
        (&json!(30), &json!(0))
    );
    assert_eq!(
        (&created["status"]["phase"], &created["status"]["qosClass"]),
        (&json!("Pending"), &json!("BestEffort"))
    );
    assert_eq!(client.get(&format!("{PODS}/web")).await.ok(), created);
    assert_eq!(client.with_http2().get(&format!("{PODS}/web")).await.ok(), created);

    let mut generated = pod("");
    generated["metadata"] = json!({ "generateName": "job-" });
    let names: Vec<String> = [
        client.post(PODS, &generated).await.ok(),
        client.post(PODS, &generated).await.ok(),
    ]
    .iter()
    .map(|p| p["metadata"]["name"].as_str().unwrap().to_owned())
    .collect();
    assert!(
        names.iter().all(|n| n.starts_with("job-") && n.len() == 9) && names[0] != names[1],
        "{names:?}"
    );
}

#[tokio::test]
async fn creation_is_refused_for_good_reasons() {
    let api = Api::start().await;
    let client = api.client();
    client.pod("web").await;
    let message = client.post(PODS, &pod("web")).await.refused(409, "AlreadyExists");
    assert_eq!(message, "pods \"web\" already exists");
    assert_eq!(
        client
            .post("/api/v1/namespaces/none/pods", &pod("x"))
            .await
            .refused(404, "NotFound"),
        "namespaces \"none\" not found"
    );
    assert!(
        client
            .post(PODS, &pod("Bad_Name"))
            .await
            .refused(422, "Invalid")
            .contains("RFC 1123 subdomain")
    );
    let answer = client
        .post(
            PODS,
            &json!({ "kind": "Pod", "metadata": { "name": "x" }, "spec": { "containers": [{ "name": "c" }] } }),
        )
        .await;
    let causes = answer.body["details"]["causes"].as_array().unwrap();
    assert!(
        causes
            .iter()
            .any(|c| c["field"] == "spec.containers[0].image" && c["reason"] == "FieldValueRequired"),
        "{causes:?}"
    );
    answer.refused(422, "Invalid");
    let mut foreign = pod("x");
    foreign["spec"]["serviceAccountName"] = "ghost".into();
    assert!(
        client
            .post(PODS, &foreign)
            .await
            .refused(403, "Forbidden")
            .contains("serviceaccount \"ghost\" not found")
    );
    client
        .post(PODS, &config_map("x", json!({})))
        .await
        .refused(400, "BadRequest");
    client
        .post("/api/v1/namespaces/default/gadgets", &pod("x"))
        .await
        .refused(404, "NotFound");
}

#[tokio::test]
async fn field_validation_strict_warn_and_ignore() {
    let api = Api::start().await;
    let client = api.client();
    let mut typo = pod("x");
    typo["spec"]["containers"][0]["imagee"] = "y".into();
    let message = client
        .post(&format!("{PODS}?fieldValidation=Strict"), &typo)
        .await
        .refused(400, "BadRequest");
    assert!(
        message.contains("strict decoding error: unknown field \"spec.containers[0].imagee\""),
        "{message}"
    );
    let warned = client
        .post(&format!("{PODS}?fieldValidation=Warn&dryRun=All"), &typo)
        .await;
    assert_eq!(
        warned.headers["warning"],
        "299 - \"unknown field \\\"spec.containers[0].imagee\\\"\""
    );
    let ignored = client.post(&format!("{PODS}?fieldValidation=Ignore"), &typo).await;
    assert!(!ignored.headers.contains_key("warning"));
    assert!(
        ignored.ok()["spec"]["containers"][0].get("imagee").is_none(),
        "unknown fields are not stored"
    );

    let twice = br#"{"kind":"ConfigMap","metadata":{"name":"a","name":"b"}}"#.to_vec();
    let strict = client
        .call(
            "POST",
            &format!("{MAPS}?fieldValidation=Strict"),
            "application/json",
            twice,
        )
        .await;
    assert!(
        strict
            .refused(400, "BadRequest")
            .contains("duplicate field \"metadata.name\"")
    );
    let patch = client
        .patch(
            &format!("{PODS}/x?fieldValidation=Strict"),
            "merge",
            &json!({ "spec": { "nope": 1 } }),
        )
        .await;
    assert!(patch.refused(400, "BadRequest").contains("spec.nope"));
    client
        .post(&format!("{PODS}?fieldValidation=Maybe"), &typo)
        .await
        .refused(400, "BadRequest");
}

#[tokio::test]
async fn malformed_bodies_are_answered_and_not_fatal() {
    let api = Api::start().await;
    let client = api.client();
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"x\"",
        "{\"metadata\":5}",
        "{\"spec\":[]}",
        "{\"metadata\":{\"labels\":{\"a\":1}}}",
        "{\"kind\":7}",
    ] {
        let answer = client
            .call("POST", PODS, "application/json", body.as_bytes().to_vec())
            .await;
        assert!(
            (400..500).contains(&answer.code),
            "{body}: {} {}",
            answer.code,
            answer.body
        );
        assert_eq!(answer.body["kind"], "Status", "{body}");
    }
    let deep = [vec![b'['; 200_000], vec![b']'; 200_000]].concat();
    client
        .call("POST", PODS, "application/json", deep)
        .await
        .refused(400, "BadRequest");
    client
        .call("POST", PODS, "application/json", vec![b' '; (3 << 20) + 1])
        .await
        .refused(413, "RequestEntityTooLarge");
    client
        .call("POST", PODS, "text/plain", b"x".to_vec())
        .await
        .refused(415, "UnsupportedMediaType");
    client
        .call(
            "POST",
            PODS,
            "application/vnd.kubernetes.protobuf",
            b"k8s\0\xff\xff".to_vec(),
        )
        .await
        .refused(400, "BadRequest");
    for path in [
        "/api/v1/namespaces/%00/pods/%ff",
        "/api/v1/namespaces/a/pods/b/c/d",
        "/api/v2/pods",
        "/apis/x",
        "//",
        "/api/v1/nodes/x/y",
    ] {
        client.get(path).await.refused(404, "NotFound");
    }
    client
        .call("PUT", PODS, "application/json", b"{}".to_vec())
        .await
        .refused(405, "MethodNotAllowed");
    for query in [
        "labelSelector=a%20b",
        "fieldSelector=spec.x%3D1",
        "limit=x",
        "resourceVersion=x",
        "continue=zzz",
    ] {
        client.get(&format!("{PODS}?{query}")).await.refused(400, "BadRequest");
    }
    client.pod("still-alive").await;
}

#[tokio::test]
async fn yaml_bodies_are_taken() {
    let api = Api::start().await;
    let yaml = b"kind: ConfigMap\nmetadata: {name: from-yaml}\ndata: {a: b}\n".to_vec();
    let created = api.client().call("POST", MAPS, "application/yaml", yaml).await.ok();
    assert_eq!(created["data"], json!({ "a": "b" }));
}

#[tokio::test]
async fn updates_conflict_when_somebody_was_faster() {
    let api = Api::start().await;
    let client = api.client();
    let first = client.post(MAPS, &config_map("m", json!({ "a": "1" }))).await.ok();
    let path = format!("{MAPS}/m");
    let mut mine = first.clone();
    mine["data"]["a"] = "2".into();
    let second = client.put(&path, &mine).await.ok();
    assert!(version(&second) > version(&first));
    let message = client.put(&path, &mine).await.refused(409, "Conflict");
    assert_eq!(
        message,
        "Operation cannot be fulfilled on configmaps \"m\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let patch =
        json!({ "metadata": { "resourceVersion": first["metadata"]["resourceVersion"] }, "data": { "a": "3" } });
    client.patch(&path, "merge", &patch).await.refused(409, "Conflict");
    let mut blind = mine.clone();
    blind["metadata"] = json!({ "name": "m" });
    blind["data"]["a"] = "4".into();
    let third = client.put(&path, &blind).await.ok();
    assert_eq!(
        (&third["data"]["a"], &third["metadata"]["uid"]),
        (&json!("4"), &first["metadata"]["uid"])
    );
    let impostor = json!({ "metadata": { "uid": "other" } });
    assert!(
        client
            .patch(&path, "merge", &impostor)
            .await
            .refused(409, "Conflict")
            .contains("UID in precondition: other")
    );
    // Leases must be updated knowingly.
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = json!({ "metadata": { "name": "l" }, "spec": { "holderIdentity": "a" } });
    assert_eq!(
        client.put(&format!("{leases}/l"), &lease).await.code,
        201,
        "an update creates a lease"
    );
    assert!(
        client
            .put(&format!("{leases}/l"), &lease)
            .await
            .refused(422, "Invalid")
            .contains("must be specified for an update")
    );
    let mut renamed = third;
    renamed["metadata"]["name"] = "n".into();
    client.put(&path, &renamed).await.refused(400, "BadRequest");
}

#[tokio::test]
async fn every_patch_type_works_and_no_change_writes_nothing() {
    let api = Api::start().await;
    let client = api.client();
    let mut object = pod("web");
    object["metadata"]["labels"] = json!({ "a": "1" });
    let created = client.post(PODS, &object).await.ok();
    let path = format!("{PODS}/web");
    let merged = client
        .patch(
            &path,
            "merge",
            &json!({ "metadata": { "labels": { "a": null, "b": "2" } } }),
        )
        .await
        .ok();
    assert_eq!(merged["metadata"]["labels"], json!({ "b": "2" }));
    let json_patch = json!([{ "op": "test", "path": "/metadata/labels/b", "value": "2" }, { "op": "add", "path": "/metadata/labels/c", "value": "3" }]);
    assert_eq!(
        client.patch(&path, "json", &json_patch).await.ok()["metadata"]["labels"],
        json!({ "b": "2", "c": "3" })
    );
    let strategic = json!({ "spec": { "containers": [{ "name": "c", "image": "nginx:2" }] } });
    let changed = client.patch(&path, "strategic-merge", &strategic).await.ok();
    assert_eq!(
        (
            &changed["spec"]["containers"][0]["image"],
            &changed["metadata"]["generation"]
        ),
        (&json!("nginx:2"), &json!(2))
    );
    assert_eq!(
        changed["spec"]["containers"][0]["imagePullPolicy"],
        created["spec"]["containers"][0]["imagePullPolicy"]
    );
    let same = client.patch(&path, "strategic-merge", &strategic).await.ok();
    assert_eq!(same, changed, "not even the version changes");
    let failing = json!([{ "op": "test", "path": "/metadata/labels/b", "value": "9" }]);
    client.patch(&path, "json", &failing).await.refused(422, "Invalid");
    client
        .call("PATCH", &path, "application/json", b"{}".to_vec())
        .await
        .refused(415, "UnsupportedMediaType");
    client
        .patch(&format!("{PODS}/none"), "merge", &json!({}))
        .await
        .refused(404, "NotFound");
}

#[tokio::test]
async fn server_side_apply_creates_and_merges() {
    let api = Api::start().await;
    let client = api.client();
    let path = format!("{MAPS}/m");
    let config = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" }, "data": { "a": "1" } });
    client.patch(&path, "apply", &config).await.refused(400, "BadRequest");
    let managed = format!("{path}?fieldManager=test&force=true");
    assert_eq!(client.patch(&managed, "apply", &config).await.code, 201);
    let more = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "b": "2" } });
    assert_eq!(
        client.patch(&managed, "apply", &more).await.ok()["data"],
        json!({ "a": "1", "b": "2" })
    );
    let yaml = client
        .call(
            "PATCH",
            &managed,
            "application/apply-patch+yaml",
            b"data:\n  c: '3'\n".to_vec(),
        )
        .await
        .ok();
    assert_eq!(yaml["data"]["c"], "3");
}

#[tokio::test]
async fn spec_and_status_have_separate_doors() {
    let api = Api::start().await;
    let client = api.client();
    let mut created = client.pod("web").await;
    created["status"]["phase"] = "Running".into();
    created["metadata"]["labels"] = json!({ "x": "y" });
    let after = client.put(&format!("{PODS}/web"), &created).await.ok();
    assert_eq!(
        (&after["status"]["phase"], &after["metadata"]["labels"]),
        (&json!("Pending"), &json!({ "x": "y" }))
    );
    let patch = json!({ "metadata": { "uid": created["metadata"]["uid"] }, "spec": { "hostname": "h" }, "status": { "phase": "Running",
        "conditions": [{ "type": "Ready", "status": "True", "lastProbeTime": null }] } });
    let after = client
        .patch(&format!("{PODS}/web/status"), "strategic-merge", &patch)
        .await
        .ok();
    assert_eq!(
        (&after["status"]["phase"], after["spec"].get("hostname")),
        (&json!("Running"), None)
    );
    assert_eq!(after["metadata"]["generation"], json!(1), "only the spec is counted");
    let conditions: Vec<&Value> = after["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["type"])
        .collect();
    assert_eq!(conditions, [&json!("PodScheduled"), &json!("Ready")]);
    let stale = json!({ "metadata": { "uid": "gone" }, "status": { "phase": "Failed" } });
    client
        .patch(&format!("{PODS}/web/status"), "strategic-merge", &stale)
        .await
        .refused(409, "Conflict");
}

#[tokio::test]
async fn little_of_a_pod_can_change() {
    let api = Api::start().await;
    let client = api.client();
    client.pod("web").await;
    let path = format!("{PODS}/web");
    for spec in [
        json!({ "containers": [{ "name": "c", "command": ["x"] }] }),
        json!({ "containers": [{ "name": "d", "image": "x" }] }),
        json!({ "hostNetwork": true }),
        json!({ "nodeName": "other" }),
        json!({ "terminationGracePeriodSeconds": 1 }),
        json!({ "tolerations": [] }),
        json!({ "ephemeralContainers": [{ "name": "e", "image": "x" }] }),
    ] {
        let message = client
            .patch(&path, "strategic-merge", &json!({ "spec": spec }))
            .await
            .refused(422, "Invalid");
        assert!(message.contains("Forbidden"), "{spec}: {message}");
    }
    let shorter = client
        .patch(&path, "merge", &json!({ "spec": { "activeDeadlineSeconds": 10 } }))
        .await
        .ok();
    assert_eq!(shorter["metadata"]["generation"], json!(2));
    client
        .patch(&path, "merge", &json!({ "spec": { "activeDeadlineSeconds": 11 } }))
        .await
        .refused(422, "Invalid");
    let mut tolerations = shorter["spec"]["tolerations"].as_array().unwrap().clone();
    tolerations.push(json!({ "key": "k", "operator": "Exists" }));
    client
        .patch(&path, "merge", &json!({ "spec": { "tolerations": tolerations } }))
        .await
        .ok();
    let debug =
        json!({ "spec": { "ephemeralContainers": [{ "name": "e", "image": "x", "targetContainerName": "c" }] } });
    let with = client
        .patch(&format!("{path}/ephemeralcontainers"), "strategic-merge", &debug)
        .await
        .ok();
    assert_eq!(
        with["spec"]["ephemeralContainers"][0]["terminationMessagePath"],
        "/dev/termination-log"
    );
    client
        .patch(
            &path,
            "merge",
            &json!({ "metadata": { "labels": { "still": "changeable" } } }),
        )
        .await
        .ok();
    let gone = json!([{ "op": "remove", "path": "/spec/ephemeralContainers/0" }]);
    client
        .patch(&format!("{path}/ephemeralcontainers"), "json", &gone)
        .await
        .refused(422, "Invalid");
    let resize = json!({ "spec": { "containers": [{ "name": "c", "resources": { "limits": { "cpu": "1" } } }] } });
    client
        .patch(&path, "strategic-merge", &resize)
        .await
        .refused(422, "Invalid");
    // It would turn BestEffort into Burstable.
    client
        .patch(&format!("{path}/resize"), "strategic-merge", &resize)
        .await
        .refused(422, "Invalid");
}

#[tokio::test]
async fn a_pod_is_resized_within_bounds() {
    let api = Api::start().await;
    let client = api.client();
    let mut object = pod("p");
    let list = json!({ "cpu": "100m", "memory": "64Mi" });
    object["spec"]["containers"][0]["resources"] = json!({ "requests": list, "limits": list });
    let made = client.post(PODS, &object).await.ok();
    let path = format!("{PODS}/p/resize");
    let name = made["spec"]["containers"][0]["name"].clone();
    let ask = |resources: Value| json!({ "spec": { "containers": [{ "name": name, "resources": resources }] } });
    let more = json!({ "cpu": "200m", "memory": "32Mi" });
    let resized = client
        .patch(
            &path,
            "strategic-merge",
            &ask(json!({ "requests": more, "limits": more })),
        )
        .await
        .ok();
    assert_eq!(resized["spec"]["containers"][0]["resources"]["limits"], more);
    assert_eq!(resized["metadata"]["generation"], json!(2));
    for (refused, why) in [
        (
            json!({ "limits": { "memory": null }, "requests": { "memory": null } }),
            "cannot be removed",
        ),
        (
            json!({ "limits": { "ephemeral-storage": "1Gi" } }),
            "only cpu and memory",
        ),
    ] {
        let answer = client.patch(&path, "strategic-merge", &ask(refused)).await;
        let message = answer.refused(422, "Invalid");
        assert!(message.contains(why), "{message}");
    }
}

#[tokio::test]
async fn lists_by_selector_and_in_chunks() {
    let api = Api::start().await;
    let client = api.client();
    for i in 0..5 {
        let mut object = pod(&format!("p{i}"));
        object["metadata"]["labels"] = json!({ "n": i.to_string() });
        client.post(PODS, &object).await.ok();
    }
    let names = |list: &Value| -> Vec<String> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["metadata"]["name"].as_str().unwrap().into())
            .collect()
    };
    let some = client.get(&format!("{PODS}?labelSelector=n%20in%20(1,3)")).await.ok();
    assert_eq!(
        (names(&some), &some["kind"]),
        (vec!["p1".to_owned(), "p3".into()], &json!("PodList"))
    );
    let one = client
        .get("/api/v1/pods?fieldSelector=metadata.name%3Dp2,spec.nodeName%3D")
        .await
        .ok();
    assert_eq!(names(&one), ["p2"]);
    assert_eq!(
        names(&client.get("/api/v1/namespaces/kube-system/pods").await.ok()),
        [""; 0]
    );

    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("{PODS}?limit=2&continue={token}")).await.ok();
        seen.extend(names(&page));
        match page["metadata"]["continue"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
        assert!(page["metadata"]["remainingItemCount"].is_u64());
    }
    assert_eq!(seen, ["p0", "p1", "p2", "p3", "p4"]);
    let future = client.get(&format!("{PODS}?resourceVersion=999999")).await;
    assert!(future.refused(504, "Timeout").contains("Too large resource version"));
}

#[tokio::test]
async fn tables_and_bare_metadata() {
    let api = Api::start().await;
    let client = api.client();
    client.pod("web").await;
    let table = client.table(PODS).await;
    assert_eq!(table["kind"], "Table");
    let columns: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns[..5], ["Name", "Ready", "Status", "Restarts", "Age"]);
    assert_eq!(
        table["rows"][0]["cells"].as_array().unwrap()[..4],
        [json!("web"), json!("0/1"), json!("Pending"), json!("0")]
    );
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let accept = [(
        "accept",
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    )];
    let response = client.send("GET", PODS, &accept, Vec::new()).await;
    let body = http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap()
        .to_bytes();
    let list: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&list["kind"], &list["items"][0]["metadata"]["name"]),
        (&json!("PartialObjectMetadataList"), &json!("web"))
    );
    assert!(list["items"][0].get("spec").is_none());
    let response = client.send("GET", PODS, &[("accept", "text/html")], Vec::new()).await;
    assert_eq!(response.status().as_u16(), 406);
}

#[tokio::test]
async fn secrets_and_config_maps_keep_their_rules() {
    let api = Api::start().await;
    let client = api.client();
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "a": "hello" } });
    let created = client.post(secrets, &secret).await.ok();
    assert_eq!(
        (&created["data"]["a"], &created["type"], created.get("stringData")),
        (&json!("aGVsbG8="), &json!("Opaque"), None)
    );
    client
        .patch(&format!("{secrets}/s"), "merge", &json!({ "type": "other" }))
        .await
        .refused(422, "Invalid");
    let tls = json!({ "metadata": { "name": "t" }, "type": "kubernetes.io/tls" });
    assert!(
        client
            .post(secrets, &tls)
            .await
            .refused(422, "Invalid")
            .contains("data[tls.crt]: Required value")
    );
    let mut fixed = config_map("m", json!({ "k": "v" }));
    fixed["immutable"] = true.into();
    client.post(MAPS, &fixed).await.ok();
    let message = client
        .patch(&format!("{MAPS}/m"), "merge", &json!({ "data": { "k": "w" } }))
        .await
        .refused(422, "Invalid");
    assert!(
        message.contains("field is immutable when `immutable` is set"),
        "{message}"
    );
    client
        .post(MAPS, &config_map("n", json!({ "bad key": "v" })))
        .await
        .refused(422, "Invalid");
    client
        .post(MAPS, &config_map("n", json!({ "k": "x".repeat((1 << 20) + 1) })))
        .await
        .refused(422, "Invalid");
}

#[tokio::test]
async fn both_event_apis_show_the_same_events() {
    let api = Api::start().await;
    let client = api.client();
    let events = "/api/v1/namespaces/default/events";
    let newer = "/apis/events.k8s.io/v1/namespaces/default/events";
    let event = json!({ "metadata": { "name": "e" }, "involvedObject": { "kind": "Pod", "name": "p", "namespace": "default" }, "message": "hi",
        "reason": "Started", "type": "Normal", "count": 2, "source": { "component": "kubelet" } });
    client.post(events, &event).await.ok();
    let seen = client.get(&format!("{newer}/e")).await.ok();
    assert_eq!(
        (&seen["apiVersion"], &seen["note"], &seen["regarding"]["name"]),
        (&json!("events.k8s.io/v1"), &json!("hi"), &json!("p"))
    );
    assert_eq!(seen["deprecatedCount"], json!(2));
    client
        .patch(&format!("{newer}/e"), "merge", &json!({ "note": "ho" }))
        .await
        .ok();
    assert_eq!(client.get(&format!("{events}/e")).await.ok()["message"], "ho");
    let made = json!({ "metadata": { "name": "f" }, "regarding": { "kind": "Pod", "name": "q", "namespace": "default" }, "eventTime": "2026-01-01T00:00:00Z",
        "reportingController": "x", "reportingInstance": "y", "action": "a", "reason": "r", "type": "Warning", "note": "n" });
    client.post(newer, &made).await.ok();
    let list = client
        .get(&format!(
            "{events}?fieldSelector=involvedObject.name%3Dq,type%3DWarning"
        ))
        .await
        .ok();
    assert_eq!(list["items"][0]["message"], "n");
    let list = client
        .get(&format!("{newer}?fieldSelector=regarding.name%3Dq"))
        .await
        .ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let mut foreign = event;
    foreign["metadata"]["name"] = "g".into();
    foreign["involvedObject"]["namespace"] = "kube-system".into();
    client.post(events, &foreign).await.refused(422, "Invalid");
}
