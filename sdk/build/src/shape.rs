//! Does a component look like the plugin that it says it is?
//!
//! Looks only at names: whether the host can link and call it is the host's own test (`witlet-plugin check` asks it).

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use wasmparser::{Parser, Payload};
use wit_component::DecodedWasm;
use wit_parser::WorldItem;

/// The custom section with the manifest.
pub const MANIFEST: &str = "witlet:manifest";
const TRACK: &str = "0.1";
const VERSION: &str = "0.1.0";

/// What a component shows of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub imports: BTreeSet<String>,
    /// Those of the imports that have functions: types alone need no grant.
    pub called: BTreeSet<String>,
    pub exports: BTreeSet<String>,
    /// As they stand in their sections; a plugin has one.
    pub manifests: Vec<Vec<u8>>,
    /// Bytes that its memories begin with.
    pub memory: u64,
}

/// The names in `encoded` must fit the plugin `name` and the manifest in it.
pub fn component(name: &str, encoded: &[u8]) -> Result<()> {
    let seen = look(encoded)?;
    let [manifest] = seen.manifests.as_slice() else {
        bail!("{} manifests instead of one", seen.manifests.len());
    };
    let manifest: Value = serde_json::from_slice(manifest).context("the manifest")?;
    let text = |key: &str| {
        manifest[key]
            .as_str()
            .with_context(|| format!("no `{key}` in the manifest"))
    };
    ensure!(text("name")? == name, "the manifest's name is {:?}", text("name")?);
    ensure!(text("track")? == TRACK, "the manifest's track is {:?}", text("track")?);
    let kind = text("kind")?;

    let expected = format!("witlet:{kind}/{}@{VERSION}", entry(kind)?);
    let is_known = |export: &&String| **export == expected || optional(kind).iter().any(|o| export.starts_with(o));
    ensure!(
        seen.exports.contains(&expected) && seen.exports.iter().all(|export| is_known(&export)),
        "exports {:?} instead of {expected:?}",
        seen.exports
    );

    let mut capabilities = BTreeSet::new();
    for capability in manifest["capabilities"]
        .as_array()
        .context("no `capabilities` in the manifest")?
    {
        capabilities.insert(capability.as_str().context("a capability is a string")?.to_owned());
    }
    let used = seen
        .imports
        .iter()
        .filter_map(|import| capability(import))
        .collect::<BTreeSet<_>>();
    let undeclared = used.difference(&capabilities).collect::<Vec<_>>();
    ensure!(
        undeclared.is_empty(),
        "imports {undeclared:?}, which the manifest does not declare"
    );
    let unused = capabilities.difference(&used).collect::<Vec<_>>();
    ensure!(
        unused.is_empty(),
        "the manifest declares {unused:?}, which is not imported"
    );
    for import in &seen.imports {
        let own = import.starts_with("witlet:base/")
            || import.starts_with(&format!("witlet:{kind}/"))
            || optional(kind).iter().any(|package| import.starts_with(package));
        ensure!(own, "imports {import}, which no {kind} plugin is given");
    }
    Ok(())
}

/// The interface that a kind exports.
pub fn entry(kind: &str) -> Result<&'static str> {
    Ok(match kind {
        "probe" => "probe",
        "volume" | "network" => "driver",
        "policy" => "admission",
        "sink-log" | "sink-metric" => "sink",
        other => bail!("no such kind: {other}"),
    })
}

/// The packages of what a plugin may export besides.
pub fn optional(kind: &str) -> &'static [&'static str] {
    match kind {
        "policy" => &["witlet:lifecycle/", "witlet:policy-hooks/"],
        "volume" => &["witlet:lifecycle/", "witlet:volume-steps/"],
        _ => &["witlet:lifecycle/"],
    }
}

