//! Does a component look like the plugin that it says it is?
//!
//! Looks only at names: whether the host can link and call it is the host's own test.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use wasmparser::{Parser, Payload};

const TRACK: &str = "0.1";
const VERSION: &str = "0.1.0";

/// What a component shows of itself.
#[derive(Debug, Default)]
struct Seen {
    imports: BTreeSet<String>,
    exports: BTreeSet<String>,
    manifests: Vec<Vec<u8>>,
}

/// The names in `encoded` must fit the plugin `name` and the manifest in it.
pub(super) fn component(name: &str, encoded: &[u8]) -> Result<()> {
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

    let expected = BTreeSet::from([format!("witlet:{kind}/{}@{VERSION}", entry(kind)?)]);
    ensure!(
        seen.exports == expected,
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
        let own = import.starts_with("witlet:base/") || import.starts_with(&format!("witlet:{kind}/"));
        ensure!(own, "imports {import}, which no {kind} plugin is given");
    }
    Ok(())
}

/// The interface that a kind exports.
fn entry(kind: &str) -> Result<&'static str> {
    Ok(match kind {
        "probe" => "probe",
        "volume" | "network" => "driver",
        "policy" => "admission",
        "sink-log" | "sink-metric" => "sink",
        other => bail!("no such kind: {other}"),
    })
}

/// The capability behind an imported interface; none for what everybody gets.
fn capability(import: &str) -> Option<String> {
    let (_, interface) = import.split_once('/')?;
    let interface = interface.split('@').next().unwrap_or(interface);
    let free = ["types", "objects", "log", "clock", "random", "config", "sandboxes"];
    (!free.contains(&interface)).then(|| interface.to_owned())
}

fn look(encoded: &[u8]) -> Result<Seen> {
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
            Payload::CustomSection(section) if section.name() == "witlet:manifest" => {
                seen.manifests.push(section.data().to_vec());
            }
            _ => {}
        }
    }
    Ok(seen)
}
