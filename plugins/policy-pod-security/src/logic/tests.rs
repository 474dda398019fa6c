#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use witlet_sdk::config::parse;
use witlet_sdk::policy::Decision;

use super::*;

/// Meets every level.
fn hardened() -> Value {
    json!({
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "a",
                "ports": [{"containerPort": 80}],
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                },
                "livenessProbe": {"httpGet": {"port": 80}},
            }],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "secret": {"secretName": "s"}}],
        },
    })
}

/// With what stands at these pointers set to these values.
fn with(mut pod: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        let mut at = &mut pod;
        for key in pointer.split('/') {
            at = match key.parse::<usize>() {
                Ok(index) => {
                    let list = at.as_array_mut().unwrap();
                    while list.len() <= index {
                        list.push(json!({}));
                    }
                    &mut list[index]
                }
                Err(_) => &mut at[key],
            };
        }
        *at = value.clone();
    }
    pod
}

fn denial(level: &str, pod: &Value) -> Option<String> {
    let review = review(
        &parse(&json!({ "level": level }).to_string()).unwrap(),
        &pod.to_string(),
    )
    .unwrap();
    match review.decision {
        Decision::Allow => None,
        Decision::Deny(denial) => {
            assert_eq!(denial.reason, "PodSecurity");
            let prefix = format!("violates PodSecurity \"{level}:latest\": ");
            Some(denial.message.strip_prefix(&prefix).unwrap().to_owned())
        }
    }
}

#[test]
fn a_hardened_pod_meets_every_level() {
    for level in ["privileged", "baseline", "restricted"] {
        assert_eq!(denial(level, &hardened()), None, "{level}");
    }
}

