#![allow(clippy::unwrap_used)]

use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::prelude::*;

use super::*;
use crate::desired::{ANNOTATION_CONFIG_HASH, ANNOTATION_CONFIG_MIRROR, ANNOTATION_CONFIG_SOURCE, Source, annotation};

const WEB: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  containers:
  - name: web
    image: example.com/web
    ports:
    - containerPort: 80
    resources:
      limits: {cpu: 0.5, memory: 64Mi}
    livenessProbe:
      httpGet: {port: 80}
    volumeMounts:
    - {name: conf, mountPath: /conf}
    - {name: tmp, mountPath: /tmp}
  volumes:
  - name: conf
    configMap: {name: conf, defaultMode: 0600}
  - name: tmp
";

fn pod(yaml: &str) -> Pod {
    parse(yaml.as_bytes(), "web.yaml").unwrap()
}

fn messages(yaml: &str) -> Vec<String> {
    let errors = parse(yaml.as_bytes(), "f").unwrap_err();
    errors
        .problems
        .into_iter()
        .map(|p| format!("{}: {}", p.line.map_or(0, |l| l), p.message))
        .collect()
}

#[test]
fn defaults_are_those_of_the_api() {
    let web = pod(WEB);
    let spec = web.spec.unwrap();
    assert_eq!(web.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
    assert_eq!(spec.dns_policy.as_deref(), Some("ClusterFirst"));
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    assert_eq!(spec.enable_service_links, Some(true));
    assert_eq!(spec.scheduler_name.as_deref(), Some("default-scheduler"));
    assert!(spec.security_context.is_some());
    let c = &spec.containers[0];
    assert_eq!(c.image_pull_policy.as_deref(), Some("Always"));
    assert_eq!(c.termination_message_path.as_deref(), Some("/dev/termination-log"));
    assert_eq!(c.termination_message_policy.as_deref(), Some("File"));
    assert_eq!(c.ports.as_ref().unwrap()[0].protocol.as_deref(), Some("TCP"));
    assert_eq!(c.ports.as_ref().unwrap()[0].host_port, None);
    let resources = c.resources.as_ref().unwrap();
    assert_eq!(resources.limits.as_ref().unwrap()["cpu"].0, "500m");
    assert_eq!(resources.requests, resources.limits);
    let probe = c.liveness_probe.as_ref().unwrap();
    assert_eq!(
        (
            probe.timeout_seconds,
            probe.period_seconds,
            probe.success_threshold,
            probe.failure_threshold
        ),
        (Some(1), Some(10), Some(1), Some(3))
    );
    let http = probe.http_get.as_ref().unwrap();
    assert_eq!(
        (http.path.as_deref(), http.scheme.as_deref()),
        (Some("/"), Some("HTTP"))
    );
    let volumes = spec.volumes.unwrap();
    assert_eq!(
        volumes[0].config_map.as_ref().unwrap().default_mode,
        Some(0o600),
        "a leading zero is octal"
    );
    assert!(volumes[1].empty_dir.is_some());
}

#[test]
fn defaulting_twice_changes_nothing() {
    let once = pod(WEB);
    let mut twice = once.clone();
    default_pod(&mut twice);
    assert_eq!(once, twice);
}

#[test]
fn ports_of_the_hosts_network_are_host_ports() {
    let host = pod(&WEB.replace("spec:\n", "spec:\n  hostNetwork: true\n"));
    assert_eq!(
        host.spec.unwrap().containers[0].ports.as_ref().unwrap()[0].host_port,
        Some(80)
    );
}

#[test]
fn pull_policy_follows_the_tag() {
    for (image, policy) in [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("registry:5000/busybox", "Always"),
        ("registry:5000/busybox:1", "IfNotPresent"),
        ("busybox@sha256:00", "IfNotPresent"),
    ] {
        assert_eq!(default::pull_policy(image), policy, "{image}");
    }
}

#[test]
fn requests_of_the_pod_come_from_its_containers_or_its_limits() {
    let mut p: Pod = serde_json::from_value(serde_json::json!({
    "metadata": {"name": "p", "namespace": "d"},
    "spec": {
        "resources": {"limits": {"cpu": "4", "memory": "1Gi"}},
        "initContainers": [{"name": "i", "image": "x", "resources": {"requests": {"cpu": "3"}}}],
        "containers": [
            {"name": "a", "image": "x", "resources": {"requests": {"cpu": "1"}}},
            {"name": "b", "image": "x", "resources": {"requests": {"cpu": "1"}}}],
    }}))
    .unwrap();
    default_pod(&mut p);
    let requests = p.spec.unwrap().resources.unwrap().requests.unwrap();
    assert_eq!(requests["cpu"].0, "3");
    assert_eq!(requests["memory"].0, "1Gi");
}

#[test]
fn twelve_mistakes_are_told_at_once_with_their_lines() {
    let yaml = "apiVersion: v1
kind: Pod
metadata:
  name: Web_1
  namespace: a.b
spec:
  restartPolcy: Always
  restartPolicy: Sometimes
  terminationGracePeriodSeconds: soon
  containers:
  - name: a
    imag: x
    ports:
    - containerPort: 99999
    env:
    - value: x
    volumeMounts:
    - name: nowhere
      mountPath: /x
    resources:
      requests: {cpu: 2}
      limits: {cpu: 1}
  - name: a
    image: y
    readinessProbe: {}
";
    let errors = parse(yaml.as_bytes(), "/etc/pods/web.yaml").unwrap_err();
    let text = errors.to_string();
    let expected = [
        ":4: metadata.name: Invalid value: \"Web_1\": a lowercase RFC 1123 subdomain must",
        ":5: metadata.namespace: Invalid value: \"a.b\": a lowercase RFC 1123 label must",
        ":7: spec.restartPolcy: unknown field",
        ":8: spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ":9: spec.terminationGracePeriodSeconds: expected a 64-bit integer, found a string",
        ":11: spec.containers[0].image: Required value",
        ":12: spec.containers[0].imag: unknown field",
        ":14: spec.containers[0].ports[0].containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive",
        ":16: spec.containers[0].env[0].name: Required value",
        ":18: spec.containers[0].volumeMounts[0].name: Not found: \"nowhere\"",
        ":21: spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ":23: spec.containers[1].name: Duplicate value: \"a\"",
        ":25: spec.containers[1].readinessProbe: Required value: must specify a handler type",
    ];
    for line in expected {
        assert!(
            text.contains(&format!("/etc/pods/web.yaml{line}")),
            "{line}\nnot in\n{text}"
        );
    }
    assert_eq!(errors.problems.len(), expected.len(), "{text}");
    assert!(text.starts_with("/etc/pods/web.yaml: 13 errors\n"), "{text}");
}

#[test]
fn a_value_that_its_type_refuses_does_not_hide_the_others() {
    let yaml = "apiVersion: v1
kind: Pod
metadata:
  name: web
  creationTimestamp: yesterday
spec:
  oops: 1
  containers:
  - name: a
    image: x
    resources:
      limits:
        cpu: [1]
";
    let found = messages(yaml);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("5: metadata.creationTimestamp: "), "{found:?}");
    assert_eq!(found[1], "7: spec.oops: unknown field");
    assert!(
        found[2].starts_with("13: spec.containers[0].resources.limits.cpu: "),
        "{found:?}"
    );
}

