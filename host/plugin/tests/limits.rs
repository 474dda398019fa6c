//! A plugin that misbehaves fails its call, and nothing else.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Node, check, component, eventually, guests, metric};
use futures::future::join_all;
use witlet_plugin_host::config::Kind;
use witlet_ports::Class;
use witlet_ports::probe::{Probes, Verdict};

fn moody() -> Vec<u8> {
    component("probe", &guests::moody_probe("hello"), &[])
}

#[tokio::test]
async fn a_plugin_answers() {
    let node = Node::new();
    let host = node.start([("test", node.stanza(Kind::Probe, &moody(), ""))]).await;
    let outcome = host.check(check("P")).await.unwrap();
    assert_eq!((outcome.verdict, outcome.message.as_str()), (Verdict::Pass, "hello"));
    assert_eq!(host.check(check("F")).await.unwrap().verdict, Verdict::Fail);
    // Its own error is passed on in its own words.
    let error = host.check(check("E")).await.unwrap_err();
    assert_eq!(
        (error.class, error.message.as_str()),
        (Class::Terminal, "the text of an error")
    );
    let calls = |outcome| {
        metric(
            &host,
            "witlet_plugin_calls_total",
            &[("func", "check"), ("outcome", outcome)],
        )
    };
    assert_eq!((calls("ok"), calls("guest_error")), (2.0, 1.0));
    let count = metric(
        &host,
        "witlet_plugin_call_duration_seconds_count",
        &[("plugin", "test")],
    );
    assert!((count - 3.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn every_fault_has_its_own_words_and_leaves_the_plugin_usable() {
    let node = Node::new();
    let limits = "limits = { memory = \"8MiB\", cpu_per_call = \"50ms\" }";
    let host = node.start([("test", node.stanza(Kind::Probe, &moody(), limits))]).await;
    for (mood, class, words, outcome) in [
        (
            "T",
            Class::Retry,
            "it trapped: wasm trap: wasm `unreachable` instruction executed",
            "trap",
        ),
        (
            "L",
            Class::Retry,
            "it used more than its 50ms of processor time",
            "cpu_timeout",
        ),
        ("M", Class::Retry, "the limit is 8MiB (limits.memory)", "trap"),
        ("H", Class::Retry, "it trapped", "trap"),
        ("R", Class::Retry, "call stack exhausted", "trap"),
        ("B", Class::Retry, "it trapped", "trap"),
        ("U", Class::Retry, "it trapped", "trap"),
        ("K", Class::Retry, "it trapped", "trap"),
    ] {
        let before = metric(&host, "witlet_plugin_calls_total", &[("outcome", outcome)]);
        let error = host.check(check(mood)).await.unwrap_err();
        assert!(
            error.message.starts_with("plugin test, check: "),
            "{mood}: {}",
            error.message
        );
        assert!(error.message.contains(words), "{mood}: {}", error.message);
        assert_eq!((error.class, error.reason), (class, Some("PluginFailed")), "{mood}");
        let after = metric(&host, "witlet_plugin_calls_total", &[("outcome", outcome)]);
        assert!((after - before - 1.0).abs() < f64::EPSILON, "{mood}: {outcome}");
        assert_eq!(host.check(check("P")).await.unwrap().message, "hello", "after {mood}");
    }
    let peak = metric(&host, "witlet_plugin_memory_peak_bytes", &[("plugin", "test")]);
    assert!(peak > 0.0 && peak <= f64::from(8 << 20), "{peak}");
}

#[tokio::test]
async fn loops_for_ever_do_not_disturb_others() {
    let node = Node::new();
    let component = moody();
    // More loops at once than there are threads for guests, each with much time.
    let slow = node.stanza(Kind::Probe, &component, "limits = { cpu_per_call = \"600s\" }");
    let quick = node.stanza(Kind::Probe, &component, "");
    let host = node.start([("slow", slow), ("test", quick)]).await;
    let loops: Vec<_> = (0..4)
        .map(|_| {
            let host = std::sync::Arc::clone(&host);
            let mut check = check("L");
            check.plugin = "slow".into();
            tokio::spawn(async move { host.check(check).await })
        })
        .collect();
    // They run until they are dropped; the others are answered meanwhile, and so is the agent's own work.
    let answers = join_all((0..20).map(|_| host.check(check("P")))).await;
    assert!(
        answers
            .iter()
            .all(|a| a.as_ref().is_ok_and(|o| o.verdict == Verdict::Pass))
    );
    assert!(loops.iter().all(|l| !l.is_finished()));
    loops.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_also_while_the_host_works_for_it() {
    let node = Node::new();
    let component = component("probe", &guests::exec_probe(), &["container-exec"]);
    let toml = "grants = { container-exec = { argv = [\"*\"] } }\nlimits = { wall_per_call = \"100ms\" }";
    let host = node.start([("test", node.stanza(Kind::Probe, &component, toml))]).await;
    let error = host.check(check("wait")).await.unwrap_err();
    assert_eq!(error.class, Class::Timeout);
    assert_eq!(error.message, "plugin test, check: it did not answer within 100ms");
}

#[tokio::test]
async fn too_many_calls_are_turned_away() {
    let node = Node::new();
    let component = component("probe", &guests::exec_probe(), &["container-exec"]);
    let toml = "grants = { container-exec = { argv = [\"*\"] } }\nlimits = { concurrency = 1, queue = 1 }";
    let host = node.start([("test", node.stanza(Kind::Probe, &component, toml))]).await;
    let spawn = |params: &str| {
        let (host, check) = (std::sync::Arc::clone(&host), check(params));
        tokio::spawn(async move { host.check(check).await })
    };
    let first = spawn("wait");
    node.runtime.started.notified().await;
    let second = spawn("echo");
    eventually("the second waits", || async {
        metric(&host, "witlet_plugin_queue_depth", &[]) > 0.0
    })
    .await;
    let error = host.check(check("echo")).await.unwrap_err();
    assert_eq!(error.message, "plugin test, check: too many calls are waiting (1)");
    node.runtime.release.notify_one();
    assert_eq!(first.await.unwrap().unwrap().message, "id: wait");
    assert_eq!(second.await.unwrap().unwrap().message, "id: echo");
}

#[tokio::test]
async fn an_instance_per_call_or_some_that_are_kept() {
    let node = Node::new();
    let host = node.start([("test", node.stanza(Kind::Probe, &moody(), ""))]).await;
    for _ in 0..3 {
        assert_eq!(
            host.check(check("C")).await.unwrap().message,
            "1",
            "nothing survives a call"
        );
    }
    let warm = "limits = { instances = { warm = 1, max_calls = 3 } }";
    let host = node.start([("test", node.stanza(Kind::Probe, &moody(), warm))]).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(host.check(check("C")).await.unwrap().message);
    }
    assert_eq!(seen, ["1", "2", "3", "1"], "it is thrown away after max_calls");
    // A trap throws it away at once.
    host.check(check("T")).await.unwrap_err();
    assert_eq!(host.check(check("C")).await.unwrap().message, "1");
}

#[tokio::test]
async fn a_dropped_call_frees_its_place() {
    let node = Node::new();
    let component = component("probe", &guests::exec_probe(), &["container-exec"]);
    let toml = "grants = { container-exec = { argv = [\"*\"] } }\nlimits = { concurrency = 1, queue = 0 }";
    let host = node.start([("test", node.stanza(Kind::Probe, &component, toml))]).await;
    {
        let waiting = host.check(check("wait"));
        tokio::select! {
            _ = waiting => panic!("it cannot end"),
            () = node.runtime.started.notified() => {}
        }
    }
    eventually("the place is free", || async {
        host.check(check("echo")).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn grants_narrow_what_a_capability_does() {
    let node = Node::new();
    let exec = component("probe", &guests::exec_probe(), &["container-exec"]);
    let toml = "grants = { container-exec = { argv = [\"true\"] } }";
    let host = node.start([("test", node.stanza(Kind::Probe, &exec, toml))]).await;
    let error = host.check(check("false")).await.unwrap_err();
    assert_eq!(error.class, Class::Denied);
    assert_eq!(
        error.message,
        "the grant container-exec does not list \"false\" in argv"
    );
    let denied = metric(&host, "witlet_plugin_capability_calls_total", &[("outcome", "denied")]);
    assert!((denied - 1.0).abs() < f64::EPSILON);

    // Port 81 is neither declared nor probed by the pod.
    let connect = component("probe", &guests::connecting_probe(), &["pod-net"]);
    let host = node
        .start([("test", node.stanza(Kind::Probe, &connect, "grants = { pod-net = {} }"))])
        .await;
    let error = host.check(check("")).await.unwrap_err();
    assert_eq!(error.class, Class::Denied);
    assert!(
        error
            .message
            .starts_with("port 81 is neither declared nor probed by the pod"),
        "{}",
        error.message
    );
}
