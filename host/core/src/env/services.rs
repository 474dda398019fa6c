//! Variables for services, in Docker's old form and in Kubernetes' own.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

use crate::config::join_host_port;

/// For `kubernetes` of the namespace `default`, and with `links` for the services of the pod's own namespace.
pub(super) fn variables(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, (bool, &Service)> = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let in_namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let own = links && in_namespace == namespace;
        let master = in_namespace == "default" && name == "kubernetes";
        if address(service).is_none() || !(own || master) {
            continue;
        }
        // One of the same name in the pod's own namespace hides the master's.
        let known = chosen.entry(name).or_insert((own, service));
        if own && !known.0 {
            *known = (own, service);
        }
    }
    let mut found = BTreeMap::new();
    for (name, (_, service)) in chosen {
        of_service(&variable_name(name), service, &mut found);
    }
    found
}

fn address(service: &Service) -> Option<&str> {
    let ip = service.spec.as_ref()?.cluster_ip.as_deref()?;
    (!ip.is_empty() && ip != "None").then_some(ip)
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

fn of_service(name: &str, service: &Service, found: &mut BTreeMap<String, String>) {
    let Some(ip) = address(service) else { return };
    let mut put = |suffix: String, value: String| drop(found.insert(format!("{name}_{suffix}"), value));
    put("SERVICE_HOST".into(), ip.to_owned());
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    for (index, port) in ports.enumerate() {
        let number = port.port;
        let protocol = port.protocol.as_deref().filter(|p| !p.is_empty()).unwrap_or("TCP");
        let url = format!("{}://{}", protocol.to_lowercase(), join_host_port(ip, number));
        if index == 0 {
            put("SERVICE_PORT".into(), number.to_string());
            put("PORT".into(), url.clone());
        }
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            put(format!("SERVICE_PORT_{}", variable_name(port_name)), number.to_string());
        }
        let prefix = format!("PORT_{number}_{}", protocol.to_uppercase());
        put(prefix.clone(), url);
        put(format!("{prefix}_PROTO"), protocol.to_lowercase());
        put(format!("{prefix}_PORT"), number.to_string());
        put(format!("{prefix}_ADDR"), ip.to_owned());
    }
}
