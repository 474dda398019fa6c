//! Each kind of plugin behind its port.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use common::{Node, component, component_exporting, guests, manifest, metric, plugins, pod};
use k8s_openapi::api::core::v1::{CSIVolumeSource, Container, EmptyDirVolumeSource, Volume};
use witlet_core::ids::PodUid;
use witlet_plugin_host::PluginHost;
use witlet_plugin_host::config::Kind;
use witlet_ports::Class;
use witlet_ports::network::{Network, Sandbox};
use witlet_ports::policy::{Policies, Review};
use witlet_ports::sink::{Family, LogEntry, MetricKind, OutputStream, Sample};
use witlet_ports::volume::{Found, NO_DRIVER, Volumes};

#[tokio::test]
async fn policies_are_asked_in_order_until_one_denies() {
    let node = Node::new();
    let stanza = |name: &str, reason: &str| {
        let bytes = component("policy", &guests::policy(reason), &[]);
        let mut stanza = node.stanza(Kind::Policy, &bytes, "");
        stanza.source = node.file(name, &bytes);
        stanza
    };
    let host = node
        .start([
            ("a", stanza("a.wasm", "")),
            ("b", stanza("b.wasm", "NotHere")),
            ("c", stanza("c.wasm", "NotThere")),
        ])
        .await;
    let review = host.admit(&pod()).await.unwrap();
    let denied = review.denied.unwrap();
    assert_eq!(
        (denied.reason.as_str(), denied.message.as_str()),
        ("NotHere", "the message")
    );
    assert_eq!(review.warnings, ["a warning", "a warning"]);
    let host = node.start([("a", stanza("a.wasm", ""))]).await;
    assert_eq!(host.admit(&pod()).await.unwrap().denied, None);
}

#[tokio::test]
async fn a_policy_that_does_not_answer_holds_pods_back_unless_it_may_not() {
    let node = Node::new();
    let broken = component("policy", &guests::broken_policy(), &[]);
    let host = node.start([("test", node.stanza(Kind::Policy, &broken, ""))]).await;
    let error = host.admit(&pod()).await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Retry, Some("PluginFailed")));
    let host = node
        .start([("test", node.stanza(Kind::Policy, &broken, "fail = \"open\""))])
        .await;
    let review = host.admit(&pod()).await.unwrap();
    assert_eq!(review.denied, None);
    assert!(
        review.warnings[0].starts_with("policy test did not answer, and lets pods pass then: "),
        "{:?}",
        review.warnings
    );
}

#[tokio::test]
async fn a_reason_that_is_no_word_is_not_passed_on() {
    let node = Node::new();
    let policy = component("policy", &guests::policy("not a word"), &[]);
    let host = node.start([("test", node.stanza(Kind::Policy, &policy, ""))]).await;
    let error = host.admit(&pod()).await.unwrap_err();
    assert!(
        error
            .message
            .contains("the reason \"not a word\" of its denial is not a CamelCase word"),
        "{error}"
    );
}

#[tokio::test]
async fn a_policy_may_ask_to_be_asked_about_containers() {
    let node = Node::new();
    let hook = ["witlet:policy-hooks/container-create@0.1.0"];
    let bytes = component_exporting(
        "policy",
        &guests::container_policy(),
        Some(&manifest("policy", "0.1", &[])),
        &hook,
    );
    let host = node.start([("test", node.stanza(Kind::Policy, &bytes, ""))]).await;
    let container = Container::default();
    assert_eq!(
        host.container(&pod(), &container, "good").await.unwrap(),
        Review::default()
    );
    let denied = host.container(&pod(), &container, "bad").await.unwrap().denied.unwrap();
    assert_eq!(
        (denied.reason.as_str(), denied.message.as_str()),
        ("PolicyDenied", "not this image")
    );
    assert!((metric(&host, "witlet_plugin_calls_total", &[("func", "review-container")]) - 2.0).abs() < f64::EPSILON);
    // It did not ask to be asked about anything else.
    assert_eq!(host.calls(None).len(), 2);
}

