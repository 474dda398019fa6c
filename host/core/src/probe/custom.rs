//! Probes by annotation: a plugin checks in place of the handler that the pod spec names.
//!
//! `probe.witlet.dev/<container>.<liveness|readiness|startup>: '{"plugin": "pg-probe", "periodMs": 300, "params": {…}}'`
//! The thresholds and the initial delay of the spec's probe stay; so there must be one, with whatever handler.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Probe};
use serde::Deserialize;

use super::{Kind, Timing};

const PREFIX: &str = "probe.witlet.dev/";
/// Faster than this the checks themselves are what the pod is busy with.
const SHORTEST_PERIOD: Duration = Duration::from_millis(50);
const MAX_PLUGIN_NAME: usize = 63;

/// Who checks, with what, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Custom {
    pub plugin: String,
    /// A JSON object, for the plugin.
    pub params: String,
    pub timing: Timing,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Annotation {
    plugin: String,
    period_ms: Option<u64>,
    timeout_ms: Option<u64>,
    #[serde(default)]
    params: serde_json::Map<String, serde_json::Value>,
}

/// The annotation for this probe, if there is one. An error is for the user: then nothing is checked, rather than with a
/// handler that was not meant.
pub fn custom(pod: &Pod, container: &str, kind: Kind, probe: &Probe) -> Option<Result<Custom, String>> {
    let key = format!("{PREFIX}{container}.{}", kind.title().to_ascii_lowercase());
    let text = pod.metadata.annotations.as_ref()?.get(&key)?;
    Some(parse(text, Timing::of(probe)).map_err(|why| format!("annotation {key}: {why}")))
}

fn parse(text: &str, spec: Timing) -> Result<Custom, String> {
    let annotation: Annotation = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let Annotation { plugin, params, .. } = annotation;
    let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if plugin.is_empty() || plugin.len() > MAX_PLUGIN_NAME || !plugin.bytes().all(is_name) {
        return Err(format!("{plugin:?} is no name of a plugin"));
    }
    let mut timing = spec;
    if let Some(period) = annotation.period_ms {
        timing.period = Duration::from_millis(period);
        if timing.period < SHORTEST_PERIOD {
            return Err(format!(
                "periodMs: {period} is less than {}",
                SHORTEST_PERIOD.as_millis()
            ));
        }
    }
    if let Some(timeout) = annotation.timeout_ms {
        timing.timeout = Duration::from_millis(timeout);
        if timeout == 0 {
            return Err("timeoutMs: 0 is no time".to_owned());
        }
    }
    Ok(Custom {
        plugin,
        params: serde_json::Value::Object(params).to_string(),
        timing,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(text: &str) -> Option<Result<Custom, String>> {
        let mut pod = Pod::default();
        pod.metadata.annotations = Some([("probe.witlet.dev/db.readiness".to_owned(), text.to_owned())].into());
        let probe = Probe {
            period_seconds: Some(7),
            failure_threshold: Some(2),
            ..Probe::default()
        };
        assert_eq!(custom(&pod, "db", Kind::Liveness, &probe), None);
        assert_eq!(custom(&pod, "web", Kind::Readiness, &probe), None);
        custom(&pod, "db", Kind::Readiness, &probe)
    }

    #[test]
    fn the_annotation_replaces_handler_and_period() {
        let found = of(r#"{"plugin": "pg", "periodMs": 300, "timeoutMs": 100, "params": {"port": 5432}}"#);
        let found = found.unwrap().unwrap();
        assert_eq!(
            (found.plugin.as_str(), found.params.as_str()),
            ("pg", r#"{"port":5432}"#)
        );
        assert_eq!(found.timing.period, Duration::from_millis(300));
        assert_eq!(found.timing.timeout, Duration::from_millis(100));
        assert_eq!(found.timing.failure_threshold, 2, "the spec's");
        let plain = of(r#"{"plugin": "pg"}"#).unwrap().unwrap();
        assert_eq!(
            (plain.timing.period, plain.params.as_str()),
            (Duration::from_secs(7), "{}")
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("{", "annotation probe.witlet.dev/db.readiness: EOF"),
            ("{}", "missing field `plugin`"),
            (r#"{"plugin": ""}"#, "is no name of a plugin"),
            (r#"{"plugin": "a b"}"#, "is no name of a plugin"),
            (r#"{"plugin": "a", "periodMs": 5}"#, "periodMs: 5 is less than 50"),
            (r#"{"plugin": "a", "timeoutMs": 0}"#, "timeoutMs"),
            (r#"{"plugin": "a", "period": 5}"#, "unknown field `period`"),
            (r#"{"plugin": "a", "params": [1]}"#, "invalid type"),
        ] {
            let error = of(text).unwrap().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
