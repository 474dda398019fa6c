#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use serde_json::json;
use witlet_core::ids::PodUid;
use witlet_ports::api::Token;
use witlet_ports::{Error, Result as PortResult};

use super::*;

struct Api;

#[async_trait]
impl Objects for Api {
    async fn config_map(&self, _: &str, name: &str) -> PortResult<Arc<ConfigMap>> {
        Err(Error::not_found(name))
    }
    async fn secret(&self, _: &str, name: &str) -> PortResult<Arc<Secret>> {
        Err(Error::not_found(name))
    }
    async fn service_account(&self, namespace: &str, name: &str) -> PortResult<Arc<ServiceAccount>> {
        if name == "missing" {
            return Err(Error::not_found(name));
        }
        let annotations = if name == "bare" {
            json!({})
        } else {
            json!({"a/role": "r", "other": "o"})
        };
        let object =
            json!({"metadata": {"name": name, "namespace": namespace, "uid": "7", "annotations": annotations}});
        Ok(Arc::new(serde_json::from_value(object).unwrap()))
    }
    async fn token(&self, request: &TokenRequest) -> PortResult<Token> {
        Ok(Token {
            token: format!("{}-{}", request.pod_name, request.audience.clone().unwrap_or_default()),
            expires: jiff::Timestamp::MAX,
        })
    }
    async fn services(&self) -> PortResult<Vec<Arc<Service>>> {
        Ok(Vec::new())
    }
    async fn runtime_handler(&self, class: &str) -> PortResult<String> {
        Err(Error::not_found(class))
    }
    fn register(&self, _: &Arc<Pod>) {}
    fn unregister(&self, _: &PodUid) {}
}

const V1: &str = "credentialprovider.kubelet.k8s.io/v1";