fn empty_dir(name: &str) -> Volume {
    Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

async fn volumes(node: &Node, host_path: &str, more: &str) -> std::sync::Arc<PluginHost> {
    let bytes = component("volume", &guests::volume(host_path), &["files", "host-path"]);
    let toml = format!("drivers = [\"kubernetes.io/empty-dir\", \"acme.example\"]\n{more}");
    node.start([("test", node.stanza(Kind::Volume, &bytes, &toml))]).await
}

#[tokio::test]
async fn a_volume_comes_and_goes() {
    let node = Node::new();
    let host = volumes(&node, "", "grants = { files = {} }").await;
    let pod_dir = node.path("kubelet/pods/11111111-2222-3333-4444-555555555555");
    let published = host.publish(&pod(), &empty_dir("data")).await.unwrap();
    let dir = pod_dir.join("volumes/kubernetes.io~empty-dir/data");
    assert_eq!(published.host_path, dir);
    assert!(!published.read_only && published.follows_source);
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(dir.clone()), 0o777, "the umask does not count");
    assert_eq!(mode(dir.join("file")), 0o644);
    assert_eq!(std::fs::read(dir.join("file")).unwrap(), b"content");
    assert!(pod_dir.join("plugins/kubernetes.io~empty-dir/data/ready").exists());
    // Again, and nothing changes.
    host.publish(&pod(), &empty_dir("data")).await.unwrap();

    let uid = PodUid::from("11111111-2222-3333-4444-555555555555");
    let found = host.found(None).await.unwrap();
    assert_eq!(
        found,
        [Found {
            uid: uid.clone(),
            driver: "kubernetes.io/empty-dir".into(),
            name: "data".into()
        }]
    );
    assert_eq!(host.found(Some(&"other".into())).await.unwrap(), []);
    host.unpublish(&found[0]).await.unwrap();
    assert!(!dir.exists() && !pod_dir.join("plugins/kubernetes.io~empty-dir/data").exists());
    assert_eq!(host.found(Some(&uid)).await.unwrap(), []);
    host.unpublish(&found[0]).await.unwrap();
}

#[tokio::test]
async fn drivers_that_a_volume_names_itself() {
    let node = Node::new();
    let host = volumes(&node, "", "grants = { files = {} }").await;
    let csi = |driver: &str| Volume {
        name: "v".into(),
        csi: Some(CSIVolumeSource {
            driver: driver.into(),
            ..CSIVolumeSource::default()
        }),
        ..Volume::default()
    };
    let published = host.publish(&pod(), &csi("acme.example")).await.unwrap();
    assert!(
        published.host_path.ends_with("volumes/witlet.dev~acme.example/v"),
        "{published:?}"
    );
    let found = host.found(None).await.unwrap();
    host.unpublish(&found[0]).await.unwrap();
    assert!(!published.host_path.exists());
    let error = host.publish(&pod(), &csi("other.example")).await.unwrap_err();
    let text = "driver name other.example not found in the list of registered CSI drivers";
    assert_eq!(
        (error.reason, error.message),
        (
            Some(NO_DRIVER),
            format!("kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: {text}")
        )
    );
    let found = serde_json::from_value(serde_json::json!({"metadata": {"name": "v"}})).unwrap();
    let error = host
        .publish_persistent(&pod(), &csi("other.example"), &found)
        .await
        .unwrap_err();
    assert_eq!(
        error.message,
        format!("kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: {text}")
    );
    let nfs = Volume {
        name: "v".into(),
        nfs: Some(Default::default()),
        ..Volume::default()
    };
    let error = host.publish(&pod(), &nfs).await.unwrap_err();
    assert_eq!(
        (error.class, error.message.as_str()),
        (Class::Terminal, "no volume plugin matched")
    );
}

#[tokio::test]
async fn a_volume_cannot_be_anywhere() {
    let node = Node::new();
    let host = volumes(&node, "/etc", "grants = { files = {} }").await;
    let error = host.publish(&pod(), &empty_dir("data")).await.unwrap_err();
    assert!(error.message.contains("outside of the volume's directory"), "{error}");
    let host = volumes(
        &node,
        "/etc/../root",
        "grants = { files = {}, host-path = { paths = [\"/etc\"] } }",
    )
    .await;
    assert!(host.publish(&pod(), &empty_dir("data")).await.is_err());
    let host = volumes(
        &node,
        "/etc",
        "grants = { files = {}, host-path = { paths = [\"/etc\"] } }",
    )
    .await;
    assert_eq!(
        host.publish(&pod(), &empty_dir("data")).await.unwrap().host_path,
        PathBuf::from("/etc")
    );
    // Compiled plugins are nobody's.
    let cache = node.path("cache");
    let host = volumes(
        &node,
        cache.to_str().unwrap(),
        "grants = { files = {}, host-path = { paths = [\"/\"] } }",
    )
    .await;
    let error = host.publish(&pod(), &empty_dir("data")).await.unwrap_err();
    assert!(error.message.contains("belongs to the agent"), "{error}");
}

#[tokio::test]
async fn names_that_leave_the_directory() {
    let node = Node::new();
    let host = volumes(&node, "", "grants = { files = {} }").await;
    for name in ["..", "a/b", "", "."] {
        let error = host.publish(&pod(), &empty_dir(name)).await.unwrap_err();
        assert!(error.message.contains("cannot name a directory"), "{name:?}: {error}");
    }
    let found = Found {
        uid: "..".into(),
        driver: "kubernetes.io/empty-dir".into(),
        name: "x".into(),
    };
    assert_eq!(host.unpublish(&found).await.unwrap_err().class, Class::Terminal);
}

fn sandbox() -> Sandbox {
    Sandbox {
        id: "s".into(),
        netns: "/n".into(),
        ifname: "eth0".into(),
        args: vec![],
        config: "{}".into(),
    }
}

