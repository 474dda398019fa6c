#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::file::{Malformed, find};
use super::*;
use crate::config::fixture::{Fixture, pod, pod_of};

fn env(list: Value) -> Fixture {
    Fixture::new(pod_of(json!({"env": list})))
}

fn variables(fixture: &Fixture) -> Vec<(String, String)> {
    fixture.with("c", environment).unwrap().into_vec()
}

fn failure(fixture: &Fixture) -> String {
    fixture.with("c", environment).unwrap_err().message
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn references_expand() {
    let known = |name: &str| match name {
        "A" => "a".to_owned(),
        "EMPTY" => String::new(),
        "A$B" => "odd".to_owned(),
        other => format!("$({other})"),
    };
    for (text, expected) in [
        ("", ""),
        ("plain", "plain"),
        ("$(A)", "a"),
        ("x$(A)y$(A)z", "xayaz"),
        ("$(EMPTY)", ""),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$a"),
        ("$$$$(A)", "$$(A)"),
        ("$A", "$A"),
        ("$", "$"),
        ("a$", "a$"),
        ("$(", "$("),
        ("$(A", "$(A"),
        ("$(A$(A)", "$(A$(A)"),
        ("$(A$B)", "odd"),
        ("$()", "$()"),
        ("$)", "$)"),
        ("$é$(A)", "$éa"),
        ("${A}", "${A}"),
        ("$($(A))", "$($(A))"),
    ] {
        assert_eq!(expand(text, 1000, known).unwrap(), expected, "{text}");
    }
}

#[test]
fn later_variables_see_earlier_ones() {
    let fixture = env(json!([
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)$(C)"},
        {"name": "C", "value": "3"},
        {"name": "D", "value": "$(B)-$(C)-$(MY_SVC_SERVICE_HOST)"},
        {"name": "A", "value": "$(A)2"},
        {"name": "E"},
    ]))
    .service("ns", "my-svc", json!({"clusterIP": "10.0.0.5", "ports": []}));
    let expected = [
        ("A", "12"),
        ("B", "1$(C)"),
        ("C", "3"),
        ("D", "1$(C)-3-10.0.0.5"),
        ("E", ""),
        ("MY_SVC_SERVICE_HOST", "10.0.0.5"),
    ];
    assert_eq!(variables(&fixture), pairs(&expected));
}

