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
        writeln!(
            f,
            "\nmany at once                 witlet   floor, 1 at a time   ratio   floor, 4 at a time   ratio"
        )?;
        for burst in report["bursts"].as_array().into_iter().flatten() {
            for (name, key) in [
                ("create to all Ready", "create_to_ready"),
                ("delete to all gone", "create_to_gone"),
            ] {
                let row = &burst[key];
                writeln!(
                    f,
                    "  {:>3} {name:<20} {:>6.2} s {:>18.2} s {:>7.2} {:>18.2} s {:>7.2}",
                    number(&burst["pods"]),
                    number(&row["s"]),
                    number(&row["floor_1_s"]),
                    number(&row["ratio_1"]),
                    number(&row["floor_4_s"]),
                    number(&row["ratio_4"])
                )?;
            }
        }
        let agent = &report["agent"];
        writeln!(f, "\nagent")?;
        writeln!(
            f,
            "  resident at the start      {:>6.1} MiB",
            number(&agent["rss_mib_start"])
        )?;
        writeln!(
            f,
            "  resident with 100 pods     {:>6.1} MiB",
            number(&agent["rss_mib_100_pods"])
        )?;
        writeln!(
            f,
            "  resident at the end        {:>6.1} MiB",
            number(&agent["rss_mib_end"])
        )?;
        for burst in report["bursts"].as_array().into_iter().flatten() {
            writeln!(
                f,
                "  processor, {:>3} pods up and down {:>5.2} s",
                burst["pods"],
                number(&burst["agent_cpu_s"])
            )?;
        }
        writeln!(
            f,
            "  processor, 100 idle pods   {:>6.2} %",
            number(&agent["cpu_percent_idle_100_pods"])
        )?;
        writeln!(f, "\nplugin calls                          calls     mean")?;
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
