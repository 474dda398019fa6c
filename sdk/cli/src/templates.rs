//! What `new` writes: `sdk/templates/LANG/KIND` over `sdk/templates/LANG/common`, and the WIT packages or the SDK.

use std::collections::BTreeMap;

use witlet_plugin_host::manifest::TRACKS;

use crate::project::Lang;

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// What can be asked for: policies come with and without their optional hooks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Kind {
    Probe,
    Policy,
    PolicyHooks,
    Volume,
    Network,
    SinkLog,
    SinkMetric,
}

impl Kind {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 7] = [
        Self::Probe,
        Self::Policy,
        Self::PolicyHooks,
        Self::Volume,
        Self::Network,
        Self::SinkLog,
        Self::SinkMetric,
    ];

    /// The directory with its templates.
    fn template(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Policy => "policy",
            Self::PolicyHooks => "policy-hooks",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::SinkLog => "sink-log",
            Self::SinkMetric => "sink-metric",
        }
    }

    /// As in the manifest.
    fn as_str(self) -> &'static str {
        match self {
            Self::PolicyHooks => "policy",
            other => other.template(),
        }
    }

    /// The WIT packages that a plugin of this kind is made with.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Probe => &["base", "probe", "lifecycle"],
            Self::Policy | Self::PolicyHooks => &["base", "policy", "policy-hooks", "lifecycle"],
            Self::Volume => &["base", "volume", "volume-steps", "lifecycle"],
            Self::Network => &["base", "network", "lifecycle"],
            Self::SinkLog => &["base", "sink-log", "lifecycle"],
            Self::SinkMetric => &["base", "sink-metric", "lifecycle"],
        }
    }
}

/// Below the directory of the project, by path.
type Files = BTreeMap<String, String>;

/// Everything below `tree`, by the rest of its path.
fn below(tree: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES
        .iter()
        .filter_map(move |(path, text)| Some((path.strip_prefix(tree)?.strip_prefix('/')?, *text)))
}

/// The files of a new project. `sdk`: where Rust's SDK is, if not in the project.
pub(crate) fn files(name: &str, kind: Kind, lang: Lang, sdk: Option<&str>) -> Result<Files, String> {
    let of_lang = format!("sdk/templates/{}", lang.as_str());
    let own = format!("{of_lang}/{}", kind.template());
    if below(&own).next().is_none() {
        let all = [Kind::Probe, Kind::Policy].map(Kind::template).join(" and ");
        return Err(format!(
            "there is a template for {} in Rust only; {} has {all}. Start with that one: wit/ and the world in it decide what is \
             exported",
            kind.template(),
            lang.as_str(),
        ));
    }
    let sdk_path = sdk.unwrap_or("vendor/witlet/sdk");
    let fill_in = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{Type}}", &type_name(name))
            .replace("{{kind}}", kind.as_str())
            .replace("{{sdk}}", sdk_path)
    };
    let mut files = Files::new();
    for (path, text) in below(&format!("{of_lang}/common")).chain(below(&own)) {
        files.insert(path.to_owned(), fill_in(text));
    }
    let track = TRACKS.last().copied().unwrap_or_default();
    if lang == Lang::Rust {
        if sdk.is_none() {
            vendor(&mut files);
        }
    } else {
        for package in kind.packages() {
            for (path, text) in below(&format!("wit/{package}/{track}")) {
                files.insert(format!("wit/deps/witlet-{package}/{path}"), text.to_owned());
            }
        }
    }
    Ok(files)
}

/// The SDK with the WIT packages that it is made from, at the same places as in the repository. It is on no registry.
fn vendor(files: &mut Files) {
    for (path, text) in FILES {
        if let Some(path) = path.strip_prefix("sdk/templates/vendor/") {
            files.insert(format!("vendor/witlet/{path}"), (*text).to_owned());
        } else if !path.starts_with("sdk/templates/") {
            files.insert(format!("vendor/witlet/{path}"), (*text).to_owned());
        }
    }
}

/// `pg-probe` → `PgProbe`
fn type_name(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase())
            .into_iter()
            .chain(letters)
            .collect::<String>()
    };
    let joined: String = name.split('-').map(word).collect();
    // A type cannot begin with a digit.
    if joined.starts_with(|c: char| c.is_ascii_digit()) {
        format!("Plugin{joined}")
    } else {
        joined
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LANGS: [Lang; 4] = [Lang::Rust, Lang::Js, Lang::Python, Lang::C];

    #[test]
    fn every_template_is_whole() {
        let mut made = 0;
        for (lang, kind) in LANGS.into_iter().flat_map(|lang| Kind::ALL.map(|kind| (lang, kind))) {
            let Ok(files) = files("my-plugin", kind, lang, None) else {
                assert!(lang != Lang::Rust, "Rust has all kinds");
                continue;
            };
            made += 1;
            for name in ["plugin.toml", "tests.toml", "README.md", ".gitignore"] {
                assert!(files.contains_key(name), "{lang:?} {kind:?}: {name}");
            }
            for (path, text) in files.iter().filter(|(path, _)| !path.starts_with("vendor/")) {
                for mark in ["{{name", "{{Type", "{{kind", "{{sdk"] {
                    assert!(!text.contains(mark), "{lang:?} {kind:?}: {path}");
                }
                if path.ends_with(".toml") {
                    toml::from_str::<toml::Table>(text).unwrap();
                }
            }
            let wit = files.keys().filter(|path| path.ends_with(".wit")).count();
            assert!(wit >= 3, "{lang:?} {kind:?}: what it is made of is with it");
        }
        assert_eq!(made, Kind::ALL.len() + 2 * 3);
    }

    /// The copy inherits what the SDK's crates inherit in the repository.
    #[test]
    fn the_vendored_workspace_is_the_repositorys() {
        let of = |name: &str| {
            let text = FILES.iter().find(|(path, _)| *path == name).unwrap().1;
            text.parse::<toml::Table>().unwrap()["workspace"].clone()
        };
        let root: toml::Table = include_str!("../../../Cargo.toml").parse().unwrap();
        let (root, copy) = (&root["workspace"], of("sdk/templates/vendor/Cargo.toml"));
        assert_eq!(copy["package"], root["package"]);
        for (name, dependency) in copy["dependencies"].as_table().unwrap() {
            assert_eq!(*dependency, root["dependencies"][name], "{name}");
        }
        for (path, text) in
            below("sdk").filter(|(path, _)| path.ends_with("/Cargo.toml") && !path.starts_with("templates"))
        {
            let inherited = text.lines().filter_map(|line| line.strip_suffix(".workspace = true"));
            for name in inherited {
                let is_there = copy["dependencies"].get(name).is_some() || copy["package"].get(name).is_some();
                assert!(is_there, "{path}: {name}");
            }
        }
    }

    #[test]
    fn names_of_types() {
        assert_eq!(type_name("pg-probe"), "PgProbe");
        assert_eq!(type_name("9p"), "Plugin9p");
    }
}
