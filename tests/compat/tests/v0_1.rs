//! One compiled plugin of each kind, as it was when track 0.1 was made: it loads, and each of its functions answers.
#![allow(clippy::unwrap_used)]

#[path = "../../../host/plugin/tests/common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Node, check, plugins, pod};
use witlet_plugin_host::PluginHost;
use witlet_plugin_host::config::Kind;
use witlet_ports::network::{Network, Sandbox};
use witlet_ports::policy::{Access, Policies, Verb};
use witlet_ports::probe::{Probes, Verdict};
use witlet_ports::sink::{Family, LogEntry, MetricKind, OutputStream, Sample};
use witlet_ports::volume::Volumes;

fn path(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("samples/0.1/{kind}.wat"))
}

fn text(kind: &str) -> String {
    std::fs::read_to_string(path(kind)).unwrap()
}

async fn start(node: &Node, kind: Kind, toml: &str) -> Arc<PluginHost> {
    let component = wat::parse_str(text(kind.as_str())).unwrap();
    node.start([("test", node.stanza(kind, &component, toml))]).await
}

#[tokio::test]
async fn probe() {
    let node = Node::new();
    let host = start(&node, Kind::Probe, "grants = { container-exec = { argv = [\"*\"] } }").await;
    let outcome = Probes::check(&*host, check("echo")).await.unwrap();
    assert_eq!((outcome.verdict, outcome.message.as_str()), (Verdict::Pass, "id: echo"));
}

#[tokio::test]
async fn policy() {
    let node = Node::new();
    let host = start(&node, Kind::Policy, "").await;
    let review = host.admit(&pod()).await.unwrap();
    assert_eq!(review.denied.unwrap().reason, "NotHere");
    assert_eq!(review.warnings, ["a warning"]);
}

/// A policy with both of the optional exports.
#[tokio::test]
async fn policy_hooks() {
    let node = Node::new();
    let component = wat::parse_str(text("policy-hooks")).unwrap();
    let host = node.start([("test", node.stanza(Kind::Policy, &component, ""))]).await;
    assert_eq!(host.admit(&pod()).await.unwrap().denied, None);
    let container = k8s_openapi::api::core::v1::Container::default();
    let review = host.container(&pod(), &container, "good").await.unwrap();
    assert_eq!((review.denied, review.warnings.len()), (None, 0));
    let denied = host.container(&pod(), &container, "bad").await.unwrap().denied.unwrap();
    assert_eq!(
        (denied.reason.as_str(), denied.message.as_str()),
        ("PolicyDenied", "not this image")
    );
    let mut access = Access {
        verb: Verb::Exec,
        container: "c".into(),
        command: vec!["sh".into(), "-i".into()],
        stdin: true,
        tty: true,
        ports: vec![],
    };
    let review = host.access(&pod(), &access).await.unwrap();
    assert_eq!(
        (review.denied.unwrap().message.as_str(), &review.warnings[..]),
        ("no commands", &["a warning".to_owned()][..])
    );
    access = Access {
        verb: Verb::PortForward,
        command: vec![],
        ports: vec![80, 443],
        ..access
    };
    assert_eq!(host.access(&pod(), &access).await.unwrap().denied, None);
}

/// What a plugin keeps, as the first version of `witlet:base/kv` had it.
#[tokio::test]
async fn probe_kv() {
    let node = Node::new();
    let component = wat::parse_str(text("probe-kv")).unwrap();
    let stanza = node.stanza(Kind::Probe, &component, "grants = { kv = {} }");
    let host = node.start([("test", stanza)]).await;
    for (params, kept) in [("Ga", ""), ("Sa", ""), ("Ga", "a")] {
        assert_eq!(
            Probes::check(&*host, check(params)).await.unwrap().message,
            kept,
            "{params}"
        );
    }
}

/// The optional exports of every kind: a self-check, and a count that goes to the next version.
#[tokio::test]
async fn probe_lifecycle() {
    let node = Node::new();
    let component = wat::parse_str(text("probe-lifecycle")).unwrap();
    let stanza = |more: &str| {
        let one = "limits = { concurrency = 1, instances = { warm = 1 } }";
        node.stanza(Kind::Probe, &component, &format!("{more}\n{one}"))
    };
    let host = node.start([("test", stanza(""))]).await;
    assert_eq!(Probes::check(&*host, check("C")).await.unwrap().message, "1");
    let report = host.reload(plugins([("test", stanza("config = { n = 1 }"))])).await;
    assert_eq!(report.refused().count(), 0, "{report}");
    assert_eq!(Probes::check(&*host, check("C")).await.unwrap().message, "2");
}