/// The capability behind an imported interface; none for what everybody gets.
fn capability(import: &str) -> Option<String> {
    let (_, interface) = import.split_once('/')?;
    let interface = interface.split('@').next().unwrap_or(interface);
    let free = [
        "types",
        "objects",
        "log",
        "clock",
        "random",
        "config",
        "sandboxes",
        "steps",
    ];
    match interface {
        // A part of it.
        "bind" => Some("mount".to_owned()),
        _ => (!free.contains(&interface)).then(|| interface.to_owned()),
    }
}

/// Reads the names, and nothing of what is behind them.
pub fn look(encoded: &[u8]) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(encoded) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    seen.imports.insert(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    seen.exports.insert(export?.name.name.to_owned());
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory?;
                    let page = 1_u64 << memory.page_size_log2.unwrap_or(16);
                    seen.memory = seen.memory.saturating_add(memory.initial.saturating_mul(page));
                }
            }
            Payload::CustomSection(section) if section.name() == MANIFEST => {
                seen.manifests.push(section.data().to_vec());
            }
            _ => {}
        }
    }
    seen.called = called(encoded).unwrap_or_else(|| seen.imports.clone());
    Ok(seen)
}

fn called(encoded: &[u8]) -> Option<BTreeSet<String>> {
    let DecodedWasm::Component(resolve, world) = wit_component::decode(encoded).ok()? else {
        return None;
    };
    let imports = resolve.worlds.get(world)?.imports.values();
    let with_functions = imports.filter_map(|item| match item {
        WorldItem::Interface { id, .. } if !resolve.interfaces.get(*id)?.functions.is_empty() => resolve.id_of(*id),
        _ => None,
    });
    Some(with_functions.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty component with these custom sections.
    fn component_with(sections: &[(&str, &str)]) -> Vec<u8> {
        let mut out = b"\0asm\x0d\0\x01\0".to_vec();
        for (name, data) in sections {
            // Lengths below 128 are one byte, others two.
            let length = |n: usize| {
                if n < 128 {
                    vec![n as u8]
                } else {
                    vec![n as u8 | 0x80, (n >> 7) as u8]
                }
            };
            let body = [length(name.len()), name.as_bytes().to_vec(), data.as_bytes().to_vec()].concat();
            out.push(0);
            out.extend(length(body.len()));
            out.extend(body);
        }
        out
    }

    fn refused(name: &str, sections: &[(&str, &str)]) -> String {
        match component(name, &component_with(sections)) {
            Ok(()) => "accepted".to_owned(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn the_manifest_must_fit() {
        const SECTION: &str = "witlet:manifest";
        let manifest = |name: &str, track: &str, kind: &str| {
            format!(r#"{{"name":"{name}","track":"{track}","kind":"{kind}","capabilities":[]}}"#)
        };
        let good = manifest("p", "0.1", "policy");
        assert_eq!(refused("p", &[]), "0 manifests instead of one");
        assert_eq!(
            refused("p", &[(SECTION, &good), (SECTION, &good)]),
            "2 manifests instead of one"
        );
        assert!(refused("p", &[(SECTION, "{")]).starts_with("the manifest: "));
        assert_eq!(refused("q", &[(SECTION, &good)]), "the manifest's name is \"p\"");
        assert_eq!(
            refused("p", &[(SECTION, &manifest("p", "0.2", "policy"))]),
            "the manifest's track is \"0.2\""
        );
        assert_eq!(
            refused("p", &[(SECTION, &manifest("p", "0.1", "poem"))]),
            "no such kind: poem"
        );
        let message = "exports {} instead of \"witlet:policy/admission@0.1.0\"";
        assert_eq!(refused("p", &[(SECTION, &good)]), message);
    }

    #[test]
    fn capabilities_are_what_not_everybody_gets() {
        for (import, expected) in [
            ("witlet:base/log@0.1.0", None),
            ("witlet:network/sandboxes@0.1.0", None),
            ("witlet:base/egress-http@0.1.0", Some("egress-http")),
            ("witlet:probe/pod-net@0.1.0", Some("pod-net")),
            ("wasi:cli/environment@0.2.0", Some("environment")),
        ] {
            assert_eq!(capability(import).as_deref(), expected, "{import}");
        }
    }
}
