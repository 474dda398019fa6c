//! The numbers for people.

use std::fmt;

use serde_json::Value;

pub(crate) struct Report(pub(crate) Value);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let ms = |value: &Value| 1000.0 * number(value);
        let report = &self.0;
        writeln!(f, "\n{} processors\n", report["cpus"])?;
        writeln!(f, "one pod                  witlet p50   p90   floor p50   p90   ratio")?;
        for (name, key) in [
            ("create to Ready", "create_to_ready"),
            ("delete to gone", "create_to_gone"),
        ] {
            let row = &report["single"][key];
            writeln!(
                f,
                "  {name:<20} {:>8.0} ms {:>5.0} {:>8.0} ms {:>5.0} {:>7.2}",
                ms(&row["p50_s"]),
                ms(&row["p90_s"]),
                ms(&row["floor_p50_s"]),
                ms(&row["floor_p90_s"]),
                number(&row["ratio_p50"])
            )?;
        }
        let sandbox = &report["single"]["sandbox"];
        writeln!(
            f,
            "  {:<20} {:>8.0} ms mean {:>9.0} ms mean {:>7.2}",
            "sandbox, network",
            ms(&sandbox["mean_s"]),
            ms(&sandbox["floor_mean_s"]),
            number(&sandbox["ratio"])
        )?;
        writeln!(f, "\nmany at once                 witlet")?;
        for burst in report["bursts"].as_array().into_iter().flatten() {
            for (name, key) in [
                ("create to all Ready", "create_to_ready"),
                ("delete to all gone", "create_to_gone"),
            ] {
                let row = &burst[key];
                write!(
                    f,
                    "  {:>3} {name:<20} {:>6.2} s",
                    number(&burst["pods"]),
                    number(&row["s"])
                )?;
                for floor in row["floors"].as_array().into_iter().flatten() {
                    let (at_a_time, s) = (number(&floor["at_a_time"]), number(&floor["s"]));
                    write!(
                        f,
                        "  floor, {at_a_time} at a time {s:.2} s: {:.2}",
                        number(&floor["ratio"])
                    )?;
                }
                writeln!(f)?;
            }
        }

        writeln!(f, "\nagent")?;
        let agent = &report["agent"];
        for (name, key, unit) in [
            ("resident at the start", "rss_mib_start", "MiB"),
            ("resident with 100 pods", "rss_mib_100_pods", "MiB"),
            (
                "resident with 100 pods probed each second",
                "rss_mib_100_pods_probed",
                "MiB",
            ),
            ("resident at the end", "rss_mib_end", "MiB"),
            ("processor, 100 idle pods", "cpu_percent_idle_100_pods", "%"),
            (
                "processor, 100 pods probed each second",
                "cpu_percent_100_pods_probed",
                "%",
            ),
        ] {
            writeln!(f, "  {name:<44} {:>7.2} {unit}", number(&agent[key]))?;
        }
        for burst in report["bursts"].as_array().into_iter().flatten() {
            let name = format!("processor, {} pods up and down", burst["pods"]);
            writeln!(f, "  {name:<44} {:>7.2} s", number(&burst["agent_cpu_s"]))?;
        }

        writeln!(f, "\nserver")?;
        for (name, key, field, unit) in [
            ("all metrics with 100 pods, processor", "scrapes", "cpu_ms", "ms"),
            (
                "100 followers of logs, a line's delay p50",
                "followers",
                "delay_p50_ms",
                "ms",
            ),
            (
                "100 followers of logs, a line's delay p99",
                "followers",
                "delay_p99_ms",
                "ms",
            ),
            ("100 followers of logs, processor", "followers", "cpu_percent", "%"),
            ("50 commands at once", "commands", "s", "s"),
            ("  beside the runtime's own", "commands", "ratio", ""),
            ("one follower of a long log", "long_log", "mb_per_s", "MB/s"),
        ] {
            writeln!(f, "  {name:<44} {:>7.2} {unit}", number(&report["serving"][key][field]))?;
        }

        writeln!(f, "\nplugins")?;
        let host = &report["plugin_host"];
        for (name, value, unit) in [
            (
                "loading the default ones from cache",
                &host["load_default_plugins_ms"],
                "ms",
            ),
            ("resident for the default ones", &host["rss_default_plugins_mib"], "MiB"),
            (
                "a TCP probe in native code, p50",
                &host["probe"]["native"]["p50_us"],
                "us",
            ),
            ("  p99", &host["probe"]["native"]["p99_us"], "us"),
            ("through the plugin, p50", &host["probe"]["plugin"]["p50_us"], "us"),
            ("  p99", &host["probe"]["plugin"]["p99_us"], "us"),
            (
                "through a warm instance, p50",
                &host["probe"]["warm_plugin"]["p50_us"],
                "us",
            ),
            ("  p99", &host["probe"]["warm_plugin"]["p99_us"], "us"),
            (
                "1000 probes a second, native",
                &host["probes_a_second"]["native_cpu_percent"],
                "%",
            ),
            (
                "  through the plugin",
                &host["probes_a_second"]["plugin_cpu_percent"],
                "%",
            ),
            (
                "  through warm instances",
                &host["probes_a_second"]["warm_plugin_cpu_percent"],
                "%",
            ),
        ] {
            writeln!(f, "  {name:<44} {:>7.2} {unit}", number(value))?;
        }
        writeln!(f, "\nplugin calls on the node              calls     mean")?;
        for (name, cost) in report["plugins"].as_object().into_iter().flatten() {
            writeln!(
                f,
                "  {name:<34} {:>6} {:>6.0} us",
                number(&cost["calls"]),
                number(&cost["mean_us"])
            )?;
        }
        Ok(())
    }
}
