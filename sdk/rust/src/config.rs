//! The plugin's own configuration: the `config` table of its stanza in the node's configuration.

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// The configuration as JSON; `{}` where there is none, and in native builds.
pub fn text() -> String {
    #[cfg(target_arch = "wasm32")]
    return crate::base::bindings::witlet::base::config::get();
    #[cfg(not(target_arch = "wasm32"))]
    "{}".to_owned()
}

/// The configuration as `T`. Let `T` deny unknown fields, so that operators learn of their typing errors.
pub fn get<T: DeserializeOwned>() -> Result<T> {
    parse(&text())
}

/// What [`get`] does, for tests.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::Invalid(format!("the plugin's configuration: {e}")))
}

/// For `#[serde(with = "witlet_sdk::config::duration")]`: `250ms`, `10s`, `2m`, `1h`.
pub mod duration {
    use std::time::Duration;

    use serde::de::{Deserialize, Deserializer, Error};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?}: write a duration as \"250ms\", \"10s\", \"2m\" or \"1h\""
            ))
        })
    }

    fn parse(text: &str) -> Option<Duration> {
        let end = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(end);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        number
            .parse::<u64>()
            .ok()?
            .checked_mul(millis)
            .map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde::Deserialize;

    use super::parse;

    #[derive(Deserialize, Debug)]
    struct Config {
        #[serde(with = "super::duration")]
        every: Duration,
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0s", 0),
        ] {
            let config: Config = parse(&format!(r#"{{"every": "{text}"}}"#)).unwrap();
            assert_eq!(config.every, Duration::from_millis(millis), "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "1.5s",
            "-1s",
            "1d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            let error = parse::<Config>(&format!(r#"{{"every": "{text}"}}"#)).unwrap_err();
            assert!(
                error.message().starts_with("the plugin's configuration: "),
                "{text}: {error}"
            );
        }
    }
}
