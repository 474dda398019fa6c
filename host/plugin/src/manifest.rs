//! What a plugin says about itself: the custom section `witlet:manifest`, read without running anything.

use serde::{Deserialize, Serialize};
use wasmparser::{Encoding, Parser, Payload};

use crate::config::Kind;
use crate::grants::Capability;

/// The name of the section, in the component or in a module inside it.
pub const SECTION: &str = "witlet:manifest";

/// Tracks of the WIT packages that this node serves, newest last. A plugin is built for exactly one.
pub const TRACKS: &[&str] = &["0.1"];

/// A larger file is refused before anything else is done with it, unless `limits.component` allows more.
pub const MAX_COMPONENT: usize = 16 << 20;

/// What `limits.component` can allow.
pub const MOST_COMPONENT: usize = 256 << 20;

/// A manifest is a line of JSON, not a document.
const MAX_MANIFEST: usize = 64 << 10;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    pub kind: String,
    pub track: String,
    #[serde(default)]
    pub sdk: String,
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Of what the plugin gives the host to keep, such as a network attachment's state.
    #[serde(default)]
    pub state_version: u32,
    /// Volume plugins: the drivers it serves unless the configuration says otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drivers: Vec<String>,
}

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ManifestError {
    #[error("{size} bytes are more than a plugin may have ({most}); limits.component allows more")]
    TooLarge { size: usize, most: usize },
    #[error("it is native code compiled in advance; give the .wasm file, the node compiles it itself")]
    Precompiled,
    #[error("it is not a WebAssembly component: {0}")]
    NotAComponent(String),
    #[error("it has no section {SECTION}; build it with the witlet SDK")]
    Missing,
    #[error("it has more than one section {SECTION}")]
    Twice,
    #[error("its section {SECTION} cannot be read: {0}")]
    Unreadable(String),
    #[error("it is a {found} plugin, but the configuration says kind = \"{wanted}\"")]
    WrongKind { found: String, wanted: Kind },
    #[error("built for witlet:{kind} {track}, this node supports {}; rebuild it or pin an older one", TRACKS.join(", "))]
    WrongTrack { kind: String, track: String },
    #[error("it asks for the capability {0:?}, which this node does not know")]
    UnknownCapability(String),
}

impl Manifest {
    /// Reads a whole component: one that is broken anywhere has no manifest.
    pub fn read(component: &[u8], most: usize) -> Result<Self, ManifestError> {
        if component.len() > most {
            let size = component.len();
            return Err(ManifestError::TooLarge { size, most });
        }
        if wasmtime::Engine::detect_precompiled(component).is_some() {
            return Err(ManifestError::Precompiled);
        }
        let mut found: Option<&[u8]> = None;
        let mut outermost = true;
        for payload in Parser::new(0).parse_all(component) {
            match payload.map_err(|e| ManifestError::NotAComponent(e.to_string()))? {
                Payload::Version { encoding, .. } => {
                    let first = std::mem::take(&mut outermost);
                    if first && encoding != Encoding::Component {
                        let text = "it is a core module; encode it with wit-component";
                        return Err(ManifestError::NotAComponent(text.to_owned()));
                    }
                }
                Payload::CustomSection(section) if section.name() == SECTION => {
                    let before = found.replace(section.data());
                    if before.is_some() {
                        return Err(ManifestError::Twice);
                    }
                }
                _ => {}
            }
        }
        let data = found.ok_or(ManifestError::Missing)?;
        if data.len() > MAX_MANIFEST {
            return Err(ManifestError::Unreadable(format!("{} bytes are too many", data.len())));
        }
        serde_json::from_slice(data).map_err(|e| ManifestError::Unreadable(e.to_string()))
    }

    /// Is it for this place, and for this node? Asked before anything is compiled.
    pub fn check(&self, wanted: Kind) -> Result<(), ManifestError> {
        if self.kind != wanted.as_str() {
            return Err(ManifestError::WrongKind {
                found: printable(&self.kind),
                wanted,
            });
        }
        if !TRACKS.contains(&self.track.as_str()) {
            return Err(ManifestError::WrongTrack {
                kind: self.kind.clone(),
                track: printable(&self.track),
            });
        }
        self.capabilities().map(drop)
    }

    pub fn capabilities(&self) -> Result<Vec<Capability>, ManifestError> {
        let find = |name: &String| {
            Capability::ALL
                .into_iter()
                .find(|c| c.as_str() == name)
                .ok_or_else(|| ManifestError::UnknownCapability(printable(name)))
        };
        self.capabilities.iter().map(find).collect()
    }
}

/// The manifest is the plugin's word: short, and on one line, when it is shown.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        Manifest::read(bytes, MAX_COMPONENT)
    }

    fn component(sections: &[(&str, &str)]) -> Vec<u8> {
        let mut text = String::from("(component ");
        for (name, data) in sections {
            text.push_str(&format!("(@custom {name:?} {data:?})"));
        }
        text.push(')');
        wat::parse_str(text).unwrap()
    }

    const GOOD: &str = r#"{"name":"a","version":"1.0.0","kind":"probe","track":"0.1","sdk":"x","capabilities":["pod-net"],"state_version":0}"#;

    #[test]
    fn in_the_component_or_in_its_module() {
        let manifest = read(&component(&[(SECTION, GOOD)])).unwrap();
        assert_eq!(manifest.name, "a");
        assert_eq!(manifest.capabilities().unwrap(), [Capability::PodNet]);
        manifest.check(Kind::Probe).unwrap();
        let inner = format!("(component (core module (@custom {SECTION:?} {GOOD:?})))");
        assert_eq!(read(&wat::parse_str(inner).unwrap()).unwrap(), manifest);
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(read(&component(&[])), Err(ManifestError::Missing));
        assert_eq!(
            read(&component(&[(SECTION, GOOD), (SECTION, GOOD)])),
            Err(ManifestError::Twice)
        );
        assert!(matches!(
            read(&component(&[(SECTION, "{")])),
            Err(ManifestError::Unreadable(_))
        ));
        assert!(matches!(read(b"hello"), Err(ManifestError::NotAComponent(_))));
        assert!(matches!(
            read(&wat::parse_str("(module)").unwrap()),
            Err(ManifestError::NotAComponent(_))
        ));
        assert!(matches!(
            read(&vec![0; MAX_COMPONENT + 1]),
            Err(ManifestError::TooLarge { .. })
        ));
        // Cut off anywhere, it is refused: the section stands near the front, and what follows it counts too.
        let whole = component(&[(SECTION, GOOD), ("last", "xyz")]);
        assert!(matches!(
            read(&whole[..whole.len() - 2]),
            Err(ManifestError::NotAComponent(_))
        ));
    }

    #[test]
    fn wrong_kind_and_track() {
        let manifest = read(&component(&[(SECTION, GOOD)])).unwrap();
        let error = manifest.check(Kind::Volume).unwrap_err().to_string();
        assert_eq!(
            error,
            "it is a probe plugin, but the configuration says kind = \"volume\""
        );
        let newer = Manifest {
            track: "0.3".into(),
            ..manifest.clone()
        };
        let error = newer.check(Kind::Probe).unwrap_err().to_string();
        assert_eq!(
            error,
            "built for witlet:probe 0.3, this node supports 0.1; rebuild it or pin an older one"
        );
        let greedy = Manifest {
            capabilities: vec!["root".into()],
            ..manifest
        };
        assert_eq!(
            greedy.check(Kind::Probe),
            Err(ManifestError::UnknownCapability("root".into()))
        );
    }
}
