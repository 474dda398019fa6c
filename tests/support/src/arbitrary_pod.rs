//! Pods as nobody would write them, for properties that must hold for all: that nothing panics, that nothing grows without end.
//!
//! A pod is made of a string of bytes, so that a failing one shrinks by itself. What it says is of the right types, and
//! otherwise anything: empty, endless, negative, of other scripts, contradictory.

#![allow(clippy::missing_panics_doc)]

use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Pods of all shapes.
pub fn arbitrary_pod() -> impl Strategy<Value = Pod> {
    proptest::collection::vec(any::<u8>(), 0..1500).prop_map(|bytes| {
        let pod = Entropy { bytes, at: 0 }.pod();
        serde_json::from_value(pod).expect("the generator keeps to the types of the API")
    })
}

/// Names that several places choose from, so that some of them fit.
const NAMES: [&str; 5] = ["a", "b", "web", "", "x-1"];
const TEXTS: [&str; 18] = [
    "",
    "a",
    "default",
    "/",
    "..",
    "../../etc",
    "a/b/c",
    "/var/run",
    "$(A)",
    "$(A",
    "$$",
    "$(B)$(A)",
    "ü—☺",
    "line\nline",
    "\0",
    "a b",
    "-",
    "com.example/name",
];
const QUANTITIES: [&str; 14] = [
    "0",
    "1",
    "100m",
    "1m",
    "-1",
    "0.1",
    "1Gi",
    "64Mi",
    "1e18",
    "9223372036854775807",
    "99999999999999999999999999",
    "-9223372036854775808",
    "1.000000001Ki",
    "nonsense",
];
const RESOURCES: [&str; 7] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "hugepages-2Mi",
    "hugepages-1Gi",
    "hugepages-",
    "example.com/gpu",
];
const NUMBERS: [i64; 9] = [0, 1, -1, 80, 65535, 65536, i32::MAX as i64, i64::MAX, i64::MIN];

type Make = fn(&mut Entropy) -> Value;

struct Entropy {
    bytes: Vec<u8>,
    at: usize,
}

impl Entropy {
    /// Nothing but zeros behind the end: the pod ends there too.
    fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    fn some(&mut self) -> bool {
        self.byte() % 3 == 1
    }

