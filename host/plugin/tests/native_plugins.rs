//! Plugins in native code, made with the system's C compiler. `cargo xtask test` runs these with the feature.
#![cfg(feature = "native-plugins")]
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use common::{Node, check, eventually, metric, plugins, pod};
use sha2::{Digest, Sha256};
use witlet_plugin_host::config::{Kind, PluginConfig};
use witlet_plugin_host::{PluginHost, SwapOutcome};
use witlet_ports::Class;
use witlet_ports::network::Sandbox;
use witlet_ports::policy::{Access, Policies, Verb};
use witlet_ports::probe::{Probes, Verdict};
use witlet_ports::sink::{Family, LogEntry, MetricKind, OutputStream, Sample};
use witlet_ports::volume::Volumes;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Compiles a library into the node's directory.
fn library(node: &Node, name: &str, source: &Path, defines: &[&str]) -> PathBuf {
    let path = node.dir.path().canonicalize().unwrap().join(name);
    let done = Command::new("cc")
        .args(["-shared", "-fPIC", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(root().join("sdk/c/include"))
        .args(defines.iter().map(|d| format!("-D{d}")))
        .arg("-o")
        .arg(&path)
        .arg(source)
        .status()
        .unwrap();
    assert!(done.success());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn guest(node: &Node, name: &str, kind: &str, defines: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/native/guest.c");
    let kind = format!("KIND=\"{kind}\"");
    let defines: Vec<_> = [kind.as_str()].into_iter().chain(defines.iter().copied()).collect();
    library(node, name, &source, &defines)
}

fn digest(path: &Path) -> String {
    Sha256::digest(std::fs::read(path).unwrap())
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

fn stanza(kind: Kind, path: &Path, more: &str) -> PluginConfig {
    let text = format!(
        "kind = {:?}\nsource = \"native:{}\"\nsha256 = {:?}\ntrusted = true\n{more}",
        kind.as_str(),
        path.display(),
        digest(path)
    );
    toml::from_str(&text).unwrap()
}

async fn start(node: &Node, kind: Kind, defines: &[&str], more: &str) -> Arc<PluginHost> {
    let path = guest(node, "guest.so", kind.as_str(), defines);
    node.start([("test", stanza(kind, &path, more))]).await
}

async fn refusal(node: &Node, stanza: PluginConfig) -> String {
    match PluginHost::start(plugins([("test", stanza)]), node.deps()).await {
        Ok(_) => panic!("it started"),
        Err(errors) => errors.to_string(),
    }
}

#[tokio::test]
async fn a_probe() {
    let node = Node::new();
    let host = start(&node, Kind::Probe, &[], "limits = { wall_per_call = \"500ms\" }").await;
    let outcome = host.check(check("P")).await.unwrap();
    assert_eq!((outcome.verdict, outcome.message.as_str()), (Verdict::Pass, "native 1"));
    let error = host.check(check("E")).await.unwrap_err();
    assert_eq!(
        (error.class, error.message.as_str()),
        (Class::Terminal, "the text of an error")
    );
    for (params, words) in [
        ("N", "its answer cannot be used: check: "),
        ("X", "the status 99"),
        ("S", "did not answer within 500ms"),
    ] {
        let error = host.check(check(params)).await.unwrap_err();
        assert!(error.message.contains(words), "{error}");
    }
    // Counted and listed as any other.
    let calls = |outcome| {
        metric(
            &host,
            "witlet_plugin_calls_total",
            &[("func", "check"), ("outcome", outcome)],
        )
    };
    assert_eq!(
        [calls("ok"), calls("guest_error"), calls("trap"), calls("wall_timeout")],
        [1.0, 1.0, 2.0, 1.0]
    );
    assert!(metric(&host, "witlet_plugin_call_duration_seconds_count", &[("func", "check")]) > 4.0);
    let [listed] = &host.list()[..] else {
        panic!("one plugin")
    };
    assert!(listed.source.starts_with("native:/"), "{listed:?}");
    assert_eq!(
        (listed.state, listed.version.as_str(), listed.track.as_str()),
        ("active", "1", "0.1")
    );
    let described = host.describe("test").unwrap();
    assert!(
        described.limits.contains(&("memory", "none: native code".to_owned())),
        "{described:?}"
    );
}

#[tokio::test]
async fn one_at_a_time_if_the_stanza_says_so() {
    let node = Node::new();
    let limits = "limits = { concurrency = 1, queue = 0, wall_per_call = \"300ms\" }";
    let host = start(&node, Kind::Probe, &[], limits).await;
    assert!(
        host.check(check("S"))
            .await
            .unwrap_err()
            .message
            .contains("did not answer within")
    );
    // The call goes on in there, so no other begins.
    let error = host.check(check("P")).await.unwrap_err();
    assert!(error.message.contains("too many calls are waiting"), "{error}");
    eventually("the place is free again", || async {
        host.check(check("P")).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_policy_with_a_hook() {
    let node = Node::new();
    let more = "MORE=\", \\\"exports\\\": [\\\"witlet:policy-hooks/access@0.1.0\\\"]\"";
    let host = start(&node, Kind::Policy, &[more], "").await;
    let review = host.admit(&pod()).await.unwrap();
    assert_eq!(
        (review.denied.unwrap().reason.as_str(), &review.warnings[..]),
        ("NotHere", &["w".to_owned()][..])
    );
    let mut access = Access {
        verb: Verb::Exec,
        container: "c".into(),
        command: vec!["sh".into()],
        stdin: true,
        tty: false,
        ports: vec![],
    };
    assert_eq!(
        host.access(&pod(), &access).await.unwrap().denied.unwrap().message,
        "no shell"
    );
    access.command = vec!["ls".into()];
    assert_eq!(host.access(&pod(), &access).await.unwrap().denied, None);
}

#[tokio::test]
async fn sinks() {
    let node = Node::new();
    let logs = guest(&node, "logs.so", "sink-log", &[]);
    let metrics = guest(&node, "metrics.so", "sink-metric", &[]);
    let host = node
        .start([
            ("logs", stanza(Kind::SinkLog, &logs, "")),
            ("metrics", stanza(Kind::SinkMetric, &metrics, "")),
        ])
        .await;
    let entry = |line: &str| LogEntry {
        time: 1,
        namespace: "n".into(),
        pod: "p".into(),
        pod_uid: "u".into(),
        container: "c".into(),
        restart_count: 0,
        stream: OutputStream::Stdout,
        line: line.into(),
    };
    let sink = &host.log_sinks()[0];
    sink.push(&[entry("a")]).await.unwrap();
    assert_eq!(sink.push(&[entry("again")]).await.unwrap_err().class, Class::Retry);
    let family = |value| Family {
        name: "up".into(),
        help: String::new(),
        kind: MetricKind::Gauge,
        samples: vec![Sample {
            name: "up".into(),
            labels: vec![],
            value,
        }],
    };
    let sink = &host.metric_sinks()[0];
    sink.push(1, &[family(1.0)]).await.unwrap();
    assert_eq!(
        sink.push(1, &[family(f64::NAN)]).await.unwrap_err().message,
        "no number"
    );
}

#[tokio::test]
async fn a_volume() {
    let node = Node::new();
    let host = start(&node, Kind::Volume, &[], "drivers = [\"kubernetes.io/empty-dir\"]").await;
    let volume = k8s_openapi::api::core::v1::Volume {
        name: "v".into(),
        ..Default::default()
    };
    let published = host.publish(&pod(), &volume).await.unwrap();
    assert_eq!(std::fs::read(published.host_path.join("file")).unwrap(), b"content");
    assert!(published.follows_source);
    let found = host.found(None).await.unwrap();
    host.unpublish(&found[0]).await.unwrap();
    assert!(!published.host_path.exists());
}

#[tokio::test]
async fn a_network_whose_offline_teardown_is_granted() {
    use witlet_ports::network::Network as _;
    let node = Node::new();
    let path = guest(
        &node,
        "net.so",
        "network",
        &["MORE=\", \\\"capabilities\\\": [\\\"exec\\\"]\""],
    );
    let sandbox = Sandbox {
        id: "s".into(),
        netns: "/n".into(),
        ifname: "eth0".into(),
        args: vec![],
        config: "{}".into(),
    };
    let grant = "grants = { exec = { programs = [\"/bin/true\"] } }";
    let host = node.start([("test", stanza(Kind::Network, &path, grant))]).await;
    host.status().await.unwrap();
    let attachment = host.setup(Some(&pod()), &sandbox).await.unwrap();
    assert_eq!(attachment.cni_result, "{\"cniVersion\":\"1.0.0\"}");
    assert_eq!(attachment.offline_teardown[0].program, "/bin/true");
    host.teardown(&sandbox, Some(&attachment.state)).await.unwrap();
    assert_eq!(host.teardown(&sandbox, None).await.unwrap_err().message, "no state");
    // What runs without the plugin later needs the grant, whoever asks for it.
    let host = node.start([("test", stanza(Kind::Network, &path, ""))]).await;
    let error = host.setup(None, &sandbox).await.unwrap_err();
    assert!(error.message.contains("the capability exec is not granted"), "{error}");
}

#[tokio::test]
async fn another_version_is_another_file_and_the_old_instance_is_closed() {
    let node = Node::new();
    let closed = node.path("closed");
    let config = format!("config = {{ closed = {:?} }}", closed.display().to_string());
    let one = guest(&node, "one.so", "probe", &[]);
    let two = guest(&node, "two.so", "probe", &["TEXT=\"2\""]);
    let host = node.start([("test", stanza(Kind::Probe, &one, &config))]).await;
    let report = host
        .reload(plugins([("test", stanza(Kind::Probe, &two, &config))]))
        .await;
    assert!(
        matches!(&report.plugins[..], [(_, SwapOutcome::Swapped { from, to })] if from != to),
        "{report}"
    );
    assert_eq!(host.check(check("P")).await.unwrap().message, "native 2");
    assert!(!closed.exists(), "it is the standby");
    host.roll_back("test").await;
    assert_eq!(host.check(check("P")).await.unwrap().message, "native 1");
    eventually("the version that went back is closed", || async { closed.exists() }).await;
    // Overwritten in place: what runs is a copy, and the pin refuses what lies there now.
    for path in [one, two] {
        std::fs::write(&path, b"something else").unwrap();
    }
    assert_eq!(host.check(check("P")).await.unwrap().message, "native 1");
    let report = host.swap("test").await;
    assert!(report.to_string().contains("the configuration wants"), "{report}");
    assert_eq!(host.check(check("P")).await.unwrap().message, "native 1");
}

#[tokio::test]
async fn files_that_others_could_have_written_are_refused() {
    let node = Node::new();
    let path = guest(&node, "guest.so", "probe", &[]);
    let good = stanza(Kind::Probe, &path, "");
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();

    mode(&path, 0o775);
    let error = refusal(&node, good.clone()).await;
    assert!(
        error.contains("its mode is 0775, so others than root can write to it: chmod go-w"),
        "{error}"
    );
    mode(&path, 0o755);

    let open = path.parent().unwrap().join("open");
    std::fs::create_dir(&open).unwrap();
    let inside = open.join("guest.so");
    std::fs::copy(&path, &inside).unwrap();
    mode(&open, 0o777);
    let error = refusal(&node, stanza(Kind::Probe, &inside, "")).await;
    assert!(error.contains("open can be written to by others"), "{error}");

    let link = path.parent().unwrap().join("link.so");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let error = refusal(&node, stanza(Kind::Probe, &link, "")).await;
    let words = format!(
        "the path leads over a symbolic link; write source = \"native:{}\"",
        path.display()
    );
    assert!(error.contains(&words), "{error}");

    let mut pinned = good.clone();
    pinned.sha256 = Some("a".repeat(64));
    let error = refusal(&node, pinned).await;
    assert!(
        error.contains(&format!("the file's sha256 is {}", digest(&path))),
        "{error}"
    );

    let mut untrusted = good;
    untrusted.trusted = false;
    let error = refusal(&node, untrusted).await;
    assert!(error.contains("write trusted = true if that is meant"), "{error}");
}

#[tokio::test]
async fn libraries_that_are_no_plugins_for_this_node_are_refused() {
    let node = Node::new();
    let sick = "MORE=\", \\\"exports\\\": [\\\"witlet:lifecycle/self-check\\\"]\"";
    let asking = "MORE=\", \\\"capabilities\\\": [\\\"pod-net\\\"]\"";
    for (n, (defines, more, words)) in [
        (&["MAGIC=1"][..], "", "does not begin with WITLET_ABI_MAGIC"),
        (
            &["ABI=7"],
            "",
            "built for version 7 of the native ABI, this node has version 1",
        ),
        (&["SIZE=8"], "", "its structure witlet_plugin has 8 bytes"),
        (
            &["TRACK=\"0.9\""],
            "",
            "built for witlet:probe 0.9, this node supports 0.1",
        ),
        (
            &[asking],
            "",
            "it asks for pod-net, which native probe plugins neither have nor need",
        ),
        (
            &[],
            "config = { refuse = true }",
            "witlet_plugin_open refused: no such device",
        ),
        (&["SICK", sick], "", "its self-check failed: no driver"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = guest(&node, &format!("{n}.so"), "probe", defines);
        let error = refusal(&node, stanza(Kind::Probe, &path, more)).await;
        assert!(error.contains(words), "{error}");
    }
    let policy = guest(&node, "policy.so", "policy", &[]);
    let error = refusal(&node, stanza(Kind::Probe, &policy, "")).await;
    assert!(
        error.contains("it is a policy plugin, but the configuration says kind = \"probe\""),
        "{error}"
    );
    let other = node.dir.path().canonicalize().unwrap().join("other.so");
    std::fs::write(&other, b"no library").unwrap();
    let error = refusal(&node, stanza(Kind::Probe, &other, "")).await;
    assert!(error.contains("it cannot be loaded: "), "{error}");
}

#[tokio::test]
async fn the_example() {
    let node = Node::new();
    let path = library(&node, "device.so", &root().join("sdk/c/examples/probe_device.c"), &[]);
    let error = refusal(&node, stanza(Kind::Probe, &path, "")).await;
    assert!(error.contains("config: device = \"/dev/...\" is missing"), "{error}");
    let host = node
        .start([
            (
                "test",
                stanza(Kind::Probe, &path, "config = { device = \"/dev/null\" }"),
            ),
            (
                "none",
                stanza(Kind::Probe, &path, "config = { device = \"/dev/none\" }"),
            ),
        ])
        .await;
    assert_eq!(host.check(check("P")).await.unwrap().verdict, Verdict::Pass);
    let mut other = check("P");
    other.plugin = "none".into();
    let outcome = host.check(other).await.unwrap();
    assert_eq!(
        (outcome.verdict, outcome.message.as_str()),
        (Verdict::Fail, "/dev/none: error 2")
    );
}