#[test]
fn an_ordinary_pod_meets_baseline() {
    let pod = json!({"metadata": {}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    assert_eq!(denial("baseline", &pod), None);
    assert_eq!(
        denial("restricted", &pod).unwrap(),
        "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (containers \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or containers \"a\", \"b\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
}

/// Controls of `baseline`: the change to a hardened pod, and what is said. Except where a stricter control takes over,
/// `restricted` says the same.
#[test]
fn controls_of_baseline() {
    const CONTEXT: &str = "spec/containers/0/securityContext";
    let container = |field: &str| format!("{CONTEXT}/{field}");
    for (changes, message) in [
        (
            vec![("spec/hostNetwork".to_owned(), json!(true))],
            "host namespaces (hostNetwork=true)",
        ),
        (
            vec![
                ("spec/hostPID".to_owned(), json!(true)),
                ("spec/hostIPC".to_owned(), json!(true)),
            ],
            "host namespaces (hostPID=true, hostIPC=true)",
        ),
        (
            vec![(container("privileged"), json!(true))],
            "privileged (container \"a\" must not set securityContext.privileged=true)",
        ),
        (
            vec![("spec/containers/0/ports/0/hostPort".to_owned(), json!(8080))],
            "hostPort (container \"a\" uses hostPort 8080)",
        ),
        (
            vec![
                (
                    "spec/containers/0/ports".to_owned(),
                    json!([{"hostPort": 9}, {"hostPort": 80}, {"hostPort": 0}]),
                ),
                (
                    "spec/initContainers".to_owned(),
                    json!([{"name": "i", "ports": [{"hostPort": 80}], "securityContext": hardened()["spec"]["containers"][0]["securityContext"]}]),
                ),
            ],
            "hostPort (containers \"i\", \"a\" use hostPorts 80, 9)",
        ),
        (
            vec![(
                "spec/containers/0/livenessProbe/httpGet/host".to_owned(),
                json!("10.0.0.1"),
            )],
            "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"10.0.0.1\")",
        ),
        (
            vec![
                (
                    "spec/containers/0/readinessProbe".to_owned(),
                    json!({"tcpSocket": {"host": "b"}}),
                ),
                (
                    "spec/containers/0/lifecycle".to_owned(),
                    json!({"preStop": {"httpGet": {"host": "a"}}}),
                ),
            ],
            "probe or lifecycle host (container \"a\" uses probe or lifecycle hosts \"a\", \"b\")",
        ),
        (
            vec![(
                "spec/securityContext/sysctls".to_owned(),
                json!([{"name": "net.ipv4.tcp_rmem"}, {"name": "kernel.msgmax"}, {"name": "vm.x"}]),
            )],
            "forbidden sysctls (kernel.msgmax, vm.x)",
        ),
        (
            vec![(
                container("seLinuxOptions"),
                json!({"type": "spc_t", "user": "u", "role": "r"}),
            )],
            "seLinuxOptions (container \"a\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set; role may not be set)",
        ),
        (
            vec![
                ("spec/securityContext/seLinuxOptions".to_owned(), json!({"type": "x"})),
                (
                    container("seLinuxOptions"),
                    json!({"type": "container_t", "level": "s0", "role": "r"}),
                ),
            ],
            "seLinuxOptions (pod and container \"a\" set forbidden securityContext.seLinuxOptions: type \"x\"; role may not be set)",
        ),
        (
            vec![(
                "spec/securityContext/appArmorProfile".to_owned(),
                json!({"type": "Unconfined"}),
            )],
            "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            vec![
                (container("appArmorProfile"), json!({"type": "Unconfined"})),
                (
                    "metadata/annotations".to_owned(),
                    json!({
                        "container.apparmor.security.beta.kubernetes.io/a": "unconfined",
                        "container.apparmor.security.beta.kubernetes.io/b": "localhost/x",
                        "container.apparmor.security.beta.kubernetes.io/c": "runtime/default",
                    }),
                ),
            ],
            "forbidden AppArmor profiles (container \"a\" and annotation must not set AppArmor profile type to \
             \"Unconfined\", \"container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"\")",
        ),
        (
            vec![(
                "spec/securityContext/windowsOptions".to_owned(),
                json!({"hostProcess": true}),
            )],
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            vec![(container("procMount"), json!("Unmasked"))],
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            vec![(
                "spec/securityContext/seccompProfile/type".to_owned(),
                json!("Unconfined"),
            )],
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            vec![(container("seccompProfile"), json!({"type": "Unconfined"}))],
            "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
    ] {
        let changes: Vec<_> = changes
            .iter()
            .map(|(pointer, value)| (pointer.as_str(), value.clone()))
            .collect();
        let pod = with(hardened(), &changes);
        assert_eq!(denial("privileged", &pod), None);
        assert_eq!(denial("baseline", &pod).as_deref(), Some(message));
        assert_eq!(denial("restricted", &pod).as_deref(), Some(message));
    }
}

#[test]
fn controls_with_a_stricter_form() {
    for (pointer, value, baseline, restricted) in [
        (
            "spec/containers/0/securityContext/capabilities/add",
            json!(["CHOWN", "NET_BIND_SERVICE"]),
            None,
            "unrestricted capabilities (container \"a\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            "spec/containers/0/securityContext/capabilities",
            json!({"add": ["SYS_ADMIN", "NET_RAW"]}),
            Some(
                "non-default capabilities (container \"a\" must not include \"NET_RAW\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
            ),
            "unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]; \
             container \"a\" must not include \"NET_RAW\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            "spec/volumes",
            json!([{"name": "h", "hostPath": {"path": "/"}}, {"name": "i", "hostPath": {"path": "/"}}]),
            Some("hostPath volumes (volumes \"h\", \"i\")"),
            "restricted volume types (volumes \"h\", \"i\" use restricted volume type \"hostPath\")",
        ),
        (
            "spec/volumes",
            json!([{"name": "n", "nfs": {}, "emptyDir": null}, {"name": "o"}, {"name": "p", "image": {}}]),
            None,
            "restricted volume types (volumes \"n\", \"o\" use restricted volume types \"nfs\", \"unknown\")",
        ),
    ] {
        let pod = with(hardened(), &[(pointer, value)]);
        assert_eq!(denial("baseline", &pod).as_deref(), baseline);
        assert_eq!(denial("restricted", &pod).as_deref(), Some(restricted));
    }
}

#[test]
fn controls_of_restricted() {
    for (pointer, value, message) in [
        (
            "spec/containers/0/securityContext/allowPrivilegeEscalation",
            Value::Null,
            "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false)",
        ),
        (
            "spec/securityContext/runAsNonRoot",
            json!(false),
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        ),
        (
            "spec/securityContext/runAsNonRoot",
            Value::Null,
            "runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true)",
        ),
        (
            "spec/containers/0/securityContext/runAsNonRoot",
            json!(false),
            "runAsNonRoot != true (container \"a\" must not set securityContext.runAsNonRoot=false)",
        ),
        (
            "spec/securityContext/runAsUser",
            json!(0),
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
        (
            "spec/containers/0/securityContext/runAsUser",
            json!(0),
            "runAsUser=0 (container \"a\" must not set runAsUser=0)",
        ),
        (
            "spec/securityContext/seccompProfile",
            Value::Null,
            "seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        ),
    ] {
        let pod = with(hardened(), &[(pointer, value)]);
        assert_eq!(denial("baseline", &pod), None, "{pointer}");
        assert_eq!(denial("restricted", &pod).as_deref(), Some(message));
    }
}

#[test]
fn every_container_counts() {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let pod = json!({"spec": { list: [{"name": "x", "securityContext": {"privileged": true}}] }});
        let message = "privileged (container \"x\" must not set securityContext.privileged=true)";
        assert_eq!(denial("baseline", &pod).as_deref(), Some(message), "{list}");
    }
}

#[test]
fn users_of_its_own_relax_some_controls() {
    let changes = [
        ("spec/hostUsers", json!(false)),
        ("spec/securityContext/runAsNonRoot", json!(false)),
        ("spec/securityContext/runAsUser", json!(0)),
    ];
    assert_eq!(denial("restricted", &with(hardened(), &changes)), None);
    let unmasked = with(
        hardened(),
        &[
            ("spec/hostUsers", json!(false)),
            ("spec/containers/0/securityContext/procMount", json!("Unmasked")),
        ],
    );
    assert_eq!(denial("baseline", &unmasked), None);
    assert!(denial("restricted", &unmasked).unwrap().starts_with("procMount ("));
}

#[test]
fn windows_pods_have_no_linux_controls() {
    let pod = json!({"spec": {
        "os": {"name": "windows"}, "containers": [{"name": "a"}], "securityContext": {"runAsNonRoot": true},
    }});
    assert_eq!(denial("restricted", &pod), None);
}

#[test]
fn all_violations_are_told_in_order() {
    let pod = with(
        hardened(),
        &[
            ("spec/hostNetwork", json!(true)),
            ("spec/containers/0/securityContext/privileged", json!(true)),
            ("spec/securityContext/runAsUser", json!(0)),
        ],
    );
    assert_eq!(
        denial("restricted", &pod).unwrap(),
        "host namespaces (hostNetwork=true), privileged (container \"a\" must not set securityContext.privileged=true), \
         runAsUser=0 (pod must not set runAsUser=0)"
    );
}

#[test]
fn exempt_namespaces_are_not_looked_at() {
    let pod = with(hardened(), &[("spec/hostNetwork", json!(true))]).to_string();
    for (namespaces, allowed) in [(json!(["kube-system"]), false), (json!(["kube-system", "shop"]), true)] {
        let config = parse(&json!({"level": "baseline", "exempt_namespaces": namespaces}).to_string()).unwrap();
        assert_eq!(review(&config, &pod).unwrap().decision == Decision::Allow, allowed);
    }
}

#[test]
fn warnings_do_not_reject() {
    let pod = with(hardened(), &[("spec/containers/0/securityContext/runAsUser", json!(0))]).to_string();
    let config = parse(r#"{"level": "baseline", "warn": "restricted"}"#).unwrap();
    let review = review(&config, &pod).unwrap();
    assert_eq!(review.decision, Decision::Allow);
    assert_eq!(
        review.warnings,
        ["would violate PodSecurity \"restricted:latest\": runAsUser=0 (container \"a\" must not set runAsUser=0)"]
    );
}

#[test]
fn mistakes_in_the_configuration_are_told() {
    assert_eq!(parse::<Config>("{}").unwrap().level, Level::Privileged);
    for (config, text) in [
        (r#"{"level": "strict"}"#, "unknown variant `strict`"),
        (r#"{"exempt": []}"#, "unknown field `exempt`"),
    ] {
        assert!(parse::<Config>(config).unwrap_err().message().contains(text));
    }
}
