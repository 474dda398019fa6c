//! Rows of config maps, secrets, services, service accounts, claims and leases.

use serde_json::Value;

use super::{NAME, Printer, column, created, joined, number, or_none, wide};
use crate::meta::{self, list, text};

fn size(object: &Value, field: &str) -> usize {
    object[field].as_object().map_or(0, serde_json::Map::len)
}

pub(crate) static CONFIG_MAP: Printer = Printer {
    columns: &[NAME, number("Data"), column("Age")],
    cells: |map, now| {
        vec![
            meta::name(map).into(),
            (size(map, "data") + size(map, "binaryData")).into(),
            created(map, now).into(),
        ]
    },
};

pub(crate) static SECRET: Printer = Printer {
    columns: &[NAME, column("Type"), number("Data"), column("Age")],
    cells: |secret, now| {
        vec![
            meta::name(secret).into(),
            text(secret, "/type").into(),
            size(secret, "data").into(),
            created(secret, now).into(),
        ]
    },
};

pub(crate) static SERVICE_ACCOUNT: Printer = Printer {
    columns: &[NAME, number("Secrets"), column("Age")],
    cells: |account, now| {
        vec![
            meta::name(account).into(),
            list(account, "/secrets").len().into(),
            created(account, now).into(),
        ]
    },
};

pub(crate) static LEASE: Printer = Printer {
    columns: &[NAME, column("Holder"), column("Age")],
    cells: |lease, now| {
        vec![
            meta::name(lease).into(),
            text(lease, "/spec/holderIdentity").into(),
            created(lease, now).into(),
        ]
    },
};

pub(crate) static CLAIM: Printer = Printer {
    columns: &[
        NAME,
        column("Status"),
        column("Volume"),
        column("Capacity"),
        column("Access Modes"),
        column("StorageClass"),
        column("Age"),
    ],
    cells: |claim, now| {
        let modes = list(claim, "/status/accessModes")
            .iter()
            .filter_map(Value::as_str)
            .map(|mode| match mode {
                "ReadWriteOnce" => "RWO",
                "ReadOnlyMany" => "ROX",
                "ReadWriteMany" => "RWX",
                "ReadWriteOncePod" => "RWOP",
                other => other,
            });
        vec![
            meta::name(claim).into(),
            text(claim, "/status/phase").into(),
            text(claim, "/spec/volumeName").into(),
            text(claim, "/status/capacity/storage").into(),
            modes.collect::<Vec<_>>().join(",").into(),
            text(claim, "/spec/storageClassName").into(),
            created(claim, now).into(),
        ]
    },
};

pub(crate) static SERVICE: Printer = Printer {
    columns: &[
        NAME,
        column("Type"),
        column("Cluster-IP"),
        column("External-IP"),
        column("Port(s)"),
        column("Age"),
        wide("Selector"),
    ],
    cells: |service, now| {
        let ports = list(service, "/spec/ports").iter().map(|port| {
            let number = &port["port"];
            let protocol = text(port, "/protocol");
            match port["nodePort"].as_i64() {
                Some(node) if node != 0 => format!("{number}:{node}/{protocol}"),
                _ => format!("{number}/{protocol}"),
            }
        });
        let ports = ports.collect::<Vec<_>>().join(",");
        let external = match text(service, "/spec/type") {
            "ExternalName" => or_none(text(service, "/spec/externalName")),
            _ => joined(list(service, "/spec/externalIPs").iter().filter_map(Value::as_str)),
        };
        let selector: Vec<String> = service["spec"]["selector"]
            .as_object()
            .map(|m| {
                m.iter()
                    .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
                    .collect()
            })
            .unwrap_or_default();
        vec![
            meta::name(service).into(),
            text(service, "/spec/type").into(),
            or_none(text(service, "/spec/clusterIP")),
            external,
            or_none(&ports),
            created(service, now).into(),
            joined(selector.iter().map(String::as_str)),
        ]
    },
};
