use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use witlet_sdk::{Error, Result};

/// `[plugin.network-cni] config = { … }`
///
/// Without `plugins`, pods get addresses from `subnet` on a bridge, with masquerading and host ports.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The version that the runtime asks for, if none is set.
    #[serde(alias = "cniVersion")]
    pub cni_version: Option<String>,
    /// The network's name. `host-local` keeps its addresses under it.
    pub name: String,
    pub bridge: String,
    pub subnet: Subnets,
    pub mtu: Option<u32>,
    /// Where `host-local` keeps what it gave away; its own default if none.
    #[serde(alias = "dataDir")]
    pub data_dir: Option<String>,
    /// The chain, as in a CNI configuration list, instead of the one above.
    pub plugins: Option<Vec<Map<String, Value>>>,
    /// Chains that pods may ask for by name.
    pub networks: BTreeMap<String, Vec<Map<String, Value>>>,
    /// Where others are defined, one in each `NAME.conflist`. Needs the grant to run `/usr/bin/cat`.
    #[serde(alias = "networkDir")]
    pub network_dir: Option<String>,
    #[serde(alias = "binDirs")]
    pub bin_dirs: Vec<String>,
}

/// One subnet, or one of each family.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Subnets {
    One(String),
    Several(Vec<String>),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cni_version: None,
            name: "witlet".to_owned(),
            bridge: "witlet0".to_owned(),
            subnet: Subnets::One("10.85.0.0/16".to_owned()),
            mtu: None,
            data_dir: None,
            plugins: None,
            networks: BTreeMap::new(),
            network_dir: None,
            bin_dirs: vec!["/usr/lib/cni".to_owned(), "/opt/cni/bin".to_owned()],
        }
    }
}

impl Config {
    /// `limited`: the pod wants its bandwidth limited, which takes a plugin of its own.
    pub(super) fn chain(&self, limited: bool) -> Result<Vec<Map<String, Value>>> {
        if let Some(plugins) = &self.plugins {
            if plugins.is_empty() {
                return Err(Error::Invalid(
                    "config: plugins: a chain has at least one plugin".to_owned(),
                ));
            }
            return Ok(plugins.clone());
        }
        let subnets = match &self.subnet {
            Subnets::One(subnet) => std::slice::from_ref(subnet),
            Subnets::Several(subnets) => subnets.as_slice(),
        };
        if subnets.is_empty() {
            return Err(Error::Invalid("config: subnet: pods need at least one".to_owned()));
        }
        let ranges: Vec<Value> = subnets.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
        let default_route = |subnet: &String| if subnet.contains(':') { "::/0" } else { "0.0.0.0/0" };
        let routes: Vec<Value> = subnets
            .iter()
            .map(|subnet| json!({ "dst": default_route(subnet) }))
            .collect();
        let mut ipam = json!({ "type": "host-local", "ranges": ranges, "routes": routes });
        if let Some(dir) = &self.data_dir {
            ipam["dataDir"] = json!(dir);
        }
        let mut bridge = json!({
            "type": "bridge",
            "bridge": self.bridge,
            "isGateway": true,
            "ipMasq": true,
            "hairpinMode": true,
            "ipam": ipam,
        });
        if let Some(mtu) = self.mtu {
            bridge["mtu"] = json!(mtu);
        }
        let portmap = json!({ "type": "portmap", "snat": true, "capabilities": { "portMappings": true } });
        let bandwidth = limited.then(|| json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } }));
        Ok([bridge, portmap]
            .into_iter()
            .chain(bandwidth)
            .filter_map(|plugin| plugin.as_object().cloned())
            .collect())
    }
}