#[test]
fn json_is_read_too_even_with_tabs() {
    let json = "{\n\t\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n\t\"metadata\": {\"name\": \"a\"},\n\t\"spec\": {\"containers\": [{\"name\": \"a\", \"image\": \"x\", \"tty\": true}]}\n}";
    assert_eq!(pod(json).spec.unwrap().containers[0].tty, Some(true));
}

#[test]
fn what_is_no_pod_is_said_in_one_line() {
    for (text, part) in [
        ("", "expected a map"),
        ("- 1", "expected a map"),
        (
            "apiVersion: apps/v1\nkind: Deployment",
            "f:1: expected apiVersion v1 and kind Pod, found apps/v1 and Deployment",
        ),
        (
            "apiVersion: v1\nkind: PodList\nitems: []",
            "f:2: kind: a PodList where one Pod is expected",
        ),
        ("a: [1", "f:"),
        ("a: 1\na: 2", "f:2: "),
        ("apiVersion: v1\nkind: Pod\n---\napiVersion: v1\n", "f"),
    ] {
        let error = parse(text.as_bytes(), "f").unwrap_err();
        assert_eq!(error.problems.len(), 1, "{text}");
        assert!(error.to_string().contains(part), "{text}: {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    assert_eq!(parse(b"a\n\xff", "f").unwrap_err().to_string(), "f:2: not UTF-8 text");
    assert_eq!(
        parse(&vec![b' '; MAX_BYTES + 1], "f").unwrap_err().to_string(),
        "f: larger than 10 MiB"
    );
}

#[test]
fn depth_and_anchors_cannot_exhaust_the_node() {
    // Whatever the caller's thread has.
    let small = |text: String| {
        let thread = std::thread::Builder::new().stack_size(256 << 10);
        thread
            .spawn(move || parse(text.as_bytes(), "f").is_err())
            .unwrap()
            .join()
            .unwrap()
    };
    for depth in [10, 20, 31, 32, 33, 40, 64, 100, 127, 1000, 100_000] {
        assert!(small("[".repeat(depth)));
        assert!(small(format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth))));
        assert!(small(format!("{}1{}", "[{\"a\":".repeat(depth), "}]".repeat(depth))));
        assert!(small(format!(
            "{{\t{}1{}}}",
            "\"a\":{".repeat(depth),
            "}".repeat(depth)
        )));
        let block: String = (0..depth.min(1000)).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
        assert!(small(block));
    }
    let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for i in 1..12 {
        let refs = vec![format!("*a{}", i - 1); 10].join(",");
        laughs += &format!("a{i}: &a{i} [{refs}]\n");
    }
    assert!(parse(laughs.as_bytes(), "f").is_err());
}