/// A provider whose program is a script; every run leaves a line in the file `runs`.
fn provider(dir: &Path, script: &str, more: serde_json::Value) -> Provider {
    let program = dir.join("p");
    fs::write(
        &program,
        format!("#!/bin/sh\necho x >> {}/runs\n{script}\n", dir.display()),
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut entry = json!({"name": "p", "matchImages": ["*.example"], "defaultCacheDuration": "1m", "apiVersion": V1,
        "args": ["arg"], "env": [{"name": "EXTRA", "value": "extra"}]});
    for (key, value) in more.as_object().unwrap() {
        entry[key] = value.clone();
    }
    let config =
        json!({"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": [entry]});
    let file = dir.join("config.yaml");
    fs::write(&file, config.to_string()).unwrap();
    load(&file, dir).unwrap().all.remove(0)
}

fn says(scope: &str, more: &str) -> String {
    format!(
        r#"echo "{{\"apiVersion\":\"{V1}\",\"kind\":\"CredentialProviderResponse\",\"cacheKeyType\":\"{scope}\"{more},\"auth\":{{\"reg.example\":{{\"username\":\"$1-$EXTRA\",\"password\":\"p\"}}}}}}""#
    )
}

fn pod(name: &str, account: &str) -> Pod {
    let spec = json!({"containers": [], "serviceAccountName": account});
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": spec})).unwrap()
}

fn runs(dir: &Path) -> usize {
    fs::read_to_string(dir.join("runs")).unwrap_or_default().lines().count()
}

async fn users(provider: &Provider, image: &str, pod: &Pod) -> Vec<String> {
    let objects: Arc<dyn Objects> = Arc::new(Api);
    let found = lookup(std::slice::from_ref(provider), image, pod, &objects, &Arc::default()).await;
    found.into_iter().map(|c| c.auth.username).collect()
}

#[tokio::test]
async fn answers_are_kept_as_far_as_they_reach() {
    for (scope, more, expected) in [
        ("Image", "", 2),
        ("Registry", "", 1),
        ("Global", "", 1),
        ("Global", r#",\"cacheDuration\":\"0s\""#, 3),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let provider = provider(dir.path(), &says(scope, more), json!({}));
        let pod = pod("a", "");
        for image in ["reg.example/a", "reg.example/b", "reg.example/a"] {
            assert_eq!(users(&provider, image, &pod).await, ["arg-extra"], "{scope}{more}");
        }
        assert_eq!(runs(dir.path()), expected, "{scope}{more}");
        assert!(users(&provider, "reg.elsewhere/a", &pod).await.is_empty(), "not asked");
        assert_eq!(runs(dir.path()), expected);
    }
}

#[tokio::test]
async fn the_same_question_is_asked_once_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("sleep 0.2; {}", says("Global", r#",\"cacheDuration\":\"0s\""#));
    let provider = provider(dir.path(), &script, json!({}));
    let pod = pod("a", "");
    let all = futures::future::join_all((0..5).map(|_| users(&provider, "reg.example/a", &pod))).await;
    assert_eq!(all, vec![["arg-extra"]; 5]);
    assert_eq!(runs(dir.path()), 1);
}

#[tokio::test]
async fn failures_give_no_credentials() {
    for script in [
        "exit 1",
        "echo no json",
        "kill -9 $$",
        "exec >&-; cat",
        "head -c 3000000 /dev/zero",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let provider = provider(dir.path(), script, json!({}));
        assert!(
            users(&provider, "reg.example/a", &pod("a", "")).await.is_empty(),
            "{script}"
        );
        assert!(provider.under_way.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn service_accounts_are_told_and_kept_apart() {
    let token = |required: bool, cache: &str| {
        json!({"tokenAttributes": {"serviceAccountTokenAudience": "aud", "cacheType": cache, "requireServiceAccount": required,
            "requiredServiceAccountAnnotationKeys": if required { vec!["a/role"] } else { vec![] }}})
    };
    let check = format!(
        "grep -q '\"serviceAccountToken\":\"[ab]-aud\",\"serviceAccountAnnotations\":{{\"a/role\":\"r\"}}' || exit 1\n{}",
        says("Global", "")
    );
    for (cache, expected) in [("ServiceAccount", 1), ("Token", 2)] {
        let dir = tempfile::tempdir().unwrap();
        let provider = provider(dir.path(), &check, token(true, cache));
        for name in ["a", "b", "a"] {
            assert_eq!(
                users(&provider, "reg.example/a", &pod(name, "sa")).await,
                ["arg-extra"],
                "{cache}"
            );
        }
        assert_eq!(runs(dir.path()), expected, "{cache}");
        for account in ["", "bare", "missing"] {
            assert!(
                users(&provider, "reg.example/a", &pod("c", account)).await.is_empty(),
                "{account}"
            );
        }
        assert_eq!(runs(dir.path()), expected, "not asked");
    }
    let dir = tempfile::tempdir().unwrap();
    let provider = provider(dir.path(), &says("Global", ""), token(false, "Token"));
    let objects: Arc<dyn Objects> = Arc::new(Api);
    let found = lookup(
        std::slice::from_ref(&provider),
        "reg.example/a",
        &pod("s", ""),
        &objects,
        &Arc::default(),
    )
    .await;
    assert_eq!(found[0].source, Source::Node);
    let found = lookup(&[provider], "reg.example/a", &pod("t", "sa"), &objects, &Arc::default()).await;
    assert!(matches!(&found[0].source, Source::ServiceAccount(a) if a.uid == "7" && a.name == "sa"));
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    assert!(load(&path.join("missing"), path).is_err());
    assert!(
        load(path, path)
            .err()
            .unwrap()
            .starts_with("no configuration files found in directory")
    );
    let text = format!(
        "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders: [{{name: none, matchImages: [a.example], defaultCacheDuration: 1m, apiVersion: {V1}}}]\n"
    );
    fs::write(path.join("a.yaml"), &text).unwrap();
    let error = load(path, path).err().unwrap();
    assert!(error.ends_with("/none did not exist"), "{error}");
    fs::write(path.join("none"), "").unwrap();
    assert!(load(path, path).is_err(), "it must be executable");
    fs::set_permissions(path.join("none"), fs::Permissions::from_mode(0o755)).unwrap();
    let one = load(path, path).unwrap();
    assert_eq!(one.all.len(), 1);
    assert_eq!(load(path, path).unwrap().hash, one.hash, "the same files");
    assert!(
        one.hash
            .as_ref()
            .is_some_and(|h| h.starts_with("sha256:") && h.len() == 71)
    );
    fs::write(path.join("b.json"), &text).unwrap();
    assert!(load(path, path).err().unwrap().contains("there are two of this name"));
}

#[tokio::test]
async fn runs_are_counted_and_measured() {
    let objects: Arc<dyn Objects> = Arc::new(Api);
    let metrics = Arc::<Metrics>::default();
    let (good, bad) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let zero = json!({ "defaultCacheDuration": "0s" });
    let providers = [
        provider(good.path(), &says("Image", ""), zero.clone()),
        provider(bad.path(), "exit 3", zero),
    ];
    lookup(&providers, "reg.example/a", &pod("s", ""), &objects, &metrics).await;
    lookup(&providers[..1], "reg.example/a", &pod("s", ""), &objects, &metrics).await;
    let text = crate::metrics::text(&metrics.kubelet.families());
    for line in [
        "kubelet_credential_provider_plugin_duration_count{plugin_name=\"p\"} 3",
        "kubelet_credential_provider_plugin_errors_total{plugin_name=\"p\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
}