#[tokio::test]
async fn volume() {
    let node = Node::new();
    let host = start(
        &node,
        Kind::Volume,
        "drivers = [\"kubernetes.io/empty-dir\"]\ngrants = { files = {} }",
    )
    .await;
    let volume = k8s_openapi::api::core::v1::Volume {
        name: "v".into(),
        ..Default::default()
    };
    let published = host.publish(&pod(), &volume).await.unwrap();
    assert_eq!(std::fs::read(published.host_path.join("file")).unwrap(), b"content");
    let found = host.found(None).await.unwrap();
    host.unpublish(&found[0]).await.unwrap();
    assert!(!published.host_path.exists());
}

#[tokio::test]
async fn network() {
    let node = Node::new();
    let host = start(
        &node,
        Kind::Network,
        "grants = { exec = { programs = [\"/bin/true\"] } }",
    )
    .await;
    let sandbox = Sandbox {
        id: "s".into(),
        netns: "/n".into(),
        ifname: "eth0".into(),
        args: vec![],
        config: "{}".into(),
    };
    host.status().await.unwrap();
    let attachment = host.setup(Some(&pod()), &sandbox).await.unwrap();
    assert_eq!(attachment.cni_result, "{\"cniVersion\":\"1.0.0\"}");
    Network::check(&*host, &sandbox, Some(&attachment.state)).await.unwrap();
    host.teardown(&sandbox, Some(&attachment.state)).await.unwrap();
}

#[tokio::test]
async fn sink_log() {
    let node = Node::new();
    let host = start(&node, Kind::SinkLog, "").await;
    let entry = LogEntry {
        time: 1,
        namespace: "n".into(),
        pod: "p".into(),
        pod_uid: "u".into(),
        container: "c".into(),
        restart_count: 0,
        stream: OutputStream::Stdout,
        line: "a line".into(),
    };
    let sink = &host.log_sinks()[0];
    sink.push(&vec![entry.clone(); 2]).await.unwrap();
    assert_eq!(sink.push(&vec![entry; 3]).await.unwrap_err().message, "try again");
}

#[tokio::test]
async fn sink_metric() {
    let node = Node::new();
    let host = start(&node, Kind::SinkMetric, "").await;
    let samples = vec![Sample {
        name: "up".into(),
        labels: vec![("a".into(), "b".into())],
        value: 1.0,
    }];
    let family = Family {
        name: "up".into(),
        help: String::new(),
        kind: MetricKind::Gauge,
        samples,
    };
    let sink = &host.metric_sinks()[0];
    sink.push(1, &[family]).await.unwrap();
    assert_eq!(sink.push(1, &[]).await.unwrap_err().message, "nothing");
}

/// A volume plugin with all of the optional exports.
#[tokio::test]
async fn volume_steps() {
    let node = Node::new();
    let component = wat::parse_str(text("volume-steps")).unwrap();
    let stanza = node.stanza(
        Kind::Volume,
        &component,
        "grants = { files = {} }\ndrivers = [\"acme\"]",
    );
    let host = node.start([("test", stanza)]).await;
    let volume = serde_json::from_value(serde_json::json!({"name": "pv", "csi": {"driver": "acme"}})).unwrap();
    let csi = serde_json::json!({"csi": {"driver": "acme", "volumeHandle": "h"}});
    let found = serde_json::from_value(serde_json::json!({ "spec": csi })).unwrap();
    host.stage(&pod(), &volume, &found).await.unwrap();
    let published = host.publish_persistent(&pod(), &volume, &found).await.unwrap();
    assert!(published.host_path.is_dir());
    let uid = witlet_core::desired::uid(&pod());
    host.expand(&uid, &volume, &found, 1 << 30).await.unwrap();
    let listed = host.found(Some(&uid)).await.unwrap().remove(0);
    assert_eq!(host.usage(&listed).await.unwrap().bytes.used, 40);
    host.unpublish(&listed).await.unwrap();
    assert!(host.found(None).await.unwrap().is_empty());
}

