//! `compat`: a component beside every interface track that nodes of this version serve.

use std::path::Path;

use anyhow::{Result, anyhow};
use serde_json::json;
use witlet_plugin_host::manifest::{MOST_COMPONENT, Manifest, TRACKS};

use crate::check;
use crate::node::Node;
use crate::subject::Subject;

pub(crate) fn run(path: &Path, json: bool) -> Result<bool> {
    let subject = Subject::find(path)?;
    let manifest = Manifest::read(&subject.bytes, MOST_COMPONENT).map_err(|e| anyhow!("{e}"))?;
    let verdicts: Vec<(&str, String)> = TRACKS
        .iter()
        .map(|track| (*track, fit(track, &manifest, &subject)))
        .collect();
    let fits = verdicts.iter().any(|(_, why)| why.is_empty());
    if json {
        let tracks: Vec<_> = verdicts
            .iter()
            .map(|(track, why)| json!({"track": track, "fits": why.is_empty(), "why": why}))
            .collect();
        println!(
            "{:#}",
            json!({"component": subject.file, "built_for": manifest.track, "tracks": tracks})
        );
        return Ok(fits);
    }
    println!("built for track {} of witlet:{}", manifest.track, manifest.kind);
    for (track, why) in verdicts {
        if why.is_empty() {
            println!("{track}: loads");
        } else {
            println!("{track}: does not fit: {why}");
        }
    }
    Ok(fits)
}

/// Empty: it does.
fn fit(track: &str, manifest: &Manifest, subject: &Subject) -> String {
    if manifest.track != track {
        return format!(
            "it is built for {}; rebuild it with the WIT packages of {track}",
            manifest.track
        );
    }
    if let Some(problem) = check::problems(&subject.bytes).first() {
        return format!("{}; {}", problem.what, problem.todo);
    }
    Node::load(subject)
        .err()
        .map(|error| format!("{error:#}"))
        .unwrap_or_default()
}
