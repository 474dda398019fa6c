//! Runs scenarios and reports as Rust's own test harness does, so that `cargo test` and nextest can drive it.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use futures::StreamExt;
use futures::future::BoxFuture;

use crate::world::{Ctx, World};

/// More at once would only make each slower on a small machine.
const AT_ONCE: usize = 4;

/// For a scenario that waits for something that never comes without a deadline of its own.
const LONGEST: Duration = Duration::from_secs(300);

/// For all of them. What hangs after that hangs for ever, and whoever waits for the result wants to see what there is.
const WHOLE: Duration = Duration::from_secs(40 * 60);

/// Why a scenario proved nothing: something that this machine lacks.
#[derive(Debug)]
pub(crate) struct Skipped(pub(crate) String);

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skipped {}

/// Names, by how they ended; those that passed are in neither.
#[derive(Default)]
struct Tally {
    failed: BTreeSet<String>,
    ignored: usize,
}

pub(crate) type Run = fn(Ctx) -> BoxFuture<'static, Result<()>>;

#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    /// `module::function`
    pub(crate) name: &'static str,
    /// Others would notice what it does.
    pub(crate) alone: bool,
    pub(crate) run: Run,
}

struct Options {
    list: bool,
    ignored_only: bool,
    exact: bool,
    filters: Vec<String>,
    skip: Vec<String>,
}

impl Options {
    /// The flags of the standard harness that runners use.
    fn from_args() -> Self {
        let mut options = Self {
            list: false,
            ignored_only: false,
            exact: false,
            filters: Vec::new(),
            skip: Vec::new(),
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--list" => options.list = true,
                "--ignored" => options.ignored_only = true,
                "--exact" => options.exact = true,
                "--skip" => options.skip.extend(args.next()),
                // With a value behind it.
                "--format" | "--color" | "--test-threads" | "--logfile" | "-Z" => drop(args.next()),
                flag if flag.starts_with('-') => {}
                filter => options.filters.push(filter.to_owned()),
            }
        }
        options
    }

    fn wants(&self, name: &str) -> bool {
        let matches = |filter: &String| {
            if self.exact {
                name == filter
            } else {
                name.contains(filter.as_str())
            }
        };
        !self.ignored_only
            && (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skip.iter().any(matches)
    }
}

pub(crate) fn main(all: &[Scenario]) -> ExitCode {
    let options = Options::from_args();
    let wanted: Vec<Scenario> = all.iter().copied().filter(|s| options.wants(s.name)).collect();
    if options.list {
        for scenario in wanted {
            println!("{}: test", scenario.name);
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", wanted.len());
    let filtered = all.len() - wanted.len();
    let start = Instant::now();
    let Tally { failed, ignored } = if wanted.is_empty() {
        Tally::default()
    } else {
        run(&wanted)
    };
    let (word, code) = if failed.is_empty() {
        ("ok", ExitCode::SUCCESS)
    } else {
        ("FAILED", ExitCode::FAILURE)
    };
    if !failed.is_empty() {
        println!("\nfailures:");
        for name in &failed {
            println!("    {name}");
        }
    }
    println!(
        "\ntest result: {word}. {} passed; {} failed; {ignored} ignored; 0 measured; {filtered} filtered out; finished in {:.2}s\n",
        // The removal of the lab counts as one more if it failed.
        wanted.iter().filter(|w| !failed.contains(w.name)).count() - ignored,
        failed.len(),
        start.elapsed().as_secs_f32()
    );
    code
}

fn run(wanted: &[Scenario]) -> Tally {
    witlet_lab::catch_signals();
    std::thread::spawn(|| {
        std::thread::sleep(WHOLE);
        println!("\ntest result: FAILED. not finished within {WHOLE:?}\n");
        // The lab's guardian removes what is left.
        std::process::exit(1);
    });
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail("runtime", &error.into()),
    };
    let world = match World::new() {
        Ok(world) => Arc::new(world),
        Err(error) => return fail("the node's start", &error),
    };
    let mut tally = runtime.block_on(run_all(wanted, &world));
    // A scenario that failed may have left a program running that waits for what never comes.
    runtime.shutdown_timeout(Duration::from_secs(10));
    let removed = match Arc::try_unwrap(world) {
        Ok(world) => world.close(),
        // A scenario's task outlived it; the lab is removed when this process ends.
        Err(_) => Err(anyhow!("a scenario still uses the node after its end")),
    };
    if let Err(error) = removed {
        tally
            .failed
            .extend(fail("the node leaves nothing behind", &error).failed);
    }
    tally
}

fn fail(what: &str, error: &anyhow::Error) -> Tally {
    println!("test {what} ... FAILED\n{error:#}");
    Tally {
        failed: BTreeSet::from([what.to_owned()]),
        ignored: 0,
    }
}

async fn run_all(wanted: &[Scenario], world: &Arc<World>) -> Tally {
    let mut tally = Tally::default();
    let (alone, together): (Vec<Scenario>, Vec<Scenario>) = wanted.iter().partition(|s| s.alone);
    let mut results = futures::stream::iter(together)
        .map(|s| run_one(s, world))
        .buffer_unordered(AT_ONCE);
    while let Some((scenario, outcome)) = results.next().await {
        report(scenario, outcome, &mut tally);
    }
    for scenario in alone {
        let (scenario, outcome) = run_one(scenario, world).await;
        report(scenario, outcome, &mut tally);
    }
    tally
}

fn report(scenario: Scenario, (outcome, took): (Result<()>, Duration), tally: &mut Tally) {
    match outcome {
        Ok(()) => println!("test {} ... ok ({:.1} s)", scenario.name, took.as_secs_f32()),
        Err(error) => {
            if let Some(why) = error.downcast_ref::<Skipped>() {
                tally.ignored += 1;
                return println!("test {} ... ignored, {why}", scenario.name);
            }
            println!(
                "test {} ... FAILED ({:.1} s)\n    {error:#}",
                scenario.name,
                took.as_secs_f32()
            );
            tally.failed.insert(scenario.name.to_owned());
        }
    }
}

async fn run_one(scenario: Scenario, world: &Arc<World>) -> (Scenario, (Result<()>, Duration)) {
    let start = Instant::now();
    let outcome = async {
        let ctx = Ctx::new(world.clone(), scenario.name).await?;
        let body = tokio::spawn(tokio::time::timeout(LONGEST, (scenario.run)(ctx.clone())));
        let abort = body.abort_handle();
        let outcome = tokio::select! {
            joined = body => match joined {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(anyhow!("not finished within {LONGEST:?}")),
                Err(panic) => Err(panic).context("the scenario panicked"),
            },
            () = interrupted() => {
                abort.abort();
                Err(anyhow!("interrupted"))
            }
        };
        match outcome {
            Ok(()) => ctx.clean_up().await.context("what the scenario made does not go away"),
            Err(error) => {
                let error = error.context(ctx.what_is().await);
                // Whatever it left must not be in the others' way.
                let _ = ctx.clean_up().await;
                Err(error)
            }
        }
    };
    let outcome = outcome.await;
    (scenario, (outcome, start.elapsed()))
}

async fn interrupted() {
    while !witlet_lab::interrupted() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
