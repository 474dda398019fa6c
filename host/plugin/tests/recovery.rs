//! What becomes of versions that break, and who is to blame.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::sync::Arc;

use common::{Node, check, component, component_with, eventually, guests, manifest, metric, plugins, pod};
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use witlet_plugin_host::config::{Kind, PluginConfig};
use witlet_plugin_host::{PluginHost, SwapOutcome};
use witlet_ports::network::Sandbox;
use witlet_ports::policy::Policies;
use witlet_ports::probe::{Check, Probes};
use witlet_ports::sink::{LogEntry, OutputStream};
use witlet_ports::volume::Volumes;

fn good(text: &str) -> Vec<u8> {
    component("probe", &guests::moody_probe(text), &[])
}

/// Traps on `P`, and answers everything else as the others.
fn bad() -> Vec<u8> {
    let module = guests::moody_probe("bad").replace("(i32.const 80)", "(i32.const 1)");
    component("probe", &module, &[])
}

/// A check of a pod of its own.
fn check_of(pod: &str, params: &str) -> Check {
    let mut check = check(params);
    let mut object = Pod::clone(&check.pod);
    object.metadata.name = Some(pod.to_owned());
    object.metadata.uid = Some(format!("uid-of-{pod}"));
    check.pod = Arc::new(object);
    check
}

async fn message(host: &PluginHost, pod: &str) -> String {
    host.check(check_of(pod, "P")).await.unwrap().message
}

fn count(host: &PluginHost, name: &str, labels: &[(&str, &str)]) -> u32 {
    // Counters of tests are small whole numbers.
    metric(host, name, labels) as u32
}