/// A plugin of a track that comes later, on this host: told in our words, not in a linker's.
#[tokio::test]
async fn a_later_track() {
    let node = Node::new();
    for kind in [
        Kind::Network,
        Kind::Policy,
        Kind::Probe,
        Kind::SinkLog,
        Kind::SinkMetric,
        Kind::Volume,
    ] {
        let later = text(kind.as_str()).replace(r#"\22track\22:\220.1\22"#, r#"\22track\22:\220.9\22"#);
        assert_ne!(later, text(kind.as_str()));
        let stanza = node.stanza(kind, &wat::parse_str(later).unwrap(), "");
        let Err(errors) = PluginHost::start(plugins([("test", stanza)]), node.deps()).await else {
            panic!("it started")
        };
        let words = format!("built for witlet:{kind} 0.9, this node supports 0.1; rebuild it or pin an older one");
        assert!(errors.to_string().ends_with(&words), "{errors}");
    }
}

/// Built for WASI as well: it gets an empty world, and needs no grant for it.
#[tokio::test]
async fn a_probe_that_imports_wasi() {
    let node = Node::new();
    let sample = text("probe");
    let wasi = r#"
        (import "wasi:random/random@0.2.6" (instance (export "get-random-u64" (func (result u64)))))
        (import "wasi:cli/environment@0.2.6" (instance
            (export "get-environment" (func (result (list (tuple string string)))))))"#;
    let whole = format!("{}{wasi})", sample.trim_end().strip_suffix(')').unwrap());
    let grants = "grants = { container-exec = { argv = [\"*\"] } }";
    let stanza = node.stanza(Kind::Probe, &wat::parse_str(whole).unwrap(), grants);
    let host = node.start([("test", stanza)]).await;
    assert_eq!(Probes::check(&*host, check("echo")).await.unwrap().message, "id: echo");
}

/// Makes the samples of a track that is not released yet; released ones are never made again. Run it with `--ignored` and
/// `WITLET_WRITE_SAMPLES=1`.
#[test]
#[ignore = "writes the samples"]
fn write_samples() {
    use common::{component, component_exporting, guests, manifest};
    if std::env::var_os("WITLET_WRITE_SAMPLES").is_none() {
        return;
    }
    let samples = [
        ("probe", guests::exec_probe(), vec!["container-exec"]),
        ("probe-kv", guests::keeping_probe(), vec!["kv"]),
        ("policy", guests::policy("NotHere"), vec![]),
        ("volume", guests::volume(""), vec!["files"]),
        (
            "network",
            guests::network("{\"cniVersion\":\"1.0.0\"}", "/bin/true"),
            vec!["exec"],
        ),
        ("sink-log", guests::log_sink(2), vec![]),
        ("sink-metric", guests::metric_sink(), vec![]),
    ];
    for (kind, module, capabilities) in samples {
        let of_kind = kind.strip_suffix("-kv").unwrap_or(kind);
        let text = wasmprinter::print_bytes(component(of_kind, &module, &capabilities)).unwrap();
        std::fs::write(path(kind), text).unwrap();
    }
    let exporting = |sample: &str, kind: &str, module: &str, exports: &[&str]| {
        let component = component_exporting(kind, module, Some(&manifest(kind, "0.1", &[])), exports);
        std::fs::write(path(sample), wasmprinter::print_bytes(component).unwrap()).unwrap();
    };
    let hooks = ["container-create", "access"].map(|hook| format!("witlet:policy-hooks/{hook}@0.1.0"));
    let hooks = hooks.each_ref().map(String::as_str);
    exporting("policy-hooks", "policy", &guests::hooked_policy(), &hooks);
    let steps = ["staging", "expansion", "statistics"].map(|name| format!("witlet:volume-steps/{name}@0.1.0"));
    let steps = steps.each_ref().map(String::as_str);
    let asked = manifest("volume", "0.1", &["files"]);
    let component = component_exporting("volume", &guests::stepping_volume(), Some(&asked), &steps);
    std::fs::write(path("volume-steps"), wasmprinter::print_bytes(component).unwrap()).unwrap();
    let lifecycle = ["self-check", "state"].map(|name| format!("witlet:lifecycle/{name}@0.1.0"));
    let lifecycle = lifecycle.each_ref().map(String::as_str);
    exporting(
        "probe-lifecycle",
        "probe",
        &guests::checked_and_handing_probe(),
        &lifecycle,
    );
}
