//! `bench`: how long a call takes, on an instance of its own and on one that was kept.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use witlet_plugin_host::config::{Instances, LimitsConfig};
use witlet_plugin_host::units::Span;

use crate::cases::{Cases, Ready};
use crate::node::{self, Node, Stanza};
use crate::subject::Subject;
use crate::{answer, check, inspect, test};

#[derive(Args)]
pub(crate) struct Bench {
    /// The plugin's project, or a component.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The file with the cases, instead of tests.toml in the project.
    #[arg(long)]
    cases: Option<PathBuf>,
    /// The first case whose name contains this, instead of the first one.
    #[arg(long)]
    filter: Option<String>,
    /// So often.
    #[arg(long, default_value_t = 200)]
    calls: usize,
    #[arg(long)]
    json: bool,
}

/// Calls on one sort of instances.
struct Measured {
    p50: Duration,
    p99: Duration,
    /// From the source, or from the cache, to a plugin that can be called.
    load: Duration,
    memory: f64,
    cpu: Duration,
}

impl Bench {
    pub(crate) fn run(self) -> Result<bool> {
        let subject = Subject::find(&self.path)?;
        let cases = Cases::read(&subject, self.cases.as_deref())?;
        let filter = self.filter.unwrap_or_default();
        let Some(index) = (0..cases.len()).find(|i| cases.name(*i).contains(&filter)) else {
            bail!("no case has {filter:?} in its name");
        };
        let runtime = node::runtime()?;
        let calls = self.calls.max(1);
        let measure = |instances| runtime.block_on(measure(&subject, &cases, index, instances, calls));
        let cold = measure(Instances::PerCall)?;
        let warm = measure(Instances::Warm {
            warm: NonZeroUsize::MIN,
            max_calls: NonZeroU32::MAX,
        })?;
        if self.json {
            let one = |m: &Measured| {
                let micros = |d: Duration| d.as_secs_f64() * 1e6;
                json!({
                    "p50_us": micros(m.p50), "p99_us": micros(m.p99), "cpu_us": micros(m.cpu),
                    "load_ms": m.load.as_secs_f64() * 1e3, "memory_bytes": m.memory,
                })
            };
            let value = json!({
                "component": subject.file, "case": cases.name(index), "calls": calls, "cold": one(&cold), "warm": one(&warm),
            });
            println!("{value:#}");
            return Ok(true);
        }
        println!(
            "{}: {calls} calls of {:?}, one after the other",
            subject.file.display(),
            cases.name(index)
        );
        for (word, m) in [("a new instance each", &cold), ("one kept instance  ", &warm)] {
            println!(
                "{word}  p50 {:>9.1?}  p99 {:>9.1?}  processor {:>9.1?}  memory {}",
                m.p50,
                m.p99,
                m.cpu,
                check::size(m.memory as u64)
            );
        }
        println!("load from the cache  {:.1?}", warm.load);
        Ok(true)
    }
}

async fn measure(
    subject: &Subject,
    cases: &Cases,
    index: usize,
    instances: Instances,
    calls: usize,
) -> Result<Measured> {
    let kind = test::kind_of(subject)?;
    let Ready { case, .. } = &cases.ready(index).await?;
    let mut limits = match cases.limits.clone() {
        Some(limits) => limits,
        None => toml::from_str::<LimitsConfig>(&inspect::limits(kind, subject.bytes.len(), subject.seen()?.memory))?,
    };
    limits.instances = Some(instances);
    // To be measured, not to be met.
    limits.cpu_per_call = Some(Span(Duration::from_secs(10)));
    limits.wall_per_call = Some(Span(Duration::from_secs(10)));
    let stanza = Stanza {
        config: case.config.clone().unwrap_or_default(),
        grants: case.grants.clone(),
        limits: Some(limits),
    };
    let begun = Instant::now();
    let node = Node::start(subject, stanza, case.around()).await?;
    let load = begun.elapsed();
    // The first call of all finds cold caches, and a kept instance is made by it.
    answer::ask(&node.host, kind, case).await?;
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let begun = Instant::now();
        let answer = answer::ask(&node.host, kind, case).await?;
        times.push(begun.elapsed());
        if let Some(error) = answer.get("error")
            && !case.expect.keys().any(|key| key.starts_with("error"))
        {
            bail!("{:?}: {error}", case.name);
        }
    }
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1)).copied();
    let families = node.host.families();
    let metric = |name: &str| {
        let samples = families.iter().flat_map(|family| &family.samples);
        samples
            .filter(|sample| sample.name == name)
            .map(|sample| sample.value)
            .sum::<f64>()
    };
    let cpu = metric("witlet_plugin_cpu_seconds_total") / (calls + 1) as f64;
    Ok(Measured {
        p50: at(50).unwrap_or_default(),
        p99: at(99).unwrap_or_default(),
        load,
        memory: metric("witlet_plugin_memory_peak_bytes"),
        cpu: Duration::try_from_secs_f64(cpu).unwrap_or_default(),
    })
}