#[test]
fn dangerous_paths_and_names_are_refused() {
    let bad = |from: &str, to: &str, part: &str| {
        let text = WEB.replace(from, to);
        assert_ne!(text, WEB, "{from}");
        let error = parse(text.as_bytes(), "f").unwrap_err().to_string();
        assert!(error.contains(part), "{to}: {error}");
    };
    bad(
        "  name: web\n",
        "  name: ../../etc\n",
        "metadata.name: Invalid value: \"../../etc\"",
    );
    bad(
        "  name: web\n",
        "  name: web\n  uid: ../x\n",
        "metadata.uid: Invalid value",
    );
    bad(
        "- name: tmp",
        "- name: ..",
        "spec.volumes[1].name: Invalid value: \"..\"",
    );
    bad(
        "mountPath: /tmp}",
        "mountPath: /tmp, subPath: ../x}",
        "volumeMounts[1].subPath: Invalid value: \"../x\": must not contain '..'",
    );
    bad(
        "mountPath: /tmp}",
        "mountPath: /conf}",
        "volumeMounts[1].mountPath: Invalid value: \"/conf\": must be unique",
    );
    bad(
        "- name: tmp",
        "- name: tmp\n    hostPath: {path: /a/../b}",
        "hostPath.path: Invalid value: \"/a/../b\"",
    );
    bad(
        "defaultMode: 0600",
        "defaultMode: 01777",
        "configMap.defaultMode: Invalid value: 1023",
    );
    bad(
        "defaultMode: 0600",
        "items: [{key: a, path: ../b}]",
        "configMap.items[0].path: Invalid value: \"../b\"",
    );
    bad(
        "cpu: 0.5",
        "cpu: -1",
        "limits.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
    );
    bad(
        "cpu: 0.5",
        "cpu: lots",
        "limits.cpu: Invalid value: \"lots\": quantities must match",
    );
}

#[test]
fn init_containers_have_no_probes_but_sidecars_do() {
    let with = |policy: &str| {
        WEB.replace(
            "  containers:",
            &format!("  initContainers:\n  - name: i\n    image: x\n{policy}    readinessProbe: {{tcpSocket: {{port: 1}}}}\n  containers:"),
        )
    };
    assert_eq!(
        messages(&with("")),
        [
            "11: spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"
        ]
    );
    assert!(parse(with("    restartPolicy: Always\n").as_bytes(), "f").is_ok());
}

// === Identity ===