#[tokio::test]
async fn a_network_attachment() {
    let node = Node::new();
    let bytes = component(
        "network",
        &guests::network("{\"cniVersion\":\"1.0.0\"}", "/bin/true"),
        &["exec"],
    );
    let grants = "grants = { exec = { programs = [\"/bin/true\"] } }";
    let host = node.start([("test", node.stanza(Kind::Network, &bytes, grants))]).await;
    host.status().await.unwrap();
    for pod in [None, Some(&pod())] {
        let attachment = host.setup(pod, &sandbox()).await.unwrap();
        assert_eq!(attachment.cni_result, "{\"cniVersion\":\"1.0.0\"}");
        assert_eq!(attachment.state, "kept");
        assert_eq!(attachment.offline_teardown[0].program, "/bin/true");
    }
    host.check(&sandbox(), Some("kept")).await.unwrap();
    host.teardown(&sandbox(), Some("kept")).await.unwrap();
    assert_eq!(host.teardown(&sandbox(), None).await.unwrap_err().message, "no state");
}

#[tokio::test]
async fn what_a_network_plugin_leaves_behind_is_checked() {
    let node = Node::new();
    let grants = "grants = { exec = { programs = [\"/bin/true\"] } }";
    for (result, program, words) in [
        ("no json", "/bin/true", "the CNI result is no JSON object"),
        (
            "{}",
            "/bin/false",
            "offline teardown: the grant exec does not list /bin/false",
        ),
        ("{}", "true", "an absolute path"),
    ] {
        let bytes = component("network", &guests::network(result, program), &["exec"]);
        let host = node.start([("test", node.stanza(Kind::Network, &bytes, grants))]).await;
        let error = host.setup(None, &sandbox()).await.unwrap_err();
        assert!(error.message.contains(words), "{error}");
    }
    let host = node.start([]).await;
    assert_eq!(host.status().await.unwrap_err().message, "there is no network plugin");
}

#[tokio::test]
async fn plugins_that_do_not_get_along() {
    let node = Node::new();
    let network = component("network", &guests::network("{}", "/bin/true"), &[]);
    let volume = component("volume", &guests::volume(""), &["files"]);
    let volumes = || node.stanza(Kind::Volume, &volume, "drivers = [\"d\"]\ngrants = { files = {} }");
    let networks = || node.stanza(Kind::Network, &network, "");
    let config = plugins([
        ("n1", networks()),
        ("n2", networks()),
        ("v1", volumes()),
        ("v2", volumes()),
    ]);
    let Err(errors) = PluginHost::start(config, node.deps()).await else {
        panic!("it started")
    };
    let errors = errors.to_string();
    assert!(errors.contains("n1 is the network plugin already"), "{errors}");
    assert!(errors.contains("v1 serves the volume driver d already"), "{errors}");
}

fn entries(n: usize) -> Vec<LogEntry> {
    let entry = LogEntry {
        time: 1,
        namespace: "n".into(),
        pod: "p".into(),
        pod_uid: "u".into(),
        container: "c".into(),
        restart_count: 0,
        stream: OutputStream::Stderr,
        line: "a line".into(),
    };
    vec![entry; n]
}

#[tokio::test]
async fn sinks_take_all_or_nothing() {
    let node = Node::new();
    let logs = component("sink-log", &guests::log_sink(2), &[]);
    let metrics = component("sink-metric", &guests::metric_sink(), &[]);
    let host = node
        .start([
            ("logs", node.stanza(Kind::SinkLog, &logs, "")),
            ("metrics", node.stanza(Kind::SinkMetric, &metrics, "")),
        ])
        .await;
    let log_sinks = host.log_sinks();
    assert_eq!(log_sinks.len(), 1);
    log_sinks[0].push(&entries(2)).await.unwrap();
    let error = log_sinks[0].push(&entries(3)).await.unwrap_err();
    assert_eq!((error.class, error.message.as_str()), (Class::Retry, "try again"));
    // More than fits into the guest's memory: that batch will never fit, and the next ones are not held up by it.
    let error = log_sinks[0].push(&entries(200_000)).await.unwrap_err();
    assert_eq!(error.class, Class::Terminal, "{error}");

    let family = Family {
        name: "up".into(),
        help: "Is it?".into(),
        kind: MetricKind::Gauge,
        samples: vec![Sample {
            name: "up".into(),
            labels: vec![("a".into(), "b".into())],
            value: 1.0,
        }],
    };
    let sink = &host.metric_sinks()[0];
    sink.push(1, &[family]).await.unwrap();
    assert_eq!(sink.push(1, &[]).await.unwrap_err().class, Class::Terminal);
    assert!((metric(&host, "witlet_plugin_calls_total", &[("plugin", "metrics")]) - 2.0).abs() < f64::EPSILON);
    // A sink that was removed takes everything, so that nobody waits for it.
    host.reload(plugins([])).await;
    log_sinks[0].push(&entries(3)).await.unwrap();
}
