//! The interface files are what their record says. A change is deliberate: see `wit/VERSIONING.md`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../wit")
        .canonicalize()
        .unwrap()
}

fn files(dir: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "wit") {
            let digest: String = Sha256::digest(fs::read(&path).unwrap())
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            found.insert(format!("./{}", path.strip_prefix(wit()).unwrap().display()), digest);
        }
    }
}

#[test]
fn the_record_holds() {
    let mut found = BTreeMap::new();
    files(&wit(), &mut found);
    let record = fs::read_to_string(wit().join("FROZEN.sha256")).unwrap();
    let recorded: BTreeMap<String, String> = record
        .lines()
        .map(|line| line.split_once("  ").unwrap())
        .map(|(digest, path)| (path.to_owned(), digest.to_owned()))
        .collect();
    assert_eq!(
        recorded, found,
        "a frozen interface changed, or a new one is not recorded: see wit/VERSIONING.md"
    );
}

/// Interfaces that plugins of several kinds may use have theirs as well, under the names of what uses them.
#[test]
fn every_optional_interface_has_a_sample() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/0.1");
    for (sample, interface) in [
        ("policy-hooks", "witlet:policy-hooks/container-create@0.1.0"),
        ("policy-hooks", "witlet:policy-hooks/access@0.1.0"),
        ("probe-lifecycle", "witlet:lifecycle/self-check@0.1.0"),
        ("probe-lifecycle", "witlet:lifecycle/state@0.1.0"),
        ("probe-kv", "witlet:base/kv@0.1.0"),
        ("volume-steps", "witlet:volume-steps/staging@0.1.0"),
        ("volume-steps", "witlet:volume-steps/expansion@0.1.0"),
        ("volume-steps", "witlet:volume-steps/statistics@0.1.0"),
    ] {
        let text = fs::read_to_string(samples.join(format!("{sample}.wat"))).unwrap();
        assert!(text.contains(interface), "{sample} does not have {interface}");
    }
}

#[test]
fn every_track_has_samples() {
    for kind in [
        "network",
        "policy",
        "policy-hooks",
        "probe",
        "sink-log",
        "sink-metric",
        "volume",
        "volume-steps",
    ] {
        for track in fs::read_dir(wit().join(kind)).unwrap() {
            let track = track.unwrap().file_name().into_string().unwrap();
            let sample = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("samples")
                .join(&track)
                .join(format!("{kind}.wat"));
            assert!(sample.is_file(), "{} is missing", sample.display());
            assert!(
                witlet_plugin_host::manifest::TRACKS.contains(&track.as_str()),
                "the host does not serve {track}"
            );
        }
    }
}