#[test]
fn the_identity_is_deterministic_and_depends_on_everything() {
    let adopted = |yaml: &str, node: &str, path: &str| adopt(pod(yaml), Source::File, node, path);
    let web = adopted(WEB, "Node1", "/p/web.yaml");
    assert_eq!(web, adopted(WEB, "Node1", "/p/web.yaml"));
    let uid = |p: &Pod| p.metadata.uid.clone().unwrap();
    assert_eq!(uid(&web).len(), 32);
    assert!(
        uid(&web)
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    );
    for other in [
        adopted(&WEB.replace("0.5", "0.6"), "Node1", "/p/web.yaml"),
        adopted(WEB, "Node2", "/p/web.yaml"),
        adopted(WEB, "Node1", "/p/web2.yaml"),
    ] {
        assert_ne!(uid(&web), uid(&other));
    }
    assert_eq!(web.metadata.name.as_deref(), Some("web-node1"));
    assert_eq!(annotation(&web, ANNOTATION_CONFIG_HASH), Some(uid(&web).as_str()));
    assert_eq!(annotation(&web, ANNOTATION_CONFIG_SOURCE), Some("file"));
    let spec = web.spec.as_ref().unwrap();
    assert_eq!(spec.node_name.as_deref(), Some("Node1"));
    let toleration = &spec.tolerations.as_ref().unwrap()[0];
    assert_eq!(
        (toleration.operator.as_deref(), toleration.effect.as_deref()),
        (Some("Exists"), Some("NoExecute"))
    );
    assert_eq!(web.status.unwrap().phase.as_deref(), Some("Pending"));
}

#[test]
fn an_authors_uid_stays_and_is_the_hash() {
    let text = WEB.replace("  name: web\n", "  name: web\n  uid: fixed-1\n");
    let web = adopt(pod(&text), Source::Http, "n", "http://x");
    assert_eq!(web.metadata.uid.as_deref(), Some("fixed-1"));
    assert_eq!(annotation(&web, ANNOTATION_CONFIG_HASH), Some("fixed-1"));
    assert_eq!(annotation(&web, ANNOTATION_CONFIG_SOURCE), Some("http"));
    assert_eq!(web.spec.unwrap().tolerations, None);
}

#[test]
fn a_mirror_belongs_to_the_node_and_names_the_hash() {
    let web = adopt(pod(WEB), Source::File, "n", "/p");
    let node = |meta| serde_json::from_value::<Node>(serde_json::json!({"metadata": meta})).unwrap();
    let mirror = mirror_of(&web, &node(serde_json::json!({"name": "n", "uid": "u1"}))).unwrap();
    assert_eq!(
        annotation(&mirror, ANNOTATION_CONFIG_MIRROR),
        web.metadata.uid.as_deref()
    );
    assert_eq!(mirror.metadata.uid, None);
    let owners = mirror.metadata.owner_references.unwrap();
    let owner = (
        owners[0].kind.as_str(),
        owners[0].name.as_str(),
        owners[0].uid.as_str(),
        owners[0].controller,
    );
    assert_eq!((owners.len(), owner), (1, ("Node", "n", "u1", Some(true))));
    assert_eq!(mirror.spec, web.spec);
    assert!(
        mirror_of(&web, &node(serde_json::json!({"name": "n"}))).is_none(),
        "the node has no UID yet"
    );
    assert!(
        mirror_of(&pod(WEB), &node(serde_json::json!({"name": "n", "uid": "u1"}))).is_none(),
        "not a static pod"
    );
}

