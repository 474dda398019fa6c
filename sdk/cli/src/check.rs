//! `check`: would a node take it? All that is wrong, not only the first.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use witlet_plugin_host::config::Kind;
use witlet_plugin_host::grants::Capability;
use witlet_plugin_host::is_free;
use witlet_plugin_host::manifest::{MAX_COMPONENT, MOST_COMPONENT, Manifest, TRACKS};
use witlet_sdk_build::shape::{self, Seen};

use crate::node::Node;
use crate::subject::Subject;

/// What is wrong, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Problem {
    pub(crate) what: String,
    #[serde(rename = "do")]
    pub(crate) todo: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "problem: {}\n     do: {}",
            self.what,
            self.todo.replace('\n', "\n         ")
        )
    }
}

fn problem(what: impl Into<String>, todo: impl Into<String>) -> Problem {
    Problem {
        what: what.into(),
        todo: todo.into(),
    }
}

pub(crate) fn run(path: &Path, json: bool) -> Result<bool> {
    let subject = Subject::find(path)?;
    let mut problems = problems(&subject.bytes);
    let manifest = Manifest::read(&subject.bytes, MOST_COMPONENT).ok();
    // What the names do not show, only the host can say.
    if problems.is_empty()
        && let Err(error) = Node::load(&subject)
    {
        let todo = "build it anew with the WIT and the SDK of this tool's version: the node's host says this";
        problems.push(problem(format!("{error:#}"), todo));
    }
    let notes = notes(&subject);
    if json {
        let value = json!({
            "component": subject.file, "sha256": subject.digest(), "manifest": manifest, "problems": problems, "notes": notes,
        });
        println!("{value:#}");
        return Ok(problems.is_empty());
    }
    for problem in &problems {
        println!("{problem}");
    }
    for note in &notes {
        println!("note: {note}");
    }
    if let (true, Some(manifest)) = (problems.is_empty(), manifest) {
        let (name, kind, track) = (manifest.name, manifest.kind, manifest.track);
        println!("{name}: a {kind} plugin of track {track} that this version's nodes take");
    }
    Ok(problems.is_empty())
}

/// What can be said without compiling it.
pub(crate) fn problems(component: &[u8]) -> Vec<Problem> {
    let manifest = match Manifest::read(component, MOST_COMPONENT) {
        Ok(manifest) => manifest,
        Err(error) => return vec![problem(error.to_string(), "make it with `witlet-plugin build`")],
    };
    let seen = match shape::look(component) {
        Ok(seen) => seen,
        Err(error) => return vec![problem(format!("{error:#}"), "make it with `witlet-plugin build`")],
    };
    let mut found = Vec::new();
    let Some(kind) = kind(&manifest.kind) else {
        let todo = "write one of network, volume, probe, policy, sink-log, sink-metric";
        return vec![problem(format!("no node knows the kind {:?}", manifest.kind), todo)];
    };
    if !TRACKS.contains(&manifest.track.as_str()) {
        let what = format!("nodes serve track {}, not {:?}", TRACKS.join(", "), manifest.track);
        found.push(problem(
            what,
            "build it with the WIT packages of a track that they serve",
        ));
    }
    let asked = match manifest.capabilities() {
        Ok(asked) => asked,
        Err(error) => {
            let all = Capability::ALL.map(Capability::as_str).join(", ");
            found.push(problem(error.to_string(), format!("capabilities are {all}")));
            Vec::new()
        }
    };
    for capability in asked.iter().filter(|c| !c.fits(kind)) {
        let what = format!("it asks for {capability}, which {kind} plugins cannot have");
        found.push(problem(what, "remove it from the capabilities"));
    }
    found.extend(exports(kind, &manifest, &seen));
    found.extend(imports(kind, &manifest, &asked, &seen));
    found
}

pub(crate) fn kind(name: &str) -> Option<Kind> {
    serde_json::from_value(name.into()).ok()
}

/// Does an interface's version belong to the track?
pub(crate) fn is_of(track: &str, interface: &str) -> bool {
    let version = interface.split_once('@').map(|(_, version)| version);
    version.is_some_and(|v| v.strip_prefix(track).is_some_and(|rest| rest.starts_with('.')))
}

fn exports(kind: Kind, manifest: &Manifest, seen: &Seen) -> Option<Problem> {
    let entry = shape::entry(kind.as_str()).unwrap_or_default();
    let wanted = format!("witlet:{kind}/{entry}@");
    let fits = |export: &String| export.starts_with(&wanted) && is_of(&manifest.track, export);
    (!seen.exports.iter().any(fits)).then(|| {
        let exported = list(&seen.exports);
        let what = format!("it exports {exported}, and not {wanted}{}.x", manifest.track);
        problem(
            what,
            format!("export the interface {entry}: see wit/{kind} and the world that it is built for"),
        )
    })
}

fn imports(kind: Kind, manifest: &Manifest, asked: &[Capability], seen: &Seen) -> Vec<Problem> {
    let mut found = Vec::new();
    for import in &seen.imports {
        if import.starts_with("witlet:") && !is_of(&manifest.track, import) {
            let what = format!("it imports {import}, and its track is {}", manifest.track);
            found.push(problem(what, "build it with the WIT packages of one track"));
        } else if let Some(capability) = Capability::of_interface(import) {
            if !capability.fits(kind) {
                let what = format!("it imports {import}, which {kind} plugins cannot have");
                found.push(problem(what, "do without it; other kinds have other capabilities"));
            } else if !asked.contains(&capability) && seen.called.contains(import) {
                let what = format!("it imports {import} without asking for {capability}");
                found.push(problem(what, format!("add \"{capability}\" to its capabilities")));
            }
        } else if !is_free(import) {
            found.push(problem(format!("no node offers {import}"), instead(import)));
        }
    }
    found
}

fn instead(import: &str) -> &'static str {
    match import.split('/').next().unwrap_or_default() {
        "wasi:http" => {
            "switch it off in the language's tool; pod-net and egress-http are a plugin's ways to the network"
        }
        package if package.starts_with("wasi:") => {
            "only an empty WASI 0.2 is there: cli, clocks, filesystem, io, random, sockets"
        }
        _ => "use what is in wit/, or leave it out of the world that it is built for",
    }
}

/// What is fine, and good to know.
fn notes(subject: &Subject) -> Vec<String> {
    let mut notes = Vec::new();
    let size = subject.bytes.len();
    if size > MAX_COMPONENT {
        let shown = self::size(size as u64);
        notes.push(format!(
            "{shown}: nodes take it with limits.component; `witlet-plugin inspect` prints the stanza"
        ));
    }
    if let (Ok(seen), Ok(manifest)) = (subject.seen(), Manifest::read(&subject.bytes, MOST_COMPONENT)) {
        let is_used = |capability: &Capability| {
            let mut called = seen.called.iter();
            called.any(|import| Capability::of_interface(import) == Some(*capability))
        };
        for unused in manifest.capabilities().into_iter().flatten().filter(|c| !is_used(c)) {
            notes.push(format!(
                "it asks for {unused}, and does not use it: operators grant what is asked for"
            ));
        }
        let wasi = seen.imports.iter().filter(|import| import.starts_with("wasi:")).count();
        if wasi > 0 {
            notes.push(format!(
                "{wasi} interfaces of WASI are there, and empty: no files, no sockets, no environment"
            ));
        }
    }
    notes
}

pub(crate) fn list(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.join(", ")
}

/// For people.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