#[tokio::test]
async fn a_version_that_breaks_is_taken_back_by_itself() {
    let node = Node::new();
    let host = node
        .start([("test", node.stanza(Kind::Probe, &good("good"), ""))])
        .await;
    assert_eq!(
        host.describe("test").unwrap().probation,
        None,
        "there is nothing to go back to"
    );
    node.file("probe.wasm", &bad());
    eventually("the bad one is active", || async { host.list()[0].generation == 2 }).await;
    assert_eq!(host.list()[0].state, "probation");
    for pod in ["a", "b", "a"] {
        let error = host.check(check_of(pod, "P")).await.unwrap_err();
        assert_eq!(error.reason, Some("PluginFailed"), "{error}");
    }
    eventually("the good one is back", || async { host.list()[0].generation == 1 }).await;
    assert_eq!(message(&host, "a").await, "good");
    assert_eq!(
        count(&host, "witlet_plugin_swaps_total", &[("outcome", "rolled_back")]),
        1
    );
    let events = node.events.of("PluginRolledBack");
    assert!(events[0].contains("3 of its first 3 calls failed"), "{events:?}");
    let described = host.describe("test").unwrap();
    assert!(described.rejected.is_some() && described.standby.is_none());
    assert!(
        host.problems()[0].contains("the new version was refused"),
        "{:?}",
        host.problems()
    );

    // The same file again is not tried again, another one is.
    node.file("probe.wasm", &bad());
    node.file("probe.wasm", &good("better"));
    eventually("the better one is active", || async {
        message(&host, "a").await == "better"
    })
    .await;
    assert_eq!(host.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn what_went_back_stays_back_when_the_agent_starts_again() {
    let node = Node::new();
    let stanza = || node.stanza(Kind::Probe, &good("good"), "");
    let host = node.start([("test", stanza())]).await;
    node.file("probe.wasm", &bad());
    host.swap("test").await;
    host.roll_back("test").await;
    drop(host);
    // The file still has the bad one.
    let mut again = stanza();
    again.source = node.file("probe.wasm", &bad());
    let host = node.start([("test", again.clone())]).await;
    assert_eq!(message(&host, "a").await, "good");
    assert!(
        host.problems()[0].contains("it went back before"),
        "{:?}",
        host.problems()
    );
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(
        message(&host, "a").await,
        "good",
        "nor does the look at the file bring it back"
    );
    // Another one has its chance, and then the story is forgotten.
    node.file("probe.wasm", &good("better"));
    eventually("the better one is active", || async {
        message(&host, "a").await == "better"
    })
    .await;
    drop(host);
    node.file("probe.wasm", &bad());
    let host = node.start([("test", again)]).await;
    assert!(host.check(check_of("a", "P")).await.is_err());
}

#[tokio::test]
async fn a_changed_stanza_is_not_taken_back() {
    let node = Node::new();
    let host = node.start([("test", node.stanza(Kind::Probe, &bad(), ""))]).await;
    let open = node.stanza(Kind::Probe, &bad(), "fail = \"open\"");
    host.reload(plugins([("test", open)])).await;
    for pod in ["a", "b", "a", "b"] {
        host.check(check_of(pod, "P")).await.unwrap();
    }
    assert_eq!(host.list()[0].generation, 2);
    assert_eq!(node.events.of("PluginRolledBack"), Vec::<String>::new());
}

#[tokio::test]
async fn going_back_and_forth_by_hand() {
    let node = Node::new();
    let host = node.start([("test", node.stanza(Kind::Probe, &good("one"), ""))]).await;
    let report = host.roll_back("test").await;
    assert!(
        report.to_string().contains("no earlier version of it is kept"),
        "{report}"
    );
    let two = PluginConfig::new(Kind::Probe, node.file("two.wasm", &good("two")));
    host.reload(plugins([("test", two)])).await;
    assert_eq!(message(&host, "a").await, "two");
    let report = host.roll_back("test").await;
    assert!(
        matches!(report.plugins[0].1, SwapOutcome::RolledBack { .. }),
        "{report}"
    );
    assert_eq!(message(&host, "a").await, "one");
    // Nothing brings it forward again but being asked to.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(message(&host, "a").await, "one");
    host.swap("test").await;
    assert_eq!(message(&host, "a").await, "two");
    let report = host.swap("nobody").await;
    assert!(report.to_string().contains("no such plugin"), "{report}");
}

#[tokio::test]
async fn a_plugin_that_keeps_breaking_is_left_alone_for_a_while() {
    let node = Node::new();
    let breaker = "breaker = { failures = 4, open = \"300ms\" }";
    let host = node
        .start([("test", node.stanza(Kind::Probe, &good("x"), breaker))])
        .await;
    for pod in ["a", "b", "c", "d"] {
        host.check(check_of(pod, "T")).await.unwrap_err();
    }
    let error = host.check(check_of("e", "P")).await.unwrap_err();
    assert!(
        error.message.contains("it kept failing and is asked again in"),
        "{error}"
    );
    assert_eq!(host.list()[0].state, "broken");
    assert!(host.problems()[0].contains("unreachable"), "{:?}", host.problems());
    assert_eq!(count(&host, "witlet_plugin_breaker_open", &[]), 1);
    assert_eq!(count(&host, "witlet_plugin_calls_total", &[("outcome", "refused")]), 1);
    assert_eq!(node.events.of("PluginUnhealthy").len(), 1);
    // One call tries; it answers, and all is well.
    eventually("it is asked again", || async {
        host.check(check_of("e", "P")).await.is_ok()
    })
    .await;
    assert_eq!(message(&host, "a").await, "x");
    assert_eq!(node.events.of("PluginRecovered").len(), 1);
    assert_eq!(host.list()[0].state, "active");
    let fault = host.describe("test").unwrap().last_fault.unwrap();
    assert_eq!((fault.func, fault.pod.as_str()), ("check", "n/d"));
}

#[tokio::test]
async fn one_pod_cannot_take_a_plugin_from_the_others() {
    let node = Node::new();
    let breaker = "breaker = { failures = 3, open = \"60s\" }";
    let host = node
        .start([("test", node.stanza(Kind::Probe, &good("x"), breaker))])
        .await;
    for _ in 0..3 {
        host.check(check_of("evil", "T")).await.unwrap_err();
    }
    let error = host.check(check_of("evil", "P")).await.unwrap_err();
    assert!(error.message.contains("it kept failing"), "{error}");
    assert_eq!(message(&host, "good").await, "x");
    assert_eq!(count(&host, "witlet_plugin_blamed_pods", &[]), 1);
    assert_eq!(host.list()[0].state, "active");
    assert!(node.events.of("PluginUnhealthy")[0].contains("over n/evil"));
    // Nor does it take back a version that others are content with.
    let two = PluginConfig::new(Kind::Probe, node.file("two.wasm", &good("two")));
    host.reload(plugins([("test", two)])).await;
    message(&host, "good").await;
    for _ in 0..4 {
        host.check(check_of("evil", "T")).await.unwrap_err();
    }
    assert_eq!(message(&host, "good").await, "two");
    assert_eq!(host.list()[0].state, "probation");
}

#[tokio::test]
async fn a_new_version_in_the_shadow() {
    let node = Node::new();
    let stanza = |name: &str, bytes: &[u8]| {
        let mut stanza = node.stanza(Kind::Probe, bytes, "shadow = { calls = 5 }");
        stanza.source = node.file(name, bytes);
        stanza
    };
    let host = node.start([("test", stanza("a.wasm", &good("x")))]).await;
    assert_eq!(
        host.list()[0].state,
        "active",
        "the first one has nobody to be compared with"
    );
    // Answers otherwise: it never gets to answer anybody.
    let report = host.reload(plugins([("test", stanza("b.wasm", &good("y")))])).await;
    assert!(matches!(report.plugins[0].1, SwapOutcome::Shadowing { .. }), "{report}");
    assert_eq!(host.list()[0].state, "shadowed");
    assert_eq!(message(&host, "a").await, "x");
    eventually("it is refused", || async {
        !node.events.of("PluginRejected").is_empty()
    })
    .await;
    assert_eq!(message(&host, "a").await, "x");
    // The same answers from another component: after five calls it takes over.
    let mut same = good("x");
    same.extend(wat::parse_str("(component (@custom \"other\" \"bytes\"))").unwrap()[8..].iter());
    host.reload(plugins([("test", stanza("c.wasm", &same))])).await;
    let generation = host.list()[0].generation;
    eventually("it took over", || async {
        assert_eq!(message(&host, "a").await, "x");
        host.list()[0].generation > generation
    })
    .await;
    assert_eq!(count(&host, "witlet_plugin_swaps_total", &[("outcome", "shadowed")]), 2);
}

#[tokio::test]
async fn a_trial_call_keeps_a_broken_policy_out() {
    let node = Node::new();
    let policy = |reason: &str| component("policy", &guests::policy(reason), &[]);
    let host = node.start([("test", node.stanza(Kind::Policy, &policy(""), ""))]).await;
    let broken = component("policy", &guests::broken_policy(), &[]);
    let stanza = PluginConfig::new(Kind::Policy, node.file("broken.wasm", &broken));
    let report = host.reload(plugins([("test", stanza)])).await;
    assert!(
        report
            .to_string()
            .contains("a trial call, admit-pod of a plain pod: it trapped"),
        "{report}"
    );
    assert_eq!(host.admit(&pod()).await.unwrap().denied, None);
}

#[tokio::test]
async fn a_policy_may_only_watch_or_warn() {
    let node = Node::new();
    let policy = component("policy", &guests::policy("NotHere"), &[]);
    for (mode, warnings) in [
        (
            "warn",
            vec!["a warning", "policy test would deny it: NotHere: the message"],
        ),
        ("audit", vec![]),
    ] {
        let host = node
            .start([(
                "test",
                node.stanza(Kind::Policy, &policy, &format!("mode = \"{mode}\"")),
            )])
            .await;
        let review = host.admit(&pod()).await.unwrap();
        assert_eq!(
            (review.denied, review.warnings),
            (None, warnings.iter().map(|w| (*w).to_owned()).collect())
        );
        let denials = host.denials(Some("n/p"));
        assert_eq!((denials[0].reason.as_str(), denials[0].enforced), ("NotHere", false));
        let labels = [("decision", "deny"), ("mode", mode)];
        assert_eq!(count(&host, "witlet_policy_decisions_total", &labels), 1);
    }
}

#[tokio::test]
async fn a_broken_policy_does_not_hold_back_static_pods() {
    let node = Node::new();
    let broken = component("policy", &guests::broken_policy(), &[]);
    let host = node.start([("test", node.stanza(Kind::Policy, &broken, ""))]).await;
    host.admit(&pod()).await.unwrap_err();
    let mut fixed = Pod::clone(&pod());
    let annotation = ("kubernetes.io/config.source".to_owned(), "file".to_owned());
    fixed.metadata.annotations = Some([annotation].into());
    let review = host.admit(&Arc::new(fixed)).await.unwrap();
    assert!(
        review.denied.is_none() && review.warnings[0].contains("did not answer"),
        "{review:?}"
    );
}

/// What one version set up, the next takes down: volumes from what is on disk, networks from the state that the host kept.
#[tokio::test]
async fn volumes_and_networks_outlive_the_version_that_made_them() {
    use witlet_ports::network::Network;
    let node = Node::new();
    let volume = |n: u8| {
        let module = guests::volume("").replace("\"content\"", &format!("\"conten{n}\""));
        let mut stanza = node.stanza(
            Kind::Volume,
            b"",
            "drivers = [\"kubernetes.io/empty-dir\"]\ngrants = { files = {} }",
        );
        stanza.source = node.file(&format!("v{n}.wasm"), &component("volume", &module, &["files"]));
        stanza
    };
    let network = |n: u8| {
        let module = guests::network(&format!("{{\"n\":{n}}}"), "/bin/true");
        let mut stanza = node.stanza(Kind::Network, b"", "grants = { exec = { programs = [\"/bin/true\"] } }");
        stanza.source = node.file(&format!("n{n}.wasm"), &component("network", &module, &["exec"]));
        stanza
    };
    let host = node.start([("v", volume(1)), ("n", network(1))]).await;
    let data = Volume {
        name: "data".into(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    };
    let sandbox = Sandbox {
        id: "s".into(),
        netns: "/n".into(),
        ifname: "eth0".into(),
        args: vec![],
        config: "{}".into(),
    };
    let published = host.publish(&pod(), &data).await.unwrap().host_path;
    let attached = host.setup(Some(&pod()), &sandbox).await.unwrap();
    let report = host.reload(plugins([("v", volume(2)), ("n", network(2))])).await;
    assert_eq!(report.refused().count(), 0, "{report}");
    assert_eq!(std::fs::read(published.join("file")).unwrap(), b"conten1");
    Network::check(&*host, &sandbox, Some(&attached.state)).await.unwrap();
    host.teardown(&sandbox, Some(&attached.state)).await.unwrap();
    for found in host.found(None).await.unwrap() {
        host.unpublish(&found).await.unwrap();
    }
    assert!(!published.exists());
    assert_eq!(host.setup(None, &sandbox).await.unwrap().cni_result, "{\"n\":2}");
}

#[tokio::test]
async fn a_version_that_cannot_read_what_was_kept_is_refused() {
    let node = Node::new();
    let network = |state_version: u32| {
        let manifest = manifest("network", "0.1", &["exec"])
            .replace("\"state_version\":0", &format!("\"state_version\":{state_version}"));
        let bytes = component_with("network", &guests::network("{}", "/bin/true"), Some(&manifest), false);
        let mut stanza = node.stanza(Kind::Network, b"", "grants = { exec = { programs = [\"/bin/true\"] } }");
        stanza.source = node.file(&format!("n{state_version}.wasm"), &bytes);
        stanza
    };
    let host = node.start([("n", network(1))]).await;
    let report = host.reload(plugins([("n", network(0))])).await;
    assert!(
        report
            .to_string()
            .contains("keeps state of version 1, this one reads only up to 0"),
        "{report}"
    );
    host.reload(plugins([("n", network(2))])).await;
    assert_eq!(host.list()[0].generation, 3);
    let report = host.roll_back("n").await;
    assert!(report.to_string().contains("keeps state of version 2"), "{report}");
}

#[tokio::test]
async fn every_kind_is_switched_while_it_is_used() {
    let node = Node::new();
    let stanza = |name: String, kind: Kind, bytes: &[u8], toml: &str| {
        let mut stanza = node.stanza(kind, b"", toml);
        stanza.source = node.file(&name, bytes);
        stanza
    };
    let policy = |n: u8| {
        stanza(
            format!("p{n}.wasm"),
            Kind::Policy,
            &component("policy", &guests::policy(["", "No"][usize::from(n)]), &[]),
            "",
        )
    };
    let logs = |n: u8| {
        stanza(
            format!("l{n}.wasm"),
            Kind::SinkLog,
            &component("sink-log", &guests::log_sink(u32::from(n)), &[]),
            "",
        )
    };
    let metrics = |n: u8| {
        stanza(
            format!("m{n}.wasm"),
            Kind::SinkMetric,
            &component(
                "sink-metric",
                &guests::metric_sink().replace("nothing", &format!("nothin{n}")),
                &[],
            ),
            "",
        )
    };
    let host = node.start([("p", policy(0)), ("l", logs(0)), ("m", metrics(0))]).await;
    // Held by the agent's tasks all the time.
    let (log_sink, metric_sink) = (host.log_sinks().remove(0), host.metric_sinks().remove(0));
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
    log_sink.push(std::slice::from_ref(&entry)).await.unwrap_err();
    assert_eq!(metric_sink.push(1, &[]).await.unwrap_err().message, "nothin0");
    assert!(host.admit(&pod()).await.unwrap().denied.is_none());
    let report = host
        .reload(plugins([("p", policy(1)), ("l", logs(1)), ("m", metrics(1))]))
        .await;
    assert_eq!(report.plugins.len(), 3, "{report}");
    log_sink.push(&[entry]).await.unwrap();
    assert_eq!(metric_sink.push(1, &[]).await.unwrap_err().message, "nothin1");
    assert_eq!(host.admit(&pod()).await.unwrap().denied.unwrap().reason, "No");
    assert_eq!(node.events.of("PluginActivated").len(), 3);
}

/// Resident memory of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_swaps_lose_no_call_and_no_memory() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    let node = Node::new();
    let paths: Vec<PathBuf> = (0..2)
        .map(|n| {
            node.file(&format!("{n}.wasm"), &good(&format!("v{n}")));
            node.path(&format!("{n}.wasm"))
        })
        .collect();
    let stanza = |n: usize| {
        PluginConfig::new(
            Kind::Probe,
            witlet_plugin_host::config::Source::File(paths[n % 2].clone()),
        )
    };
    let host = node.start([("test", stanza(0))]).await;
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|pod| {
            let (host, stop, calls) = (Arc::clone(&host), Arc::clone(&stop), Arc::clone(&calls));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // An error ends the task, and so the test.
                    message(&host, pod).await;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut settled = 0;
    for n in 1..=1000 {
        let report = host.reload(plugins([("test", stanza(n))])).await;
        assert!(
            matches!(report.plugins[0].1, SwapOutcome::Swapped { .. }),
            "{n}: {report}"
        );
        if n == 300 {
            settled = resident();
        }
    }
    let grown = resident().saturating_sub(settled);
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(calls.load(Ordering::Relaxed) > 1000);
    assert!(grown < 16 << 20, "{grown} bytes more after 700 swaps");
}
