//! `inspect`: what a component is, and the stanza with which a node takes it.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Result, anyhow};
use serde_json::json;
use witlet_plugin_host::config::Kind;
use witlet_plugin_host::grants::toml_lines;
use witlet_plugin_host::manifest::{MAX_COMPONENT, MOST_COMPONENT, Manifest, TRACKS};
use witlet_sdk_build::shape::Seen;

use crate::check;
use crate::subject::Subject;

const MIB: u64 = 1 << 20;

pub(crate) fn run(path: &Path, json: bool) -> Result<bool> {
    let subject = Subject::find(path)?;
    let manifest = Manifest::read(&subject.bytes, MOST_COMPONENT).map_err(|e| anyhow!("{e}"))?;
    let seen = subject.seen()?;
    if json {
        let value = json!({
            "component": subject.file, "sha256": subject.digest(), "size": subject.bytes.len(), "memory": seen.memory,
            "manifest": manifest, "imports": seen.imports, "exports": seen.exports, "stanza": stanza(&manifest, &seen, &subject),
        });
        println!("{value:#}");
    } else {
        print!("{}", text(&manifest, &seen, &subject));
    }
    Ok(true)
}

pub(crate) fn text(manifest: &Manifest, seen: &Seen, subject: &Subject) -> String {
    let mut out = String::new();
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let served = if TRACKS.contains(&manifest.track.as_str()) {
        ""
    } else {
        ", which no node of this version serves"
    };
    let lines = [
        ("name", format!("{} {}", manifest.name, manifest.version)),
        ("kind", format!("{}, track {}{served}", manifest.kind, manifest.track)),
        ("made with", or_none(manifest.sdk.clone())),
        (
            "size",
            format!(
                "{}, memory {} at the start",
                check::size(subject.bytes.len() as u64),
                check::size(seen.memory)
            ),
        ),
        ("sha256", subject.digest()),
        ("asks for", or_none(manifest.capabilities.join(", "))),
        ("drivers", manifest.drivers.join(", ")),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(out, "{name:<10} {value}");
    }
    for (name, all) in [("imports", &seen.imports), ("exports", &seen.exports)] {
        for (i, interface) in all.iter().enumerate() {
            let _ = writeln!(out, "{:<10} {interface}", if i == 0 { name } else { "" });
        }
    }
    let _ = writeln!(out, "\n{}", stanza(manifest, seen, subject));
    out
}

/// For `plugins.d/NAME.toml`. Grants are to be narrowed by whoever pastes it.
fn stanza(manifest: &Manifest, seen: &Seen, subject: &Subject) -> String {
    let name = &manifest.name;
    let mut out = format!(
        "[plugin.{name}]\nkind = \"{}\"\nsource = \"file:/etc/witlet/plugins/{name}.wasm\"\nsha256 = \"{}\"",
        manifest.kind,
        subject.digest()
    );
    if let Ok(capabilities) = manifest.capabilities()
        && !capabilities.is_empty()
    {
        let _ = write!(out, "\n\n{}", toml_lines(name, &capabilities));
    }
    let kind = check::kind(&manifest.kind).unwrap_or(Kind::Probe);
    let limits = limits(kind, subject.bytes.len(), seen.memory);
    if !limits.is_empty() {
        let _ = write!(out, "\n\n[plugin.{name}.limits]\n{limits}");
    }
    out
}

/// What the defaults are too narrow for; empty if they do. An interpreter is known by its memory.
pub(crate) fn limits(kind: Kind, size: usize, memory: u64) -> String {
    let mut lines = Vec::new();
    if size > MAX_COMPONENT {
        let round = (size as u64).div_ceil(16 * MIB) * 16;
        lines.push(format!("component = \"{round}MiB\""));
    }
    if size as u64 > 8 * MIB {
        lines.push("compile = \"300s\"".to_owned());
    }
    // Half as much again as it begins with, and no less than the default.
    if memory > 10 * MIB {
        let round = (memory + memory / 2).div_ceil(16 * MIB) * 16;
        lines.push(format!("memory = \"{round}MiB\""));
    }
    if is_interpreter(memory) {
        if matches!(kind, Kind::Probe | Kind::Policy) {
            lines.push("cpu_per_call = \"200ms\"".to_owned());
        }
        if kind == Kind::Policy {
            lines.push("wall_per_call = \"1s\"".to_owned());
        }
        lines.push("instances = { warm = 2, max_calls = 1000 }".to_owned());
    }
    lines.join("\n")
}

/// Those begin with their heap in memory; what compilers make begins with a megabyte or two.
fn is_interpreter(memory: u64) -> bool {
    memory > 3 * MIB
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn suggested_limits_are_a_valid_configuration() {
        for (kind, size, memory) in [(Kind::Policy, 40 << 20, 50 * MIB), (Kind::Probe, 1 << 20, 4 * MIB)] {
            let text = limits(kind, size, memory);
            toml::from_str::<witlet_plugin_host::config::LimitsConfig>(&text).unwrap();
        }
        assert_eq!(limits(Kind::Probe, 30_000, MIB), "");
        assert!(limits(Kind::Probe, 18_484_307, 30 * MIB).starts_with("component = \"32MiB\"\n"));
    }
}
