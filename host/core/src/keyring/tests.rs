#![allow(clippy::unwrap_used)]
use k8s_openapi::ByteString;
use serde_json::json;

use super::*;

fn secret(name: &str, config: &str) -> Secret {
    let mut secret = Secret {
        type_: Some("kubernetes.io/dockerconfigjson".into()),
        data: Some([(".dockerconfigjson".to_owned(), ByteString(config.as_bytes().to_vec()))].into()),
        ..Secret::default()
    };
    secret.metadata.name = Some(name.to_owned());
    secret
}

fn users(config: &str, repository: &str) -> Vec<String> {
    let mut keyring = Keyring::default();
    keyring.add_secret(&secret("s", config)).unwrap();
    keyring
        .lookup(repository)
        .into_iter()
        .map(|c| c.auth.username)
        .collect()
}

#[test]
fn matching_follows_the_contract() {
    let config = r#"{"auths":{
        "https://reg.example/v1/":{"username":"host"}, "reg.example/team":{"username":"team"},
        "*.wild.example":{"username":"wild"}, "port.example:5000":{"username":"port"},
        "http://versioned.example/v2/team":{"username":"versioned"}, "bare.example/v2":{"username":"bare"},
        "v2.example/v2x":{"username":"not a version"},
        "https://index.docker.io/v1/":{"username":"hub"}}}"#;
    for (repository, expected) in [
        ("reg.example/app", vec!["host"]),
        ("reg.example/team/app", vec!["team", "host"]),
        ("a.wild.example/x", vec!["wild"]),
        ("a.b.wild.example/x", vec![]),
        ("port.example:5000/x", vec!["port"]),
        ("port.example/x", vec![]),
        ("port.example:5001/x", vec![]),
        ("versioned.example/team/x", vec!["versioned"]),
        ("versioned.example/x", vec![]),
        ("bare.example/x", vec!["bare"]),
        ("v2.example/v2x/y", vec!["not a version"]),
        ("docker.io/library/busybox", vec!["hub"]),
        ("localhost/x", vec![]),
        ("other.example/x", vec![]),
    ] {
        assert_eq!(users(config, repository), expected, "{repository}");
    }
}

#[test]
fn all_secrets_contribute_in_their_order() {
    let mut keyring = Keyring::default();
    for (name, key) in [("a", "reg.example"), ("b", "reg.example/team"), ("c", "reg.example")] {
        let config = json!({"auths": {key: {"username": name}}}).to_string();
        keyring.add_secret(&secret(name, &config)).unwrap();
    }
    let found = keyring.lookup("reg.example/team/app");
    let names: Vec<_> = found.iter().map(|c| c.auth.username.as_str()).collect();
    assert_eq!(names, ["b", "a", "c"]);
    assert!(matches!(&found[0].source, Source::Secret(s) if s.name == "b"));
}

#[test]
fn auth_fields_hold_user_and_password() {
    let of = |auth: &str| {
        let text = json!({"auths": {"r.example": {"username": "u", "password": "p", "auth": auth}}}).to_string();
        docker_config_json(text.as_bytes()).map(|mut c| c.remove("r.example").unwrap())
    };
    for (auth, user, password) in [
        ("", "u", "p"),
        // alice:s3c:ret, with and without padding
        ("YWxpY2U6czNjOnJldA==", "alice", "s3c:ret"),
        ("YWxpY2U6czNjOnJldA", "alice", "s3c:ret"),
    ] {
        let login = of(auth).unwrap_or_else(|e| panic!("{auth}: {e}"));
        assert_eq!((login.username.as_str(), login.password.as_str()), (user, password));
    }
    // No colon, no base64.
    for auth in ["YWxpY2U", "%%%%"] {
        let error = of(auth).err().unwrap();
        assert_eq!(
            error,
            "unable to parse auth field, must be formatted as base64(username:password)"
        );
    }
}

#[test]
fn secrets_of_other_types_hold_none_and_broken_ones_fail() {
    let mut keyring = Keyring::default();
    let mut other = secret("s", "{");
    other.type_ = Some("Opaque".into());
    keyring.add_secret(&other).unwrap();
    keyring.add_secret(&secret("s", "")).unwrap();
    keyring.add_secret(&secret("s", r#"{"auths":null}"#)).unwrap();
    assert!(keyring.add_secret(&secret("s", "{")).is_err());
    let legacy = |content: &str| Secret {
        type_: Some("kubernetes.io/dockercfg".into()),
        data: Some([(".dockercfg".to_owned(), ByteString(content.as_bytes().to_vec()))].into()),
        ..Secret::default()
    };
    assert!(keyring.add_secret(&legacy("{")).is_err());
    keyring
        .add_secret(&legacy(r#"{"old.example":{"username":"u"}}"#))
        .unwrap();
    assert_eq!(keyring.lookup("old.example/x").len(), 1);
}

#[test]
fn hashes_tell_credentials_apart_and_show_nothing() {
    let credential = |username: &str, password: &str| Credential {
        auth: RegistryAuth {
            username: username.into(),
            password: password.into(),
            ..RegistryAuth::default()
        },
        source: Source::Node,
    };
    let one = credential("u", "p");
    assert_eq!(one.hash(), credential("u", "p").hash());
    assert_ne!(one.hash(), credential("u", "q").hash());
    assert_ne!(one.hash(), credential("v", "p").hash());
    assert_eq!(one.hash().len(), 64);
    assert!(!format!("{:?}", credential("u", "hunter2")).contains("hunter2"));
}
