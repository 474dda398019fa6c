#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn config(provider: Value) -> Result<Provider, Vec<String>> {
    let file = json!({
        "apiVersion": "kubelet.config.k8s.io/v1",
        "kind": "CredentialProviderConfig",
        "providers": [provider],
    });
    parse(&[("f".into(), file.to_string())]).map(|mut list| list.remove(0))
}

fn with(changes: Value) -> Result<Provider, Vec<String>> {
    let mut provider = json!({
        "name": "p", "matchImages": ["*.reg.example"], "defaultCacheDuration": "10m",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
    });
    for (key, value) in changes.as_object().unwrap() {
        provider[key] = value.clone();
    }
    config(provider)
}

fn token(changes: Value) -> Value {
    let mut token =
        json!({"serviceAccountTokenAudience": "a", "cacheType": "ServiceAccount", "requireServiceAccount": true});
    for (key, value) in changes.as_object().unwrap() {
        token[key] = value.clone();
    }
    json!({"tokenAttributes": token})
}

#[test]
fn a_file_in_yaml() {
    let text = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- name: ecr\n  matchImages: [\"*.dkr.ecr.*.amazonaws.com\"]\n  defaultCacheDuration: \"12h\"\n  apiVersion: credentialprovider.kubelet.k8s.io/v1\n  args: [get]\n  env: [{name: A, value: b}]\n";
    let providers = parse(&[("f".into(), text.into())]).unwrap();
    let provider = &providers[0];
    assert_eq!(provider.default_cache_duration(), Duration::from_secs(12 * 3600));
    assert!(provider.is_for("1.dkr.ecr.eu-1.amazonaws.com/app"));
    assert!(!provider.is_for("reg.example/app"));
    let two = parse(&[("a".into(), text.into()), ("b".into(), text.into())]).unwrap_err();
    assert_eq!(two, ["b: provider \"ecr\": there are two of this name"]);
}

#[test]
fn every_mistake_is_told() {
    for (changes, problem) in [
        (json!({"name": "a/b"}), "provider name cannot contain '/'"),
        (json!({"name": "a b"}), "provider name cannot contain spaces"),
        (json!({"name": ".."}), "provider name cannot be '.' or '..'"),
        (json!({"name": ""}), "name must be the name of a program"),
        (json!({"matchImages": []}), "at least 1 item in matchImages is required"),
        (
            json!({"matchImages": ["https://x"]}),
            "match image is invalid: \"https://x\" must be host[:port][/path]",
        ),
        (
            json!({"defaultCacheDuration": null}),
            "defaultCacheDuration is required",
        ),
        (
            json!({"defaultCacheDuration": "-1s"}),
            "defaultCacheDuration must be a duration such as \"10m\", and not negative",
        ),
        (
            token(json!({"serviceAccountTokenAudience": ""})),
            "tokenAttributes.serviceAccountTokenAudience is required",
        ),
        (
            token(json!({"requireServiceAccount": null})),
            "tokenAttributes.requireServiceAccount is required",
        ),
        (
            token(json!({"cacheType": ""})),
            "tokenAttributes.cacheType must be \"ServiceAccount\" or \"Token\"",
        ),
        (
            token(json!({"requireServiceAccount": false, "requiredServiceAccountAnnotationKeys": ["a/b"]})),
            "requireServiceAccount cannot be false when requiredServiceAccountAnnotationKeys is set",
        ),
        (
            token(
                json!({"requiredServiceAccountAnnotationKeys": ["a/b"], "optionalServiceAccountAnnotationKeys": ["a/b"]}),
            ),
            "annotation key \"a/b\" is listed twice",
        ),
    ] {
        let problems = with(changes.clone()).unwrap_err();
        assert_eq!(problems.len(), 1, "{changes}: {problems:?}");
        assert!(problems[0].ends_with(problem), "{changes}: {problems:?}");
    }
    assert!(with(json!({"apiVersion": "x"})).unwrap_err()[0].contains("apiVersion must be one of"));
    let mut old = token(json!({}));
    old["apiVersion"] = json!("credentialprovider.kubelet.k8s.io/v1beta1");
    assert!(with(old).unwrap_err()[0].contains("only supported for credentialprovider.kubelet.k8s.io/v1"));
    assert!(with(json!({"unknown": 1})).is_err());
    assert!(with(token(json!({}))).is_ok());
    for broken in ["", "{", "kind: Pod\napiVersion: v1\n"] {
        assert!(parse(&[("f".into(), broken.into())]).is_err(), "{broken}");
    }
}

#[test]
fn requests() {
    let provider = with(json!({})).unwrap();
    let text = |token: &str, annotations: &BTreeMap<String, String>| {
        String::from_utf8(request(&provider, "r/a", token, annotations)).unwrap()
    };
    assert_eq!(
        text("", &BTreeMap::new()),
        r#"{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"r/a"}"#
    );
    let annotations = [("k".to_owned(), "v".to_owned())].into();
    assert!(text("t", &annotations).ends_with(r#","serviceAccountToken":"t","serviceAccountAnnotations":{"k":"v"}}"#));
}

fn response(changes: Value) -> Vec<u8> {
    let mut response = json!({
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse", "cacheKeyType": "Registry",
        "auth": {"*.reg.example": {"username": "u", "password": "secret"}},
    });
    for (key, value) in changes.as_object().unwrap() {
        response[key] = value.clone();
    }
    response.to_string().into_bytes()
}

#[test]
fn answers() {
    let provider = with(json!({})).unwrap();
    let read = |changes: Value| answer(&provider, "a.reg.example/app", "", &response(changes));
    let usual = read(json!({})).unwrap();
    assert_eq!(usual.scope, Scope::Registry("a.reg.example".into()));
    assert_eq!(usual.lifetime, Some(Duration::from_secs(600)));
    assert_eq!(usual.logins["*.reg.example"].password, "secret");
    assert_eq!(read(json!({"cacheKeyType": "Global"})).unwrap().scope, Scope::Global);
    assert_eq!(
        read(json!({"cacheKeyType": "Image"})).unwrap().scope,
        Scope::Image("a.reg.example/app".into())
    );
    assert_eq!(read(json!({"cacheDuration": "0s"})).unwrap().lifetime, None);
    assert_eq!(
        read(json!({"cacheDuration": "1h"})).unwrap().lifetime,
        Some(Duration::from_secs(3600))
    );
    assert!(read(json!({"auth": null})).unwrap().logins.is_empty());
    for bad in [
        json!({"apiVersion": "credentialprovider.kubelet.k8s.io/v1beta1"}),
        json!({"kind": "Other"}),
        json!({"cacheKeyType": "Other"}),
        json!({"cacheDuration": "soon"}),
        json!({"auth": {"x": {"username": 1, "password": "secret"}}}),
    ] {
        let error = read(bad.clone()).err().unwrap_or_else(|| panic!("{bad}"));
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn tokens_are_not_kept_for_others() {
    let echo = response(json!({"auth": {"x": {"username": "u", "password": "token"}}}));
    let by_account = with(token(json!({}))).unwrap();
    assert!(answer(&by_account, "i", "token", &echo).is_err());
    let by_token = with(token(json!({"cacheType": "Token"}))).unwrap();
    assert!(answer(&by_token, "i", "token", &echo).is_ok());
}

#[test]
fn annotations() {
    let attributes = with(token(json!({
        "requiredServiceAccountAnnotationKeys": ["a/r"], "optionalServiceAccountAnnotationKeys": ["a/o"],
    })))
    .unwrap()
    .token_attributes
    .unwrap();
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    assert_eq!(attributes.annotations(&map(&[("a/o", "1")])), None);
    assert_eq!(
        attributes.annotations(&map(&[("a/r", "1"), ("x", "2")])),
        Some(map(&[("a/r", "1")]))
    );
    assert_eq!(
        attributes.annotations(&map(&[("a/r", "1"), ("a/o", "2")])),
        Some(map(&[("a/r", "1"), ("a/o", "2")]))
    );
}

proptest! {
    #[test]
    fn never_panics(text in "[\\[\\]{}\":,a-zA-Z0-9\n -]{0,80}") {
        let _ = parse(&[("f".into(), text.clone())]);
        let _ = answer(&with(json!({})).unwrap(), &text, "", text.as_bytes());
    }
}
