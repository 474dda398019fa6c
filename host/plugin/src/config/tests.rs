#![allow(clippy::unwrap_used)]

use super::*;

fn read(text: &str) -> Result<PluginsConfig, Vec<String>> {
    let table: toml::Table = text.parse().unwrap();
    PluginsConfig::from_table(table["plugin"].as_table().unwrap())
}

#[test]
fn a_full_stanza() {
    let config = read(
        r#"
        [plugin.pg-probe]
        kind = "probe"
        source = "file:/etc/witlet/plugins/pg.wasm"
        sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        enabled = true
        fail = "last-good"
        config = { query = "select 1" }
        [plugin.pg-probe.grants]
        pod-net = { ports = [5432], protocols = ["tcp"], any-host = false }
        [plugin.pg-probe.limits]
        memory = "32MiB"
        cpu_per_call = "30ms"
        wall_per_call = "1s"
        concurrency = 4
        queue = 16
        instances = { warm = 2, max_calls = 100 }
        "#,
    )
    .unwrap();
    let stanza = &config.plugins["pg-probe"];
    assert_eq!(stanza.fail(), Fail::LastGood);
    let limits = Limits::resolve(stanza.kind, &stanza.limits);
    assert_eq!(limits.memory, Size(32 << 20));
    assert_eq!(limits.cpu_per_call, Duration::from_millis(30));
    assert_eq!(limits.concurrency.get(), 4);
    let Instances::Warm { warm, max_calls } = limits.instances else {
        panic!("per call")
    };
    assert_eq!((warm.get(), max_calls.get()), (2, 100));
}

#[test]
fn defaults_differ_by_kind() {
    let limits = |kind| Limits::resolve(kind, &LimitsConfig::default());
    assert_eq!(limits(Kind::Policy).wall_per_call, Duration::from_millis(250));
    assert_eq!(limits(Kind::Volume).cpu_per_call, Duration::from_millis(200));
    assert_eq!(limits(Kind::Probe).instances, Instances::PerCall);
    assert_eq!(Kind::Policy.default_fail(), Fail::Closed);
    assert_eq!(Kind::SinkLog.default_fail(), Fail::Open);
}

#[test]
fn all_errors_are_reported_each_with_its_plugin() {
    let errors = read(
        r#"
        [plugin.a]
        kind = "volume"
        source = "builtin:volume-standard"
        fail = "open"
        [plugin.b]
        kind = "probe"
        source = "oci://ghcr.io/acme/p:1"
        [plugin.c]
        kind = "prob"
        source = "builtin:x"
        [plugin.d]
        kind = "probe"
        source = "relative/path.wasm"
        [plugin.e]
        kind = "probe"
        source = "/a.wasm"
        limits = { memory = "16MB ram" }
        [plugin.f]
        kind = "probe"
        source = "/a.wasm"
        sha256 = "abc"
        drivers = ["x"]
        [plugin.G]
        kind = "probe"
        source = "/a.wasm"
        "#,
    )
    .unwrap_err();
    let all = errors.join("\n");
    for part in [
        "plugin.a: fail = \"open\": a pod cannot run without its volume",
        "plugin.b: source \"oci://ghcr.io/acme/p:1\": a tag can be moved",
        "plugin.c: unknown variant `prob`",
        "plugin.d: source \"relative/path.wasm\": write \"builtin:NAME\", \"oci://HOST/REPOSITORY@sha256:…\" or an absolute path",
        "plugin.e: \"16MB ram\" is not a size",
        "plugin.f: sha256 = \"abc\"",
        "plugin.f: drivers: only volume plugins",
        "plugin.G: \"G\" is no name",
    ] {
        assert!(all.contains(part), "{part:?} not in:\n{all}");
    }
}

#[test]
fn sources() {
    assert_eq!(Source::parse("builtin:a").unwrap(), Source::Builtin("a".into()));
    assert_eq!(Source::parse("file:/a.wasm").unwrap(), Source::File("/a.wasm".into()));
    assert_eq!(Source::parse("/a.wasm").unwrap(), Source::File("/a.wasm".into()));
}
