#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use witlet_ports::Class;

use super::*;
use crate::mock::{Mock, Seen, failure};

fn pod(uid: &str, maps: &[&str]) -> Arc<Pod> {
    let volumes: Vec<_> = maps
        .iter()
        .map(|m| json!({"name": m, "configMap": {"name": m}}))
        .collect();
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": uid, "namespace": "ns", "uid": uid},
            "spec": {"containers": [], "volumes": volumes}}))
        .unwrap(),
    )
}

/// Lists have the one object that their field selector names, if it is in `have`.
fn api(have: &'static [(&'static str, bool)]) -> Mock {
    Mock::new(move |request: &Seen| {
        if request.query.contains("watch=true") {
            return (200, json!([]));
        }
        let named = have
            .iter()
            .filter(|(name, _)| request.query.contains(&format!("metadata.name%3D{name}")));
        let items: Vec<Value> = named
            .map(|(name, immutable)| {
                json!({"metadata": {"name": name, "namespace": "ns", "managedFields": [{}]},
                "immutable": immutable, "data": {"k": name}})
            })
            .collect();
        (200, json!({"metadata": {"resourceVersion": "1"}, "items": items}))
    })
}

fn watches(mock: &Mock, name: &str) -> usize {
    let named = format!("metadata.name%3D{name}");
    mock.requests()
        .iter()
        .filter(|r| r.query.contains("watch=true") && r.query.contains(&named))
        .count()
}

#[tokio::test]
async fn objects_are_watched_from_the_first_reference_to_the_last() {
    let mock = api(&[("a", false), ("b", false)]);
    let objects = mock.client().objects(CancellationToken::new());
    let error = objects.config_map("ns", "a").await.unwrap_err();
    assert_eq!(error.message, "object \"ns\"/\"a\" not registered");

    objects.register(&pod("p1", &["a"]));
    objects.register(&pod("p2", &["a", "b", "nowhere"]));
    let map = objects.config_map("ns", "a").await.unwrap();
    assert_eq!(map.data.as_ref().unwrap()["k"], "a");
    assert_eq!(map.metadata.managed_fields, None);
    let missing = objects.config_map("ns", "nowhere").await.unwrap_err();
    assert_eq!(
        (missing.class, missing.message.as_str()),
        (Class::NotFound, "configmap \"nowhere\" not found")
    );

    objects.unregister(&"p1".into());
    assert_eq!(objects.0.config_maps.watched().len(), 3);
    objects.register(&pod("p2", &["b"]));
    assert_eq!(objects.0.config_maps.watched(), [("ns".to_owned(), "b".to_owned())]);
    objects.config_map("ns", "a").await.unwrap_err();
    objects.unregister(&"p2".into());
    objects.unregister(&"p2".into());
    assert!(objects.0.config_maps.watched().is_empty());
}

/// The API server forgets at a pod's deletion what its node may read: to ask then is to be refused.
#[tokio::test]
async fn a_pod_that_is_over_has_nothing_watched_anew() {
    let mock = api(&[("a", false), ("b", false)]);
    let objects = mock.client().objects(CancellationToken::new());
    let with = |uid: &str, maps: &[&str], more: Value| {
        let mut pod = serde_json::to_value(&*pod(uid, maps)).unwrap();
        for (part, fields) in more.as_object().unwrap() {
            let part = pod.as_object_mut().unwrap().entry(part).or_insert_with(|| json!({}));
            part.as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
        }
        Arc::new(serde_json::from_value::<Pod>(pod).unwrap())
    };
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    for over in [
        deleted.clone(),
        json!({"status": {"phase": "Succeeded"}}),
        json!({"status": {"phase": "Failed"}}),
    ] {
        objects.register(&with("p1", &["a"], over));
        assert!(objects.0.config_maps.watched().is_empty());
    }
    objects.register(&with("p2", &["b"], json!({"status": {"phase": "Running"}})));
    objects.register(&with("p2", &["b"], deleted));
    assert_eq!(
        objects.0.config_maps.watched(),
        [("ns".to_owned(), "b".to_owned())],
        "it may still be needed until the pod has ended"
    );
}

#[tokio::test]
async fn an_immutable_object_is_not_watched_but_served() {
    let mock = api(&[("fixed", true), ("other", false)]);
    let objects = mock.client().objects(CancellationToken::new());
    objects.register(&pod("p", &["fixed", "other"]));
    objects.config_map("ns", "fixed").await.unwrap();
    let wait = async {
        while watches(&mock, "other") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    objects.config_map("ns", "fixed").await.unwrap();
    assert_eq!(watches(&mock, "fixed"), 0);
}

#[tokio::test]
async fn an_api_that_does_not_answer_is_an_error_and_not_an_absence() {
    let mock = Mock::new(|_| failure(503, "ServiceUnavailable", "away"));
    let objects = mock.client().objects(CancellationToken::new());
    objects.register(&pod("p", &["a"]));
    let error = objects.config_map("ns", "a").await.unwrap_err();
    assert_eq!(
        (error.class, error.message.as_str()),
        (
            Class::Retry,
            "failed to sync configmap cache: timed out waiting for the condition"
        )
    );
    assert_eq!(objects.services().await.unwrap_err().class, Class::Retry);
}

#[tokio::test]
async fn services_without_an_address_are_left_out() {
    let mock = Mock::new(|request| {
        if request.query.contains("watch=true") {
            return (200, json!([]));
        }
        let service =
            |name: &str, ip: &str| json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {"clusterIP": ip}});
        (
            200,
            json!({"metadata": {"resourceVersion": "1"}, "items": [service("a", "10.0.0.1"), service("b", "None"), service("c", "")]}),
        )
    });
    let objects = mock.client().objects(CancellationToken::new());
    let services = objects.services().await.unwrap();
    let names: Vec<_> = services.iter().map(|s| s.metadata.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["a"]);
    objects.services().await.unwrap();
    let lists = mock
        .requests()
        .iter()
        .filter(|r| !r.query.contains("watch=true"))
        .count();
    assert_eq!(lists, 1, "one watch serves all");
}

