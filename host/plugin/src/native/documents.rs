//! The JSON that crosses: parameters and results of the WIT functions by their WIT names. What is a resource in WIT is what the
//! resource shows: objects of Kubernetes as such, a sandbox with its fields, a volume's directory as its path.
//!
//! Bytes are base64. A number that JSON cannot write is a string: "NaN", "+Inf", "-Inf".

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use witlet_ports::network;
use witlet_ports::probe::Verdict;
use witlet_ports::sink::{self, MetricKind, OutputStream};

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Check<'a> {
    pub(super) pod: &'a Pod,
    pub(super) container: &'a Container,
    /// Once it was created.
    pub(super) container_id: Option<&'a str>,
    pub(super) params: &'a str,
    pub(super) timeout_ms: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", remote = "Verdict")]
enum VerdictDef {
    Pass,
    Warn,
    Fail,
    Unknown,
}

#[derive(Deserialize)]
pub(super) struct Outcome {
    #[serde(with = "VerdictDef")]
    pub(super) verdict: Verdict,
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Serialize)]
pub(super) struct AdmitPod<'a> {
    pub(super) pod: &'a Pod,
}

#[derive(Serialize)]
pub(super) struct ReviewContainer<'a> {
    pub(super) pod: &'a Pod,
    pub(super) container: &'a Container,
    pub(super) image: &'a str,
}

#[derive(Serialize)]
pub(super) struct ReviewAccess<'a> {
    pub(super) pod: &'a Pod,
    pub(super) request: Access<'a>,
}

#[derive(Serialize)]
pub(super) struct Access<'a> {
    pub(super) verb: &'static str,
    pub(super) container: &'a str,
    pub(super) command: &'a [String],
    pub(super) stdin: bool,
    pub(super) tty: bool,
    pub(super) ports: &'a [u16],
}

#[derive(Deserialize)]
pub(super) struct Denial {
    pub(super) reason: String,
    pub(super) message: String,
}

/// `"allow"` or `{"deny": {"reason": …, "message": …}}`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Decision {
    Allow,
    Deny(Denial),
}

#[derive(Deserialize)]
pub(super) struct Review {
    pub(super) decision: Decision,
    #[serde(default)]
    pub(super) warnings: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct HookReview {
    #[serde(default)]
    pub(super) denied: Option<String>,
    #[serde(default)]
    pub(super) warnings: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Target<'a> {
    pub(super) name: &'a str,
    /// Of the volume's directory, which the plugin makes and removes.
    pub(super) path: &'a str,
}

#[derive(Serialize)]
pub(super) struct Publish<'a> {
    pub(super) pod: &'a Pod,
    /// The v1 Volume.
    pub(super) volume: serde_json::Value,
    pub(super) target: Target<'a>,
}

#[derive(Serialize)]
pub(super) struct Unpublish<'a> {
    pub(super) target: Target<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Published {
    #[serde(default)]
    pub(super) host_path: Option<String>,
    #[serde(default)]
    pub(super) read_only: bool,
    #[serde(default)]
    pub(super) follows_source: bool,
}

#[derive(Serialize)]
pub(super) struct Sandbox<'a> {
    pub(super) sandbox: &'a network::Sandbox,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<&'a Pod>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<&'a str>,
}

#[derive(Deserialize)]
pub(super) struct Command {
    pub(super) program: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<(String, String)>,
    #[serde(default, deserialize_with = "from_base64")]
    pub(super) stdin: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Attachment {
    pub(super) cni_result: String,
    #[serde(default)]
    pub(super) state: String,
    #[serde(default)]
    pub(super) offline_teardown: Vec<Command>,
}

#[derive(Serialize)]
pub(super) struct Logs<'a> {
    pub(super) batch: Vec<Entry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Entry<'a> {
    time: u64,
    namespace: &'a str,
    pod: &'a str,
    pod_uid: &'a str,
    container: &'a str,
    restart_count: u32,
    output_stream: &'static str,
    line: &'a str,
}

impl<'a> From<&'a sink::LogEntry> for Entry<'a> {
    fn from(entry: &'a sink::LogEntry) -> Self {
        Self {
            time: entry.time,
            namespace: &entry.namespace,
            pod: &entry.pod,
            pod_uid: &entry.pod_uid,
            container: &entry.container,
            restart_count: entry.restart_count,
            output_stream: match entry.stream {
                OutputStream::Stdout => "stdout",
                OutputStream::Stderr => "stderr",
            },
            line: &entry.line,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Metrics<'a> {
    pub(super) time: u64,
    pub(super) families: Vec<Family<'a>>,
}

#[derive(Serialize)]
pub(super) struct Family<'a> {
    name: &'a str,
    help: &'a str,
    kind: &'static str,
    samples: Vec<Sample<'a>>,
}

#[derive(Serialize)]
struct Sample<'a> {
    name: &'a str,
    labels: &'a [(String, String)],
    #[serde(serialize_with = "number")]
    value: f64,
}

impl<'a> From<&'a sink::Family> for Family<'a> {
    fn from(family: &'a sink::Family) -> Self {
        let sample = |s: &'a sink::Sample| Sample {
            name: &s.name,
            labels: &s.labels,
            value: s.value,
        };
        Self {
            name: &family.name,
            help: &family.help,
            kind: match family.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram",
                MetricKind::Summary => "summary",
                MetricKind::Unknown => "unknown",
            },
            samples: family.samples.iter().map(sample).collect(),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        v if v.is_nan() => serializer.serialize_str("NaN"),
        v if v.is_infinite() => serializer.serialize_str(if *v > 0.0 { "+Inf" } else { "-Inf" }),
        v => serializer.serialize_f64(*v),
    }
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_that_json_has_not() {
        let family = sink::Family {
            name: "a".into(),
            help: String::new(),
            kind: MetricKind::Gauge,
            samples: [1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]
                .map(|value| sink::Sample {
                    name: "a".into(),
                    labels: vec![("l".into(), "v".into())],
                    value,
                })
                .to_vec(),
        };
        let json = serde_json::to_value(Family::from(&family)).unwrap();
        let values: Vec<_> = json["samples"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| &s["value"])
            .collect();
        assert_eq!(serde_json::to_string(&values).unwrap(), r#"[1.5,"NaN","+Inf","-Inf"]"#);
        assert_eq!(json["samples"][0]["labels"], serde_json::json!([["l", "v"]]));
    }

    #[test]
    fn answers() {
        let review: Review = serde_json::from_str(r#"{"decision":"allow"}"#).unwrap();
        assert!(matches!(review.decision, Decision::Allow));
        let text = r#"{"decision":{"deny":{"reason":"No","message":"m"}},"warnings":["w"]}"#;
        let review: Review = serde_json::from_str(text).unwrap();
        assert!(matches!(review.decision, Decision::Deny(d) if d.reason == "No"));
        let text = r#"{"cni-result":"{}","offline-teardown":[{"program":"/bin/a","stdin":"aGk="}]}"#;
        let attachment: Attachment = serde_json::from_str(text).unwrap();
        assert_eq!(attachment.offline_teardown[0].stdin, b"hi");
        assert!(serde_json::from_str::<Outcome>(r#"{"verdict":"perhaps"}"#).is_err());
    }
}