#[test]
fn a_value_is_not_expanded_twice() {
    let fixture = env(json!([
        {"name": "A", "value": "$$(B)"},
        {"name": "B", "value": "b"},
        {"name": "C", "value": "$(A)"},
        {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
    ]))
    .config_map("m", json!({"k": "$(B)"}));
    let expected = [("A", "$(B)"), ("B", "b"), ("C", "$(B)"), ("D", "$(B)")];
    assert_eq!(variables(&fixture), pairs(&expected));
}

#[test]
fn objects() {
    let mut fixture = Fixture::new(pod_of(json!({
        "envFrom": [
            {"configMapRef": {"name": "m"}},
            {"prefix": "S_", "secretRef": {"name": "s"}},
            {"configMapRef": {"name": "missing", "optional": true}},
            {"secretRef": {"name": "missing", "optional": true}},
            {"configMapRef": {"name": "n"}},
        ],
        "env": [
            {"name": "B", "value": "own"},
            {"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "x"}}},
            {"name": "NO_KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "nope", "optional": true}}},
            {"name": "NO_MAP", "valueFrom": {"configMapKeyRef": {"name": "missing", "key": "nope", "optional": true}}},
        ],
    })))
    .config_map("m", json!({"A": "m-a", "B": "m-b", "not a name": "kept"}))
    .config_map("n", json!({"A": "n-a"}))
    .secret("s", &[("x", b"secret"), ("y", b"\xff")]);
    let expected = [
        ("A", "n-a"),
        ("B", "own"),
        ("not a name", "kept"),
        ("S_x", "secret"),
        ("S_y", "\u{fffd}"),
        ("K", "secret"),
    ];
    assert_eq!(variables(&fixture), pairs(&expected));

    fixture.objects.error = Some("the API is away".into());
    assert_eq!(failure(&fixture), "the API is away");
}

#[test]
fn what_is_missing() {
    let from = |source: Value| json!([{"name": "V", "valueFrom": source}]);
    let table = [
        (
            from(json!({"configMapKeyRef": {"name": "x", "key": "k"}})),
            "configmap \"x\" not found",
        ),
        (
            from(json!({"secretKeyRef": {"name": "x", "key": "k"}})),
            "secret \"x\" not found",
        ),
        (
            from(json!({"configMapKeyRef": {"name": "m", "key": "k"}})),
            "couldn't find key k in ConfigMap ns/m",
        ),
        (
            from(json!({"secretKeyRef": {"name": "s", "key": "k"}})),
            "couldn't find key k in Secret ns/s",
        ),
        (
            from(json!({"fieldRef": {"fieldPath": "spec.x"}})),
            "field label not supported: spec.x",
        ),
        (
            from(json!({"fieldRef": {"fieldPath": "status.phase"}})),
            "unsupported fieldPath: status.phase",
        ),
        (
            from(json!({"fieldRef": {"apiVersion": "v2", "fieldPath": "metadata.name"}})),
            "unsupported pod version: v2",
        ),
        (
            from(json!({"resourceFieldRef": {"resource": "limits.cpu", "containerName": "other"}})),
            "container other not found",
        ),
        (
            from(json!({"fileKeyRef": {"volumeName": "v", "path": "f", "key": "K"}})),
            "cannot find the volume \"v\" referenced by FileKeyRef",
        ),
    ];
    for (list, message) in table {
        let fixture = env(list).config_map("m", json!({})).secret("s", &[]);
        assert_eq!(failure(&fixture), message);
    }
    for (reference, message) in [
        ("configMapRef", "configmap \"x\" not found"),
        ("secretRef", "secret \"x\" not found"),
    ] {
        let fixture = Fixture::new(pod_of(json!({"envFrom": [{reference: {"name": "x"}}]})));
        assert_eq!(failure(&fixture), message);
    }
}

#[test]
fn fields_and_resources() {
    let mut fixture = Fixture::new(pod(json!({
        "nodeName": "n1",
        "serviceAccountName": "sa",
        "containers": [
            {"name": "c", "image": "i", "resources": {"limits": {"cpu": "1500m"}}, "env": [
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "NODE", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.host"}}},
                {"name": "SA", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
                {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
                {"name": "HOSTS", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIPs"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "OTHER", "valueFrom": {"resourceFieldRef": {
                    "resource": "requests.memory", "containerName": "d", "divisor": "1Ki"}}},
            ]},
            {"name": "d", "image": "i", "resources": {"requests": {"memory": "1Mi"}}},
        ],
    })));
    fixture.allocatable.insert("memory".into(), "2Gi".parse().unwrap());
    fixture.node.node_ips = vec!["fd00::1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
    fixture.ips = vec!["10.1.2.3".parse().unwrap(), "fd00:1::5".parse().unwrap()];
    let expected = [
        ("NAME", "p"),
        ("NODE", "n1"),
        ("SA", "sa"),
        ("IP", "fd00:1::5"),
        ("IPS", "fd00:1::5,10.1.2.3"),
        ("HOST", "fd00::1"),
        ("HOSTS", "fd00::1,10.0.0.1"),
        ("CPU", "2"),
        ("MEM", "2048"),
        ("OTHER", "1024"),
    ];
    assert_eq!(variables(&fixture), pairs(&expected));
}

#[test]
fn a_pod_on_the_nodes_network_has_its_addresses() {
    let list = json!([{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]);
    let mut fixture = env(list);
    fixture.ips.clear();
    assert_eq!(variables(&fixture), pairs(&[("IP", "")]));
    fixture.pod.spec.as_mut().unwrap().host_network = Some(true);
    assert_eq!(variables(&fixture), pairs(&[("IP", "10.89.0.1")]));
    fixture.pod.status.get_or_insert_default().pod_ip = Some("10.9.9.9".into());
    assert_eq!(variables(&fixture), pairs(&[("IP", "10.9.9.9")]));
}

#[test]
fn services() {
    let fixture = env(json!([{"name": "WEB_APP_PORT", "value": "own"}]))
        .service(
            "default",
            "kubernetes",
            json!({"clusterIP": "10.0.0.1", "ports": [{"port": 443, "name": "https"}]}),
        )
        .service(
            "ns",
            "web-app",
            json!({"clusterIP": "fd00::5", "ports": [
                {"port": 80, "name": "http-main"},
                {"port": 53, "protocol": "UDP", "name": "dns"},
            ]}),
        )
        .service("ns", "headless", json!({"clusterIP": "None", "ports": [{"port": 1}]}))
        .service("ns", "external", json!({"externalName": "x"}))
        .service(
            "other",
            "foreign",
            json!({"clusterIP": "10.0.0.9", "ports": [{"port": 1}]}),
        );
    let expected = [
        ("WEB_APP_PORT", "own"),
        ("KUBERNETES_PORT", "tcp://10.0.0.1:443"),
        ("KUBERNETES_PORT_443_TCP", "tcp://10.0.0.1:443"),
        ("KUBERNETES_PORT_443_TCP_ADDR", "10.0.0.1"),
        ("KUBERNETES_PORT_443_TCP_PORT", "443"),
        ("KUBERNETES_PORT_443_TCP_PROTO", "tcp"),
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
        ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
        ("WEB_APP_PORT_53_UDP", "udp://[fd00::5]:53"),
        ("WEB_APP_PORT_53_UDP_ADDR", "fd00::5"),
        ("WEB_APP_PORT_53_UDP_PORT", "53"),
        ("WEB_APP_PORT_53_UDP_PROTO", "udp"),
        ("WEB_APP_PORT_80_TCP", "tcp://[fd00::5]:80"),
        ("WEB_APP_PORT_80_TCP_ADDR", "fd00::5"),
        ("WEB_APP_PORT_80_TCP_PORT", "80"),
        ("WEB_APP_PORT_80_TCP_PROTO", "tcp"),
        ("WEB_APP_SERVICE_HOST", "fd00::5"),
        ("WEB_APP_SERVICE_PORT", "80"),
        ("WEB_APP_SERVICE_PORT_DNS", "53"),
        ("WEB_APP_SERVICE_PORT_HTTP_MAIN", "80"),
    ];
    assert_eq!(variables(&fixture), pairs(&expected));
}

#[test]
fn links_can_be_refused_but_not_to_the_api() {
    let mut fixture = env(json!([]))
        .service(
            "default",
            "kubernetes",
            json!({"clusterIP": "10.0.0.1", "ports": [{"port": 443}]}),
        )
        .service("ns", "web", json!({"clusterIP": "10.0.0.2", "ports": []}));
    fixture.pod.spec.as_mut().unwrap().enable_service_links = Some(false);
    let hosts = |f: &Fixture| {
        variables(f)
            .into_iter()
            .filter(|(k, _)| k.ends_with("_HOST"))
            .collect::<Vec<_>>()
    };
    assert_eq!(hosts(&fixture), pairs(&[("KUBERNETES_SERVICE_HOST", "10.0.0.1")]));

    // The pod's own service of that name comes first, wherever it stands in the list.
    for reversed in [false, true] {
        let mut fixture = env(json!([]))
            .service("default", "kubernetes", json!({"clusterIP": "10.0.0.1", "ports": []}))
            .service("ns", "kubernetes", json!({"clusterIP": "10.0.0.3", "ports": []}));
        if reversed {
            fixture.services.as_mut().unwrap().reverse();
        }
        assert_eq!(hosts(&fixture), pairs(&[("KUBERNETES_SERVICE_HOST", "10.0.0.3")]));
    }
}

#[test]
fn services_must_be_known() {
    let mut fixture = env(json!([]));
    fixture.services = None;
    assert_eq!(
        failure(&fixture),
        "services have not yet been read at least once, cannot construct envvars"
    );
    let annotations = [("kubernetes.io/config.source".to_owned(), "file".to_owned())];
    fixture.pod.metadata.annotations = Some(annotations.into());
    assert_eq!(variables(&fixture), []);
    fixture.pod.spec.as_mut().unwrap().enable_service_links = None;
    assert_eq!(
        failure(&fixture),
        "nil pod.spec.enableServiceLinks encountered, cannot construct envvars"
    );
}

#[test]
fn environment_files() {
    let content =
        "# by the init container\nHOST='db'\n\n  MOTD='two\nlines' # note\nEMPTY= 'x'\nHOST='later'\nLAST='1'";
    for (name, expected) in [
        ("HOST", Some("later")),
        ("MOTD", Some("two\nlines")),
        ("EMPTY", Some("")),
        ("LAST", Some("1")),
        ("ABSENT", None),
        ("lines", None),
    ] {
        assert_eq!(find(content, name), Ok(expected.map(str::to_owned)), "{name}");
    }
    for bad in [
        "A",
        "A=b",
        "A='b",
        "A ='b'",
        "='b'",
        "A='b'c",
        "A='b'#c",
        "A=\"b\"",
        "A='b' c",
        "export A='b'",
    ] {
        assert_eq!(find(bad, "A"), Err(Malformed), "{bad}");
    }
    for good in ["", "\n\n", "# only\n", "A='b'\r\n", "A=''", "A="] {
        assert!(find(good, "A").is_ok(), "{good}");
    }
}

#[test]
fn variables_from_files() {
    let file = |key: &str, path: &str, optional: bool| {
        json!([{"name": "V", "valueFrom": {"fileKeyRef": {
            "volumeName": "v", "path": path, "key": key, "optional": optional}}}])
    };
    let with = |list: Value| {
        let mut fixture = env(list).volume("v");
        let put = |(path, content): (&str, &str)| (("/vol/v".to_owned(), path.to_owned()), content.to_owned());
        fixture.objects.files = [("good", "A='1'\nE=''"), ("bad", "A=1")].map(put).into();
        fixture
    };
    assert_eq!(variables(&with(file("A", "good", false))), pairs(&[("V", "1")]));
    assert_eq!(variables(&with(file("B", "good", true))), []);
    assert_eq!(
        failure(&with(file("E", "good", false))),
        "environment variable key \"E\" not found in file \"good\""
    );
    assert_eq!(failure(&with(file("A", "bad", false))), "couldn't parse env file");
    assert_eq!(failure(&with(file("A", "missing", true))), "couldn't parse env file");
}

#[test]
fn growth_has_an_end() {
    let mut list = vec![json!({"name": "V0", "value": "x".repeat(1000)})];
    for i in 1..40 {
        list.push(json!({"name": format!("V{i}"), "value": format!("$(V{})$(V{})", i - 1, i - 1)}));
    }
    assert_eq!(
        failure(&env(Value::from(list))),
        "the environment is larger than 16 MiB"
    );
    // A text of openings alone must not take quadratic time: with it this would not end.
    let text = "$(".repeat(2 << 20);
    assert_eq!(expand(&text, MAX_BYTES, |_| String::new()).unwrap(), text);
}

#[test]
fn what_a_container_refers_to() {
    let pod = pod_of(json!({
        "envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}],
        "env": [
            {"name": "V", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
            {"name": "W", "valueFrom": {"secretKeyRef": {"name": "d", "key": "k"}}},
            {"name": "X", "valueFrom": {"secretKeyRef": {"name": "b", "key": "k"}}},
            {"name": "Y", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "f", "key": "k"}}},
            {"name": "Z", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "f", "key": "l"}}},
        ],
    }));
    let found = references(&pod.spec.unwrap().containers[0]);
    assert_eq!(found.config_maps.into_iter().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(found.secrets.into_iter().collect::<Vec<_>>(), ["b", "d"]);
    let file = ("v".to_owned(), "f".to_owned());
    assert_eq!(found.files.into_iter().collect::<Vec<_>>(), [file]);
}

proptest! {
    #[test]
    fn expansion_never_panics(text in "[$()A-Cé]{0,40}") {
        let result = expand(&text, 1000, |name| format!("<{name}>")).unwrap();
        // Nothing but references, doubled signs and what stands between them is touched.
        if !text.contains('$') {
            prop_assert_eq!(result, text);
        }
    }

    #[test]
    fn unknown_references_stay(text in "[()A-C ]{0,5}(\\$\\([A-C]{1,3}\\)[A-C ]{0,3}){0,5}") {
        prop_assert_eq!(expand(&text, 1000, |name| format!("$({name})")).unwrap(), text);
    }

    #[test]
    fn doubled_signs_are_literal(text in "[$()A-C]{0,20}") {
        let escaped = text.replace('$', "$$");
        prop_assert_eq!(expand(&escaped, 1000, |_| "?".to_owned()).unwrap(), text);
    }

    #[test]
    fn env_files_never_panic(text in "[A='# \\n\\r\té]{0,40}", key in "[A=]{0,2}") {
        let _ = find(&text, &key);
    }

    #[test]
    fn env_files_give_back_what_was_written(
        entries in proptest::collection::btree_map("[A-Z_]{1,8}", "[^']{0,20}", 0..6),
    ) {
        let content: String = entries.iter().map(|(k, v)| format!("{k}='{v}'\n")).collect();
        for (key, value) in &entries {
            prop_assert_eq!(find(&content, key), Ok(Some(value.clone())));
        }
    }

    /// The spec's order is kept, the last definition of a name holds, and its place is the first one's.
    #[test]
    fn order(names in proptest::collection::vec("[A-D]", 0..12)) {
        let list: Vec<_> = names.iter().enumerate().map(|(i, n)| json!({"name": n, "value": i.to_string()})).collect();
        let found = variables(&env(Value::from(list)));
        let mut expected: Vec<(String, String)> = Vec::new();
        for (i, name) in names.iter().enumerate() {
            match expected.iter_mut().find(|(n, _)| n == name) {
                Some(entry) => entry.1 = i.to_string(),
                None => expected.push((name.clone(), i.to_string())),
            }
        }
        prop_assert_eq!(found, expected);
    }
}