#[test]
fn references_to_the_api_are_refused_where_enforced() {
    let refused = |from: &str, to: &str| {
        let p = pod(&WEB
            .replace(
                "  - name: conf\n    configMap: {name: conf, defaultMode: 0600}",
                "  - name: conf",
            )
            .replace(from, to));
        (refuse_api_references(&p, true), refuse_api_references(&p, false))
    };
    assert_eq!(refused("", ""), (None, None));
    for (from, to, what) in [
        ("spec:\n", "spec:\n  serviceAccountName: x\n", "serviceaccounts"),
        ("spec:\n", "spec:\n  imagePullSecrets: [{name: x}]\n", "secrets"),
        (
            "    ports:",
            "    envFrom: [{configMapRef: {name: x}}]\n    ports:",
            "configmaps",
        ),
        (
            "    ports:",
            "    env: [{name: A, valueFrom: {secretKeyRef: {name: x, key: k}}}]\n    ports:",
            "secrets",
        ),
        (
            "- name: tmp\n",
            "- name: tmp\n    persistentVolumeClaim: {claimName: x}\n",
            "persistentVolumeClaim",
        ),
        (
            "- name: tmp\n",
            "- name: tmp\n    projected: {sources: [{serviceAccountToken: {path: t}}]}\n",
            "serviceaccounts",
        ),
    ] {
        let (enforced, lax) = refused(from, to);
        assert!(
            enforced.as_ref().is_some_and(|e| e.contains(what)),
            "{to}: {enforced:?}"
        );
        assert_eq!(lax, None, "{to}");
    }
    let (enforced, lax) = refused("spec:\n", "spec:\n  resourceClaims: [{name: x}]\n");
    assert!(enforced.is_some() && enforced == lax);
}

// === Properties ===

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes, "f");
    }

    /// Damage a good manifest anywhere: it is read or refused, and an accepted one can be adopted.
    #[test]
    fn damaged_manifests_do_not_panic(at in 0..WEB.len(), cut in 0usize..30, insert in "[\\[\\]{}:,\\-&*!|>'\"%@`# \n\t0-9a-z\\PC]{0,6}") {
        let end = (at + cut).min(WEB.len());
        let text = format!("{}{}{}", &WEB[..at], insert, &WEB[end..]);
        match parse(text.as_bytes(), "f") {
            Ok(p) => { adopt(p, Source::File, "n", "/p"); }
            Err(e) => prop_assert!(!e.problems.is_empty()),
        }
    }

    /// Whatever an API client sends, defaulting and validation are total, and defaulting is idempotent.
    #[test]
    fn arbitrary_fields_are_survived(image in ".{0,12}", quantity in "[-+0-9.eEinumkMGTP]{0,8}", name in ".{0,6}", port in any::<i32>()) {
        let mut p: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "labels": {name.clone(): image}},
            "spec": {
                "hostNetwork": true,
                "overhead": {"cpu": quantity},
                "resources": {"limits": {"cpu": quantity}},
                "containers": [{"name": name, "image": image, "ports": [{"containerPort": port}],
                    "resources": {"limits": {"cpu": quantity, name.clone(): quantity}}}],
            }})).unwrap();
        default_pod(&mut p);
        let again = { let mut q = p.clone(); default_pod(&mut q); q };
        prop_assert_eq!(&p, &again);
        let _ = validate_pod(&p);
    }
}

#[test]
fn a_list_is_read_where_one_may_stand() {
    let item = |name: &str| format!("- metadata: {{name: {name}}}\n  spec: {{containers: [{{name: c, image: x}}]}}\n");
    let list = format!("apiVersion: v1\nkind: PodList\nitems:\n{}{}", item("a"), item("b"));
    let names = |text: &str| -> Vec<_> {
        let pods = parse_all(text.as_bytes(), "u").unwrap();
        pods.into_iter()
            .map(|p| (p.metadata.name.unwrap(), p.metadata.namespace.unwrap()))
            .collect()
    };
    let default = |name: &str| (name.to_owned(), "default".to_owned());
    assert_eq!(names(&list), [default("a"), default("b")]);
    assert_eq!(names("apiVersion: v1\nkind: PodList\n"), []);
    assert_eq!(
        names("apiVersion: v1\nkind: Pod\nmetadata: {name: one}\nspec: {containers: [{name: c, image: x}]}"),
        [default("one")]
    );
    let bad = list.replace("image: x", "imagge: x");
    let errors = parse_all(bad.as_bytes(), "u").unwrap_err().to_string();
    assert!(errors.contains("u:5: items[0].spec.containers[0].imagge: "), "{errors}");
    assert!(errors.contains("u:7: items[1].spec.containers[0].imagge: "), "{errors}");
    for text in [
        "apiVersion: v1\nkind: PodList\nitems: 3",
        "apiVersion: v1\nkind: PodList\nitems: [1]",
    ] {
        assert!(parse_all(text.as_bytes(), "u").is_err(), "{text}");
    }
}
