#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use proptest::prelude::*;

use super::*;

const SHA: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn names() {
    let digest = format!("busybox@{SHA}");
    let both = format!("r.example:5000/a/b:1@{SHA}");
    for (text, normal, repository_name, policy) in [
        (
            "busybox",
            "busybox:latest",
            "docker.io/library/busybox",
            PullPolicy::Always,
        ),
        (
            "busybox:1.36",
            "busybox:1.36",
            "docker.io/library/busybox",
            PullPolicy::IfNotPresent,
        ),
        (
            "busybox:latest",
            "busybox:latest",
            "docker.io/library/busybox",
            PullPolicy::Always,
        ),
        ("me/app", "me/app:latest", "docker.io/me/app", PullPolicy::Always),
        (
            "docker.io/busybox",
            "docker.io/busybox:latest",
            "docker.io/library/busybox",
            PullPolicy::Always,
        ),
        (
            "index.docker.io/me/app:1",
            "index.docker.io/me/app:1",
            "docker.io/me/app",
            PullPolicy::IfNotPresent,
        ),
        (
            "localhost/app",
            "localhost/app:latest",
            "localhost/app",
            PullPolicy::Always,
        ),
        (
            "localhost:5000/app:v1",
            "localhost:5000/app:v1",
            "localhost:5000/app",
            PullPolicy::IfNotPresent,
        ),
        (
            "[fd00::1]:5000/app:v1",
            "[fd00::1]:5000/app:v1",
            "[fd00::1]:5000/app",
            PullPolicy::IfNotPresent,
        ),
        (
            "Registry/app:V1",
            "Registry/app:V1",
            "Registry/app",
            PullPolicy::IfNotPresent,
        ),
        (
            "r.example/a/b__c/d-e--f.g",
            "r.example/a/b__c/d-e--f.g:latest",
            "r.example/a/b__c/d-e--f.g",
            PullPolicy::Always,
        ),
        (&digest, &digest, "docker.io/library/busybox", PullPolicy::IfNotPresent),
        (&both, &both, "r.example:5000/a/b", PullPolicy::IfNotPresent),
    ] {
        assert_eq!(normalise(text).unwrap(), normal);
        assert_eq!(repository(text), repository_name);
        assert_eq!(default_pull_policy(text), policy, "{text}");
    }
}

#[test]
fn refused() {
    let hex = "0123456789abcdef".repeat(4);
    let long = format!("r.example/{}", "a".repeat(256));
    for (text, message) in [
        ("", "invalid reference format"),
        ("nginx:", "invalid reference format"),
        (" nginx", "invalid reference format"),
        ("nginx latest", "invalid reference format"),
        ("nginx:a b", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("a/b:", "invalid reference format"),
        ("https://r.example/a", "invalid reference format"),
        ("r.example:port/a", "invalid reference format"),
        ("nginx@sha256:abc", "invalid reference format"),
        ("a:1:2", "invalid reference format"),
        ("é", "invalid reference format"),
        (
            "Busybox",
            "invalid reference format: repository name (library/Busybox) must be lowercase",
        ),
        (
            "r.example/A:1",
            "invalid reference format: repository name (A) must be lowercase",
        ),
        (
            &hex,
            &format!("invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings"),
        ),
        (&long, "repository name must not be more than 255 characters"),
        (&format!("a@md5:{}", &hex[..32]), "unsupported digest algorithm"),
        (&format!("a@sha256:{}", &hex[..32]), "invalid checksum digest length"),
    ] {
        assert_eq!(Reference::parse(text).unwrap_err().to_string(), message, "{text}");
    }
    assert_eq!(
        normalise("nginx:").unwrap_err().to_string(),
        "couldn't parse image name \"nginx:\": invalid reference format"
    );
    assert_eq!(default_pull_policy("nginx:"), PullPolicy::IfNotPresent);
    assert_eq!(repository("nginx:"), "nginx:");
}

#[test]
fn policies() {
    let of = |policy: Option<&str>| {
        let container = Container {
            image: Some("app:1".into()),
            image_pull_policy: policy.map(str::to_owned),
            ..Container::default()
        };
        pull_policy(&container)
    };
    assert_eq!(of(None), PullPolicy::IfNotPresent);
    assert_eq!(of(Some("Always")), PullPolicy::Always);
    assert_eq!(of(Some("Never")), PullPolicy::Never);
    assert_eq!(of(Some("IfNotPresent")), PullPolicy::IfNotPresent);
}

#[test]
fn failed_pulls() {
    for (message, reason, text) in [
        ("not found", "ErrImagePull", "not found"),
        (
            "RegistryUnavailable: 503",
            "RegistryUnavailable",
            "image pull failed for a:1 because the registry is unavailable: 503",
        ),
        (
            "SignatureValidationFailed",
            "SignatureValidationFailed",
            "image pull failed for a:1 because the signature validation failed",
        ),
    ] {
        assert_eq!(pull_error("a:1", message), (reason, text.to_owned()));
    }
}

proptest! {
    #[test]
    fn any_text(text in any::<String>()) {
        let _ = Reference::parse(&text);
    }

    #[test]
    fn nearly_references(text in "[a-cA:/@._é0-]{0,24}") {
        if let Ok(normal) = normalise(&text) {
            prop_assert_eq!(normalise(&normal).unwrap(), normal.clone());
            prop_assert_eq!(repository(&normal), repository(&text));
            // The full name stands for the same repository.
            prop_assert_eq!(repository(&repository(&text)), repository(&text));
        }
    }

    #[test]
    fn well_formed(path in "[a-z0-9]{1,8}([._-][a-z0-9]{1,8}){0,3}", tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}") {
        let reference = Reference::parse(&format!("r.example:5000/{path}:{tag}")).unwrap();
        prop_assert_eq!(reference.repository(), format!("r.example:5000/{path}"));
        prop_assert_eq!(reference.tag, Some(tag));
    }
}
