//! `/statusz`, `/flagz` and `/debug/pprof/`: what the process says of itself (the kubelet contract, node G rule 135). Texts for
//! people; the kubelet's have the same form.

use jiff::Timestamp;
use serde_json::Value;

const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";

const PATHS: &str = "/attach /checkpoint /configz /containerLogs /exec /flagz /healthz /logs /metrics /pods /portForward /run /runningpods /stats /statusz";

pub(crate) fn statusz(started: Timestamp, now: Timestamp, version: &str) -> String {
    let up = now.duration_since(started).as_secs().max(0);
    let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
    let started = started.strftime("%a %b %e %H:%M:%S UTC %Y");
    format!(
        "\nkubelet statusz\n{WARNING}\n\nStarted: {started}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\n\
         Binary version: {version}\nPaths: {PATHS}\n"
    )
}

/// Every field of the configuration on a line of its own: there are no flags beside it.
pub(crate) fn flagz(configuration: &Value) -> String {
    let mut text = format!("\nkubelet flags\n{WARNING}\n\n");
    lines("", configuration, &mut text);
    text
}

fn lines(path: &str, value: &Value, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let below = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                lines(&below, value, text);
            }
        }
        Value::String(value) => text.push_str(&format!("{path}={value}\n")),
        other => text.push_str(&format!("{path}={other}\n")),
    }
}

/// A profile, or the list of them. None: there is none of that name.
pub(crate) fn profile(name: &str) -> Option<String> {
    Some(match name {
        "" => "/debug/pprof/\n\nheap\ntasks\n".to_owned(),
        "heap" => heap(),
        // A kubelet's tasks are called so.
        "tasks" | "goroutine" => tasks(),
        _ => return None,
    })
}

/// As the kernel counts it.
fn heap() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    let wanted = ["VmHWM", "VmRSS", "RssAnon", "RssFile", "VmData", "VmSwap", "Threads"];
    let own = status
        .lines()
        .filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    let own: String = own.flat_map(|line| [line, "\n"]).collect();
    format!(
        "# /proc/self/status\n{own}\n# /proc/self/smaps_rollup\n{}",
        read("/proc/self/smaps_rollup")
    )
}

/// As the async runtime counts it.
fn tasks() -> String {
    let metrics = tokio::runtime::Handle::current().metrics();
    format!(
        "workers {}\nalive tasks {}\ntasks in the global queue {}\n",
        metrics.num_workers(),
        metrics.num_alive_tasks(),
        metrics.global_queue_depth()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use jiff::ToSpan;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_status_says_since_when() {
        let started: Timestamp = "2027-03-04T05:06:07Z".parse().unwrap();
        let text = statusz(started, started + 90061.seconds(), "0.1.0");
        for line in [
            "kubelet statusz",
            "Started: Thu Mar  4 05:06:07 UTC 2027",
            "Up: 25 hr 01 min 01 sec",
            "Binary version: 0.1.0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        assert!(statusz(started, started - 1.second(), "").contains("Up: 0 hr 00 min 00 sec"));
    }

    #[test]
    fn every_field_has_a_line() {
        let text = flagz(&json!({"a": {"b": "x", "c": [1]}, "d": true, "e": {}}));
        let lines: Vec<_> = text.lines().skip(4).collect();
        assert_eq!(lines, ["a.b=x", "a.c=[1]", "d=true", "e={}"]);
    }

    #[tokio::test]
    async fn profiles_say_what_the_process_uses() {
        assert!(profile("heap").unwrap().contains("VmRSS:"));
        assert!(profile("tasks").unwrap().starts_with("workers 1\n"));
        assert!(profile("").unwrap().contains("heap\n"));
        assert_eq!(profile("trace"), None);
    }
}