    fn yes(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    fn text(&mut self) -> Value {
        match self.byte() % 32 {
            31 => json!("x".repeat(300)),
            30 => json!("$(A)".repeat(100)),
            _ => json!(self.pick(&TEXTS)),
        }
    }

    fn name(&mut self) -> Value {
        json!(self.pick(&NAMES))
    }

    fn long(&mut self) -> Value {
        json!(self.pick(&NUMBERS))
    }

    fn int(&mut self) -> Value {
        json!(i32::try_from(self.pick(&NUMBERS)).unwrap_or(i32::MIN))
    }

    fn list(&mut self, make: fn(&mut Self) -> Value) -> Value {
        let length = self.byte() % 4;
        (0..length).map(|_| make(self)).collect()
    }

    fn map(&mut self, key: fn(&mut Self) -> Value, value: fn(&mut Self) -> Value) -> Value {
        let mut map = Map::new();
        for _ in 0..self.byte() % 4 {
            let key = key(self).as_str().unwrap_or_default().to_owned();
            map.insert(key, value(self));
        }
        Value::Object(map)
    }

    /// An object with some of the fields.
    fn object(&mut self, fields: &[(&str, Make)]) -> Value {
        let mut object = Map::new();
        for (name, make) in fields {
            if self.some() {
                object.insert((*name).to_owned(), make(self));
            }
        }
        Value::Object(object)
    }

    /// And one field that must be there.
    fn with(&mut self, field: &str, make: fn(&mut Self) -> Value, mut object: Value) -> Value {
        object[field] = make(self);
        object
    }

    fn boolean(&mut self) -> Value {
        json!(self.yes())
    }

    fn quantity(&mut self) -> Value {
        json!(self.pick(&QUANTITIES))
    }

    fn resource(&mut self) -> Value {
        json!(self.pick(&RESOURCES))
    }

    fn quantities(&mut self) -> Value {
        self.map(Self::resource, Self::quantity)
    }

    fn resources(&mut self) -> Value {
        self.object(&[("limits", Self::quantities), ("requests", Self::quantities)])
    }

    fn texts(&mut self) -> Value {
        self.list(Self::text)
    }

    fn numbers(&mut self) -> Value {
        self.list(Self::long)
    }

    fn text_map(&mut self) -> Value {
        self.map(Self::text, Self::text)
    }

    fn profile(&mut self) -> Value {
        let kind = |e: &mut Self| json!(e.pick(&["RuntimeDefault", "Unconfined", "Localhost", "", "Odd"]));
        let rest = self.object(&[("localhostProfile", Self::text)]);
        self.with("type", kind, rest)
    }

    fn selinux(&mut self) -> Value {
        self.object(&[
            ("user", Self::text),
            ("role", Self::text),
            ("type", Self::text),
            ("level", Self::text),
        ])
    }

    fn sysctl(&mut self) -> Value {
        let names = [
            "kernel.shm_rmid_forced",
            "net/ipv4/a.b",
            "",
            "/",
            "net.ipv4.conf.eth0/1.x",
        ];
        json!({"name": self.pick(&names), "value": self.text()})
    }

    fn pod_security(&mut self) -> Value {
        self.object(&[
            ("runAsUser", Self::long),
            ("runAsGroup", Self::long),
            ("runAsNonRoot", Self::boolean),
            ("fsGroup", Self::long),
            ("supplementalGroups", Self::numbers),
            ("supplementalGroupsPolicy", |e| {
                json!(e.pick(&["Merge", "Strict", "", "Odd"]))
            }),
            ("seccompProfile", Self::profile),
            ("appArmorProfile", Self::profile),
            ("seLinuxOptions", Self::selinux),
            ("sysctls", |e| e.list(Self::sysctl)),
        ])
    }

    fn security(&mut self) -> Value {
        self.object(&[
            ("runAsUser", Self::long),
            ("runAsGroup", Self::long),
            ("runAsNonRoot", Self::boolean),
            ("privileged", Self::boolean),
            ("readOnlyRootFilesystem", Self::boolean),
            ("allowPrivilegeEscalation", Self::boolean),
            ("procMount", |e| json!(e.pick(&["Default", "Unmasked", "", "Odd"]))),
            ("capabilities", |e| {
                e.object(&[("add", Self::texts), ("drop", Self::texts)])
            }),
            ("seccompProfile", Self::profile),
            ("appArmorProfile", Self::profile),
            ("seLinuxOptions", Self::selinux),
        ])
    }

    fn key_reference(&mut self) -> Value {
        let rest = self.object(&[("optional", Self::boolean)]);
        let rest = self.with("key", Self::name, rest);
        self.with("name", Self::name, rest)
    }

    fn object_reference(&mut self) -> Value {
        let rest = self.object(&[("optional", Self::boolean)]);
        self.with("name", Self::name, rest)
    }

    fn field_reference(&mut self) -> Value {
        let paths = [
            "metadata.name",
            "metadata.labels",
            "metadata.annotations['a']",
            "metadata.labels['",
            "status.podIPs",
            "status.hostIP",
            "spec.nodeName",
            "spec.restartPolicy",
            "",
            "metadata.labels[''][",
        ];
        let rest = self.object(&[("apiVersion", Self::text)]);
        let path = self.pick(&paths);
        let mut object = rest;
        object["fieldPath"] = json!(path);
        object
    }

    fn resource_reference(&mut self) -> Value {
        let names = [
            "limits.cpu",
            "requests.memory",
            "limits.hugepages-2Mi",
            "limits.",
            "",
            "requests.odd",
        ];
        let mut object = self.object(&[("containerName", Self::name), ("divisor", Self::quantity)]);
        object["resource"] = json!(self.pick(&names));
        object
    }

    fn file_reference(&mut self) -> Value {
        let mut object = self.object(&[("optional", Self::boolean)]);
        object["volumeName"] = self.name();
        object["path"] = self.text();
        object["key"] = self.text();
        object
    }

    fn variable(&mut self) -> Value {
        let mut object = self.object(&[
            ("value", Self::text),
            ("valueFrom", |e| {
                e.object(&[
                    ("fieldRef", Self::field_reference),
                    ("resourceFieldRef", Self::resource_reference),
                    ("configMapKeyRef", Self::key_reference),
                    ("secretKeyRef", Self::key_reference),
                    ("fileKeyRef", Self::file_reference),
                ])
            }),
        ]);
        object["name"] = json!(self.pick(&["A", "B", "", "ü", "A=B"]));
        object
    }

    fn variables_from(&mut self) -> Value {
        self.object(&[
            ("prefix", Self::text),
            ("configMapRef", Self::object_reference),
            ("secretRef", Self::object_reference),
        ])
    }

    fn port(&mut self) -> Value {
        let mut object = self.object(&[
            ("name", Self::name),
            ("hostPort", Self::int),
            ("hostIP", |e| {
                json!(e.pick(&["", "0.0.0.0", "::", "10.0.0.1", "nonsense"]))
            }),
            ("protocol", |e| json!(e.pick(&["TCP", "UDP", "SCTP", "", "ODD"]))),
        ]);
        object["containerPort"] = self.int();
        object
    }

    fn mount(&mut self) -> Value {
        let mut object = self.object(&[
            ("readOnly", Self::boolean),
            ("subPath", Self::text),
            ("subPathExpr", Self::text),
            ("mountPropagation", |e| {
                json!(e.pick(&["None", "HostToContainer", "Bidirectional", "", "Odd"]))
            }),
            ("recursiveReadOnly", |e| {
                json!(e.pick(&["Disabled", "IfPossible", "Enabled", "", "Odd"]))
            }),
        ]);
        object["name"] = self.name();
        object["mountPath"] = self.text();
        object
    }

    fn handler(&mut self) -> Value {
        self.object(&[
            ("exec", |e| e.object(&[("command", Self::texts)])),
            ("httpGet", |e| {
                let rest = e.object(&[("path", Self::text), ("host", Self::text), ("scheme", Self::text)]);
                e.with("port", Self::int, rest)
            }),
            ("sleep", |e| json!({"seconds": e.long()})),
        ])
    }

    fn container(&mut self) -> Value {
        let mut object = self.object(&[
            ("image", |e| {
                json!(e.pick(&["busybox", "a/b:c", "", "UPPER", "r.example:5000/x@sha256:0", "é"]))
            }),
            ("imagePullPolicy", |e| {
                json!(e.pick(&["Always", "Never", "IfNotPresent", "", "Odd"]))
            }),
            ("command", Self::texts),
            ("args", Self::texts),
            ("workingDir", Self::text),
            ("env", |e| e.list(Self::variable)),
            ("envFrom", |e| e.list(Self::variables_from)),
            ("ports", |e| e.list(Self::port)),
            ("volumeMounts", |e| e.list(Self::mount)),
            ("volumeDevices", |e| {
                e.list(|e| json!({"name": e.name(), "devicePath": e.text()}))
            }),
            ("resources", Self::resources),
            ("securityContext", Self::security),
            ("restartPolicy", |e| {
                json!(e.pick(&["Always", "Never", "OnFailure", "", "Odd"]))
            }),
            ("terminationMessagePath", Self::text),
            ("terminationMessagePolicy", Self::text),
            ("lifecycle", |e| {
                e.object(&[
                    ("preStop", Self::handler),
                    ("postStart", Self::handler),
                    ("stopSignal", |e| json!(e.pick(&["SIGTERM", "", "SIGODD"]))),
                ])
            }),
            ("stdin", Self::boolean),
            ("stdinOnce", Self::boolean),
            ("tty", Self::boolean),
        ]);
        object["name"] = self.name();
        object
    }

    fn ephemeral(&mut self) -> Value {
        let mut object = self.container();
        if self.yes() {
            object["targetContainerName"] = self.name();
        }
        object
    }

    fn volume(&mut self) -> Value {
        let mut object = self.object(&[
            ("emptyDir", |e| {
                e.object(&[("sizeLimit", Self::quantity), ("medium", Self::text)])
            }),
            ("image", |e| {
                e.object(&[("reference", Self::text), ("pullPolicy", Self::text)])
            }),
            ("hostPath", |e| json!({"path": e.text()})),
            ("configMap", |e| e.object(&[("name", Self::name)])),
            ("secret", |e| e.object(&[("secretName", Self::name)])),
            ("persistentVolumeClaim", |e| json!({"claimName": e.text()})),
        ]);
        object["name"] = self.name();
        object
    }

    fn dns(&mut self) -> Value {
        self.object(&[
            ("nameservers", Self::texts),
            ("searches", |e| {
                let many = usize::from(e.byte());
                let each = e.text();
                Value::from(vec![each; many % 40])
            }),
            ("options", |e| {
                e.list(|e| e.object(&[("name", Self::text), ("value", Self::text)]))
            }),
        ])
    }

    fn spec(&mut self) -> Value {
        let containers = self.list(Self::container);
        let mut spec = self.object(&[
            ("initContainers", |e| e.list(Self::container)),
            ("ephemeralContainers", |e| e.list(Self::ephemeral)),
            ("volumes", |e| e.list(Self::volume)),
            ("securityContext", Self::pod_security),
            ("resources", Self::resources),
            ("overhead", Self::quantities),
            ("hostNetwork", Self::boolean),
            ("hostPID", Self::boolean),
            ("hostIPC", Self::boolean),
            ("hostUsers", Self::boolean),
            ("shareProcessNamespace", Self::boolean),
            ("hostname", Self::text),
            ("hostnameOverride", Self::text),
            ("subdomain", Self::text),
            ("setHostnameAsFQDN", Self::boolean),
            ("hostAliases", |e| {
                e.list(|e| {
                    let rest = e.object(&[("hostnames", Self::texts)]);
                    e.with("ip", Self::text, rest)
                })
            }),
            ("dnsPolicy", |e| {
                json!(e.pick(&["None", "Default", "ClusterFirst", "ClusterFirstWithHostNet", "", "Odd"]))
            }),
            ("dnsConfig", Self::dns),
            ("priority", Self::int),
            ("priorityClassName", |e| {
                json!(e.pick(&["system-node-critical", "", "odd"]))
            }),
            ("restartPolicy", |e| {
                json!(e.pick(&["Always", "Never", "OnFailure", "", "Odd"]))
            }),
            ("runtimeClassName", Self::text),
            ("serviceAccountName", Self::text),
            ("terminationGracePeriodSeconds", Self::long),
            ("imagePullSecrets", |e| e.list(|e| json!({"name": e.name()}))),
        ]);
        spec["containers"] = containers;
        // Without it no container is configured at all, and the rest would not be looked at.
        if self.byte() % 16 != 1 {
            spec["enableServiceLinks"] = self.boolean();
        }
        spec
    }

    fn pod(&mut self) -> Value {
        let spec = self.spec();
        let metadata = self.object(&[
            ("name", Self::text),
            ("namespace", |e| json!(e.pick(&["ns", "default", "", "ü"]))),
            ("uid", |e| json!(e.pick(&["u", "", "../.."]))),
            ("labels", Self::text_map),
            ("annotations", Self::text_map),
            ("deletionGracePeriodSeconds", Self::long),
        ]);
        let status = self.object(&[
            ("podIP", |e| json!(e.pick(&["10.0.0.1", "::1", "", "nonsense"]))),
            ("podIPs", |e| {
                e.list(|e| json!({"ip": e.pick(&["10.0.0.2", "fd00::1", ""])}))
            }),
            ("phase", |e| json!(e.pick(&["Pending", "Running", "Failed", "Odd"]))),
        ]);
        json!({"metadata": metadata, "spec": spec, "status": status})
    }
}
