//! `test`: the plugin's cases, on the node's own host.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use serde_json::json;
use witlet_plugin_host::config::Kind;
use witlet_plugin_host::manifest::{MOST_COMPONENT, Manifest};

use crate::cases::{Cases, Ready};
use crate::node::{self, Node, Stanza};
use crate::subject::Subject;
use crate::{answer, build, check, expect, usage};

#[derive(Args)]
pub(crate) struct Test {
    /// The plugin's project, or a component.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The file with the cases, instead of tests.toml in the project.
    #[arg(long)]
    cases: Option<PathBuf>,
    /// Only cases whose names contain this.
    #[arg(long)]
    filter: Option<String>,
    /// Build the project first.
    #[arg(long)]
    build: bool,
    /// Show what the plugin logs.
    #[arg(long)]
    log: bool,
    #[arg(long)]
    json: bool,
}

pub(crate) fn kind_of(subject: &Subject) -> Result<Kind> {
    let manifest = Manifest::read(&subject.bytes, MOST_COMPONENT).map_err(|e| anyhow!("{e}"))?;
    check::kind(&manifest.kind).with_context(|| format!("no node knows the kind {:?}", manifest.kind))
}

struct Ended {
    name: String,
    differences: Vec<String>,
    took: Duration,
}

impl Test {
    pub(crate) fn run(self) -> Result<bool> {
        if self.log {
            let lines = tracing_subscriber::fmt()
                .with_writer(std::io::stderr)
                .with_target(false);
            lines.without_time().init();
        }
        if self.build && !build::run(&self.path)? {
            return Ok(false);
        }
        let subject = Subject::find(&self.path)?;
        let cases = Cases::read(&subject, self.cases.as_deref())?;
        let is_wanted = |name: &str| self.filter.as_ref().is_none_or(|filter| name.contains(filter));
        let wanted: Vec<usize> = (0..cases.len()).filter(|i| is_wanted(&cases.name(*i))).collect();
        if wanted.is_empty() {
            return Err(usage("no case has a name with that in it"));
        }
        let runtime = node::runtime()?;
        let mut ended = Vec::new();
        for index in wanted {
            let one = runtime.block_on(run_case(&subject, &cases, index))?;
            if !self.json {
                show(&one);
            }
            ended.push(one);
        }
        let failed = ended.iter().filter(|one| !one.differences.is_empty()).count();
        if self.json {
            let all: Vec<_> = ended
                .iter()
                .map(|one| {
                    json!({
                        "name": one.name, "passed": one.differences.is_empty(), "differences": one.differences,
                        "millis": one.took.as_secs_f64() * 1e3,
                    })
                })
                .collect();
            println!(
                "{:#}",
                json!({"component": subject.file, "passed": ended.len() - failed, "failed": failed, "cases": all})
            );
        } else {
            println!("{} passed, {failed} failed", ended.len() - failed);
        }
        Ok(failed == 0)
    }
}

fn show(one: &Ended) {
    let word = if one.differences.is_empty() { "ok    " } else { "FAILED" };
    println!("{word} {} ({:.1} ms)", one.name, one.took.as_secs_f64() * 1e3);
    for difference in &one.differences {
        println!("       {difference}");
    }
}

async fn run_case(subject: &Subject, cases: &Cases, index: usize) -> Result<Ended> {
    let Ready { case, server, .. } = &cases.ready(index).await?;
    let stanza = Stanza {
        config: case.config.clone().unwrap_or_default(),
        grants: case.grants.clone(),
        limits: cases.limits.clone(),
    };
    let begun = Instant::now();
    let answer = match Node::start(subject, stanza, case.around()).await {
        Ok(node) => {
            let begun = Instant::now();
            let answer = answer::ask(&node.host, kind_of(subject)?, case).await;
            answer.map(|answer| (answer, begun.elapsed()))?
        }
        // Also an answer: a plugin may be right not to load with such a configuration or such grants.
        Err(error) => {
            let refused = json!({"error": format!("{error:#}")});
            (refused.as_object().cloned().unwrap_or_default(), begun.elapsed())
        }
    };
    let (mut answer, took) = answer;
    if let Some(server) = server {
        answer.insert("received".to_owned(), server.received().into());
    }
    Ok(Ended {
        name: case.name.clone(),
        differences: expect::differences(&case.expect, &answer)?,
        took,
    })
}
