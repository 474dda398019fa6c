//! What a stanza with a native plugin must say, and what it cannot say.

use super::{PluginConfig, Source};

/// Does this build have native plugins?
const BUILT: bool = cfg!(feature = "native-plugins");

pub(super) fn problems(stanza: &PluginConfig) -> Vec<String> {
    if !matches!(stanza.source, Source::Native(_)) {
        return if stanza.trusted {
            vec!["trusted: only native plugins need it; a component has its sandbox".to_owned()]
        } else {
            Vec::new()
        };
    }
    let mut problems = Vec::new();
    if !BUILT {
        problems.push(format!(
            "source \"{}\": this witlet was built without native plugins; build it with `cargo build --release -p witlet --features native-plugins`, or make the plugin a WebAssembly component (docs/plugins)",
            stanza.source
        ));
    }
    if !stanza.trusted {
        problems.push(
            "trusted: native code is part of the agent, nothing limits what it does; write trusted = true if that is meant"
                .to_owned(),
        );
    }
    if stanza.sha256.is_none() {
        problems.push("sha256: a native plugin needs its digest; write what sha256sum prints for it".to_owned());
    }
    if stanza.verify.is_some() {
        problems.push("verify: a native plugin has no signature; its sha256 says which file is meant".to_owned());
    }
    let limits = &stanza.limits;
    for (key, set) in [
        ("memory", limits.memory.is_some()),
        ("cpu_per_call", limits.cpu_per_call.is_some()),
        ("instances", limits.instances.is_some()),
        ("component", limits.component.is_some()),
        ("compile", limits.compile.is_some()),
    ] {
        if set {
            problems.push(format!(
                "limits.{key}: nothing can limit native code so; it has wall_per_call, concurrency and queue"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::PluginConfig;

    fn of(toml: &str) -> Vec<String> {
        let stanza: PluginConfig = toml::from_str(&format!("kind = \"probe\"\n{toml}")).unwrap();
        let mut problems = problems(&stanza);
        problems.retain(|p| !p.contains("built without native plugins"));
        problems
    }

    #[test]
    fn it_must_be_meant() {
        let pin = "a".repeat(64);
        let whole = format!("source = \"native:/a.so\"\nsha256 = \"{pin}\"\ntrusted = true");
        assert_eq!(of(&whole), [""; 0]);
        let less = of("source = \"native:/a.so\"").join("\n");
        assert!(
            less.contains("write trusted = true") && less.contains("sha256: a native plugin needs"),
            "{less}"
        );
        let limits = of(&format!(
            "{whole}\nlimits = {{ memory = \"1MiB\", concurrency = 1, instances = \"per-call\" }}"
        ));
        assert_eq!(limits.len(), 2, "{limits:?}");
        assert!(of("source = \"/a.wasm\"\ntrusted = true")[0].contains("only native plugins"));
        assert!(of(&format!("{whole}\nverify = {{ key = \"/k\" }}"))[0].starts_with("verify"));
    }

    #[test]
    #[cfg(not(feature = "native-plugins"))]
    fn without_the_feature_it_says_how_to_get_it() {
        let stanza: PluginConfig = toml::from_str("kind = \"probe\"\nsource = \"native:/a.so\"").unwrap();
        assert!(stanza.problems("a")[0].contains("--features native-plugins"));
    }
}
