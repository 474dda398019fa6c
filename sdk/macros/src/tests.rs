#![allow(clippy::unwrap_used)]

use super::*;

fn expanded(kind: &Kind, args: &str) -> Result<String, String> {
    let args: Args = syn::parse_str(args).map_err(|e| e.to_string())?;
    let item: ItemImpl = syn::parse_str("impl Probe for Mine { }").unwrap();
    expand(kind, &args, &item, "1.2.3")
        .map(|t| t.to_string())
        .map_err(|e| e.to_string())
}

#[test]
fn manifest_tells_name_kind_and_capabilities() {
    let args: Args =
        syn::parse_str(r#"name = "pg", capabilities = ["pod-net", "container-exec"], state_version = 3"#).unwrap();
    let manifest = manifest(&PROBE, &args, "pg", "1.2.3");
    let sdk = env!("CARGO_PKG_VERSION");
    assert_eq!(
        manifest,
        format!(
            r#"{{"name":"pg","version":"1.2.3","kind":"probe","track":"0.1","sdk":"witlet-sdk {sdk}","capabilities":["pod-net","container-exec"],"state_version":3}}"#
        )
    );
}

#[test]
fn manifest_of_a_volume_plugin_lists_its_drivers() {
    let args: Args = syn::parse_str(r#"name = "v", drivers = ["example.com/v", "w"]"#).unwrap();
    let manifest = manifest(&VOLUME, &args, "v", "1.2.3");
    assert!(
        manifest.ends_with(r#""capabilities":[],"state_version":0,"drivers":["example.com/v","w"]}"#),
        "{manifest}"
    );
}

#[test]
fn expansion_keeps_the_impl_and_exports_its_type() {
    let out = expanded(&PROBE, r#"name = "pg""#).unwrap();
    assert!(out.starts_with("impl Probe for Mine"), "{out}");
    assert!(out.contains("probe :: bindings :: export ! (Exported"), "{out}");
    assert!(out.contains("witlet:manifest"), "{out}");
}

#[test]
fn hooks_are_exported_besides() {
    let out = expanded(&POLICY, r#"name = "p", hooks = ["access"]"#).unwrap();
    assert!(
        out.contains("policy :: access :: bindings :: export_access ! (Exported"),
        "{out}"
    );
    assert!(!out.contains("export_container_create"), "{out}");
    let out = expanded(&PROBE, r#"name = "p", hooks = ["self-check", "state"]"#).unwrap();
    for part in [
        "lifecycle :: self_check :: bindings :: export_self_check",
        "lifecycle :: state :: bindings :: export_state",
    ] {
        assert!(out.contains(part), "{out}");
    }
}

#[test]
fn mistakes_are_named() {
    for (kind, args, message) in [
        (&PROBE, "", "`name = \"…\"` is missing: what the plugin is called"),
        (
            &PROBE,
            r#"name = "Pg""#,
            "a plugin's name is a DNS label: a-z, 0-9 and `-`, at most 63 characters",
        ),
        (
            &PROBE,
            r#"name = "p\"g""#,
            "a plugin's name is a DNS label: a-z, 0-9 and `-`, at most 63 characters",
        ),
        (
            &PROBE,
            r#"name = "pg", capabilities = ["exec"]"#,
            "capabilities of a probe plugin: pod-net, container-exec, kv",
        ),
        (
            &POLICY,
            r#"name = "pg", capabilities = ["exec"]"#,
            "capabilities of a policy plugin: kv",
        ),
        (
            &PROBE,
            r#"name = "pg", grants = []"#,
            "expected `name`, `capabilities`, `drivers`, `hooks` or `state_version`",
        ),
        (
            &PROBE,
            r#"name = "pg", hooks = ["access"]"#,
            "hooks of all plugins: \"self-check\", \"state\"; of policies also: \"container-create\", \"access\"; of volumes also: \"staging\", \"expansion\", \"statistics\"",
        ),
        (
            &POLICY,
            r#"name = "pg", hooks = ["admit"]"#,
            "hooks of all plugins: \"self-check\", \"state\"; of policies also: \"container-create\", \"access\"; of volumes also: \"staging\", \"expansion\", \"statistics\"",
        ),
    ] {
        assert_eq!(expanded(kind, args).unwrap_err(), message, "{args}");
    }
}
