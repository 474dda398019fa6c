//! Messages of plugins as the core knows them. A plugin is not trusted: what cannot be is left out or refused.

use std::collections::BTreeMap;

use prost::Message;
use tracing::warn;
use witlet_core::devices::{Device, Granted, Mount, Node};
use witlet_core::topology::NumaMask;
use witlet_ports::devices::Answer;

use crate::proto::device_plugin as proto;
use crate::socket::harmless;

const HEALTHY: &str = "Healthy";
/// Of one resource. The message itself is limited to 4 MiB.
const MOST_DEVICES: usize = 100_000;
const LONGEST_ID: usize = 1024;

/// Devices with names that cannot be are left out.
pub(crate) fn devices(resource: &str, list: Vec<proto::Device>) -> BTreeMap<String, Device> {
    let told = list.len();
    let possible = |id: &str| !id.is_empty() && id.len() <= LONGEST_ID && !id.contains(char::is_control);
    let possible = list.into_iter().filter(|d| possible(&d.id)).take(MOST_DEVICES);
    let devices: BTreeMap<_, _> = possible
        .map(|d| {
            let nodes = d.topology.into_iter().flat_map(|t| t.nodes);
            let device = Device {
                healthy: d.health == HEALTHY,
                numa: NumaMask::of(nodes.filter_map(|n| u32::try_from(n.id).ok())),
            };
            (d.id, device)
        })
        .collect();
    if devices.len() < told {
        warn!(
            resource,
            told,
            taken = devices.len(),
            "a device plugin told of devices without a proper id, or more than once of one, or of too many"
        );
    }
    devices
}

/// The answer for the one container that was asked for.
pub(crate) fn answer(resource: &str, response: proto::AllocateResponse) -> Result<Answer, String> {
    let Some(own) = response.container_responses.into_iter().next() else {
        return Err("no containers return in allocation response".into());
    };
    let bytes = own.encode_to_vec();
    let granted = granted(own);
    match granted.problem() {
        None => Ok(Answer { granted, bytes }),
        Some(problem) => Err(harmless(&format!(
            "the device plugin of {resource} gave an answer that cannot be: {problem}"
        ))),
    }
}

pub(crate) fn read(bytes: &[u8]) -> Result<Granted, String> {
    let response = proto::ContainerAllocateResponse::decode(bytes);
    response.map(granted).map_err(|e| e.to_string())
}

fn granted(response: proto::ContainerAllocateResponse) -> Granted {
    let mount = |m: proto::Mount| Mount {
        container_path: m.container_path,
        host_path: m.host_path,
        read_only: m.read_only,
    };
    let node = |d: proto::DeviceSpec| Node {
        container_path: d.container_path,
        host_path: d.host_path,
        permissions: d.permissions,
    };
    Granted {
        env: response.envs,
        mounts: response.mounts.into_iter().map(mount).collect(),
        nodes: response.devices.into_iter().map(node).collect(),
        annotations: response.annotations,
        cdi: response.cdi_devices.into_iter().map(|d| d.name).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn device(id: &str, health: &str, nodes: &[i64]) -> proto::Device {
        let nodes = nodes.iter().map(|id| proto::NumaNode { id: *id }).collect();
        proto::Device {
            id: id.into(),
            health: health.into(),
            topology: Some(proto::TopologyInfo { nodes }),
        }
    }

    #[test]
    fn devices_that_cannot_be_are_left_out() {
        let list = vec![
            device("a", "Healthy", &[0, 1, -1, 64, i64::MAX]),
            device("b", "healthy", &[]),
            device("", "Healthy", &[]),
            device("new\nline", "Healthy", &[]),
            device(&"x".repeat(1025), "Healthy", &[]),
        ];
        let devices = devices("a.b/c", list);
        assert_eq!(devices.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((devices["a"].healthy, devices["a"].numa), (true, NumaMask::of([0, 1])));
        assert!(!devices["b"].healthy);
    }

    #[test]
    fn answers_are_understood_and_kept() {
        let own = proto::ContainerAllocateResponse {
            envs: BTreeMap::from([("A".into(), "1".into())]),
            devices: vec![proto::DeviceSpec {
                container_path: "/dev/x".into(),
                host_path: "/dev/null".into(),
                permissions: "rw".into(),
            }],
            ..Default::default()
        };
        let response = |list| proto::AllocateResponse {
            container_responses: list,
        };
        let answer_of = |list| answer("a.b/c", response(list));
        let good = answer_of(vec![own.clone()]).unwrap();
        assert_eq!(good.granted.nodes[0].host_path, "/dev/null");
        assert_eq!(read(&good.bytes).unwrap(), good.granted);
        assert_eq!(
            answer_of(Vec::new()).unwrap_err(),
            "no containers return in allocation response"
        );
        let mut bad = own;
        bad.devices[0].permissions = "all".into();
        assert!(
            answer_of(vec![bad])
                .unwrap_err()
                .starts_with("the device plugin of a.b/c gave")
        );
        assert!(read(b"\xff\xff").is_err());
    }
}
