//! What plugin calls cost, from the agent's own metrics.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Mean times by plugin and function, in microseconds.
pub(crate) fn costs(metrics: &str) -> Value {
    const NAME: &str = "witlet_plugin_call_duration_seconds";
    let mut found: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for line in metrics.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let Some((name, labels)) = series.split_once('{') else {
            continue;
        };
        let (Some(plugin), Some(func), Ok(value)) =
            (label(labels, "plugin"), label(labels, "func"), value.parse::<f64>())
        else {
            continue;
        };
        let entry = found.entry(format!("{plugin}.{func}")).or_default();
        match name.strip_prefix(NAME) {
            Some("_sum") => entry.0 += value,
            Some("_count") => entry.1 += value,
            _ => {}
        }
    }
    let called = found.into_iter().filter(|(_, (_, count))| *count > 0.0);
    called
        .map(|(name, (sum, count))| (name, json!({ "calls": count, "mean_us": sum / count * 1e6 })))
        .collect()
}

/// The time that all sandboxes took so far, in seconds, and their number.
pub(crate) fn sandboxes(metrics: &str) -> (f64, f64) {
    let total = |suffix: &str| {
        let name = format!("kubelet_run_podsandbox_duration_seconds_{suffix}{{");
        let values = metrics.lines().filter(|line| line.starts_with(&name));
        values
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    (total("sum"), total("count"))
}

/// A label's value in `plugin="x",func="y"}`.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let rest = labels
        .split([',', '{'])
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix("=\""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandboxes_of_all_handlers_are_added_up() {
        let text = "kubelet_run_podsandbox_duration_seconds_sum{runtime_handler=\"\"} 0.5\n\
            kubelet_run_podsandbox_duration_seconds_sum{runtime_handler=\"crun\"} 0.25\n\
            kubelet_run_podsandbox_duration_seconds_count{runtime_handler=\"\"} 3\n";
        assert_eq!(sandboxes(text), (0.75, 3.0));
    }

    #[test]
    fn sums_are_divided_by_counts() {
        let text = "# HELP x\n\
            witlet_plugin_call_duration_seconds_bucket{plugin=\"a\",func=\"check\",le=\"0.1\"} 4\n\
            witlet_plugin_call_duration_seconds_sum{plugin=\"a\",func=\"check\"} 0.002\n\
            witlet_plugin_call_duration_seconds_count{plugin=\"a\",func=\"check\"} 4\n\
            witlet_plugin_call_duration_seconds_count{plugin=\"b\",func=\"setup\"} 0\n";
        let costs = costs(text);
        assert_eq!(costs["a.check"]["calls"], 4.0);
        assert_eq!(costs["a.check"]["mean_us"], 500.0);
        assert!(costs.get("b.setup").is_none());
    }
}
