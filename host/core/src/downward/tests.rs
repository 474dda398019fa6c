#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": "p", "namespace": "ns", "uid": "u",
            "labels": {"app": "web", "example.com/tier": "front\"end\""},
            "annotations": {"note": "two\nlines", "Example.com/K": "v", "é": "odd"},
        },
        "spec": {
            "nodeName": "n1",
            "serviceAccountName": "sa",
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "10m"}}}],
            "containers": [
                {"name": "c", "resources": {
                    "limits": {"cpu": "1500m", "hugepages-2Mi": "4Mi"},
                    "requests": {"cpu": "250m", "memory": "100Mi", "ephemeral-storage": "1G"},
                }},
                {"name": "d"},
            ],
        },
        "status": {"hostIP": "10.0.0.1", "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}]},
    }))
    .unwrap()
}

#[test]
fn fields() {
    for (path, value) in [
        ("metadata.name", "p"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u"),
        ("metadata.labels['app']", "web"),
        ("metadata.labels['absent']", ""),
        ("metadata.labels['example.com/tier']", "front\"end\""),
        ("metadata.annotations['note']", "two\nlines"),
        ("metadata.annotations['Example.com/K']", "v"),
        ("metadata.labels", "app=\"web\"\nexample.com/tier=\"front\\\"end\\\"\""),
        (
            "metadata.annotations",
            "Example.com/K=\"v\"\nnote=\"two\\nlines\"\né=\"odd\"",
        ),
        ("spec.nodeName", "n1"),
        ("spec.host", "n1"),
        ("spec.serviceAccountName", "sa"),
        ("status.hostIP", "10.0.0.1"),
        ("status.hostIPs", "10.0.0.1"),
        ("status.podIP", "10.1.0.1"),
        ("status.podIPs", "10.1.0.1,fd00::1"),
    ] {
        assert_eq!(field(&pod(), path).as_deref(), Ok(value), "{path}");
    }
    assert_eq!(field(&Pod::default(), "metadata.labels").as_deref(), Ok(""));
}

#[test]
fn unknown_fields() {
    let form = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    for (path, message) in [
        ("", "field label not supported: ".to_owned()),
        (
            "spec.containers",
            "field label not supported: spec.containers".to_owned(),
        ),
        ("status.phase", "unsupported fieldPath: status.phase".to_owned()),
        (
            "spec.restartPolicy",
            "unsupported fieldPath: spec.restartPolicy".to_owned(),
        ),
        (
            "spec.x['k']",
            "field label does not support subscript: spec.x['k']".to_owned(),
        ),
        ("['k']", "field label not supported: ['k']".to_owned()),
        (
            "metadata.labels['-']",
            format!("invalid key subscript in metadata.labels['-']: {form}"),
        ),
        (
            "metadata.labels['']",
            format!("invalid key subscript in metadata.labels['']: name part must be non-empty;{form}"),
        ),
        (
            "metadata.labels['/a']",
            "invalid key subscript in metadata.labels['/a']: prefix part must be non-empty".to_owned(),
        ),
    ] {
        assert_eq!(field(&pod(), path), Err(message), "{path}");
    }
    // Labels are lower case in their prefix, annotations need not be.
    assert!(field(&pod(), "metadata.labels['Example.com/K']").is_err());
}

#[test]
fn resources() {
    let allocatable: BTreeMap<String, Quantity> = [
        ("cpu", "3800m"),
        ("memory", "7Gi"),
        ("ephemeral-storage", "50G"),
        ("hugepages-2Mi", "1Gi"),
    ]
    .map(|(k, v)| (k.to_owned(), v.parse().unwrap()))
    .into();
    for (container, name, divisor, value) in [
        ("c", "limits.cpu", "", "2"),
        ("c", "limits.cpu", "0", "2"),
        ("c", "limits.cpu", "1m", "1500"),
        ("c", "requests.cpu", "1", "1"),
        ("c", "requests.memory", "1Mi", "100"),
        ("c", "requests.memory", "1Gi", "1"),
        ("c", "requests.ephemeral-storage", "1M", "1000"),
        ("c", "limits.hugepages-2Mi", "1Mi", "4"),
        ("c", "requests.hugepages-2Mi", "", "0"),
        ("c", "limits.memory", "1Mi", "7168"),
        ("d", "limits.cpu", "", "4"),
        ("d", "limits.ephemeral-storage", "1G", "50"),
        ("d", "limits.hugepages-2Mi", "", "0"),
        ("d", "requests.cpu", "", "0"),
        ("i", "requests.cpu", "1m", "10"),
    ] {
        let found = resource(&pod(), container, name, divisor, &allocatable);
        assert_eq!(found.as_deref(), Ok(value), "{container} {name} / {divisor}");
    }
    let mut limited = pod();
    let own: Value = json!({"limits": {"cpu": "2", "memory": "1Gi"}});
    limited.spec.as_mut().unwrap().resources = Some(serde_json::from_value(own).unwrap());
    assert_eq!(
        resource(&limited, "d", "limits.memory", "1Mi", &allocatable).as_deref(),
        Ok("1024")
    );
    assert_eq!(
        resource(&limited, "c", "limits.cpu", "1m", &allocatable).as_deref(),
        Ok("1500")
    );

    for (container, name, message) in [
        ("x", "limits.cpu", "container x not found"),
        ("c", "limits.gpu", "unsupported container resource : limits.gpu"),
        ("c", "cpu", "unsupported container resource : cpu"),
        ("c", "uses.cpu", "unsupported container resource : uses.cpu"),
    ] {
        assert_eq!(
            resource(&pod(), container, name, "", &allocatable),
            Err(message.to_owned())
        );
    }
    assert!(resource(&pod(), "c", "limits.cpu", "x", &allocatable).is_err());
}

proptest! {
    #[test]
    fn any_path(path in ".*") {
        let _ = field(&pod(), &path);
    }

    #[test]
    fn rounds_up(value in 0..i64::MAX, divisor in 1..i64::MAX) {
        let result = i128::from(divide_up(value, divisor));
        let (value, divisor) = (i128::from(value), i128::from(divisor));
        prop_assert!(result * divisor >= value && (result - 1) * divisor < value);
    }
}