#[tokio::test]
async fn runtime_classes_name_their_handler() {
    let mock = Mock::new(|request| {
        if request.query.contains("watch=true") {
            return (200, json!([]));
        }
        (
            200,
            json!({"metadata": {"resourceVersion": "1"}, "items": [{"metadata": {"name": "vm"}, "handler": "kata"}]}),
        )
    });
    let objects = mock.client().objects(CancellationToken::new());
    assert_eq!(objects.runtime_handler("vm").await.unwrap(), "kata");
    let error = objects.runtime_handler("x").await.unwrap_err();
    assert_eq!(
        (error.class, error.message.as_str()),
        (Class::NotFound, "RuntimeClass \"x\" not found")
    );
}

#[test]
fn every_kind_of_reference_is_found() {
    let pod: Pod = serde_json::from_value(json!({"metadata": {"namespace": "ns"}, "spec": {
        "imagePullSecrets": [{"name": "s1"}],
        "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "s2"}}, {"configMapRef": {"name": "m1"}}]}],
        "containers": [{"name": "c", "env": [
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "k"}}},
            {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "m2", "key": "k"}}}]}],
        "volumes": [
            {"name": "a", "secret": {"secretName": "s4"}}, {"name": "b", "configMap": {"name": "m3"}},
            {"name": "c", "projected": {"sources": [{"secret": {"name": "s5"}}, {"configMap": {"name": "m4"}}, {"configMap": {"name": ""}}]}},
            {"name": "d", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "s6"}}}]}}))
    .unwrap();
    let found = references(&pod);
    let names = |set: &BTreeSet<references::Name>| set.iter().map(|(_, n)| n.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found.config_maps), ["m1", "m2", "m3", "m4"]);
    assert_eq!(names(&found.secrets), ["s1", "s2", "s3", "s4", "s5", "s6"]);
}

fn token_request(uid: &str) -> TokenRequest {
    TokenRequest {
        namespace: "ns".into(),
        service_account: "default".into(),
        audience: Some("aud".into()),
        expiration_seconds: Some(3607),
        pod_name: "p".into(),
        pod_uid: uid.into(),
    }
}

#[tokio::test]
async fn tokens_are_bound_to_the_pod_cached_and_forgotten_with_it() {
    let mock = Mock::new(|_| {
        (
            201,
            json!({"metadata": {}, "spec": {"audiences": ["aud"], "expirationSeconds": 3607},
            "status": {"token": "secret", "expirationTimestamp": "2999-01-01T00:00:00Z"}}),
        )
    });
    let objects = mock.client().objects(CancellationToken::new());
    // Issued far in the future by its end and length: fresh.
    assert_eq!(objects.token(&token_request("u")).await.unwrap().token, "secret");
    objects.token(&token_request("u")).await.unwrap();
    let [request] = mock.requests().try_into().unwrap();
    assert_eq!(
        request.line(),
        "POST /api/v1/namespaces/ns/serviceaccounts/default/token"
    );
    assert_eq!(
        request.body["spec"],
        json!({"audiences": ["aud"], "expirationSeconds": 3607,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}})
    );
    objects.unregister(&"u".into());
    objects.token(&token_request("u")).await.unwrap();
    assert_eq!(mock.requests().len(), 2);
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_serves_to_its_end() {
    for (expires, served) in [("2999-01-01T00:00:00Z", true), ("2020-01-01T00:00:00Z", false)] {
        let first = std::sync::atomic::AtomicBool::new(true);
        let mock = Mock::new(move |_| {
            if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                // So long a life that its last fifth, or its first day, is over.
                return (
                    201,
                    json!({"metadata": {}, "spec": {"audiences": [], "expirationSeconds": 60_000_000_000_i64},
                    "status": {"token": "old", "expirationTimestamp": expires}}),
                );
            }
            failure(500, "InternalError", "away")
        });
        let objects = mock.client().objects(CancellationToken::new());
        assert_eq!(objects.token(&token_request("u")).await.unwrap().token, "old");
        let again = objects.token(&token_request("u")).await;
        if served {
            assert_eq!(again.unwrap().token, "old");
        } else {
            assert_eq!(
                again.unwrap_err().message,
                "token \"ns/default\" expired and refresh failed: away"
            );
        }
    }
    let mock = Mock::new(|_| failure(403, "Forbidden", "no"));
    let error = mock
        .client()
        .objects(CancellationToken::new())
        .token(&token_request("u"))
        .await
        .unwrap_err();
    assert_eq!(
        (error.class, error.message.as_str()),
        (Class::Denied, "failed to fetch token: no")
    );
}
