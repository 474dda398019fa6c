//! From a component to code: from the cache, from a compiler in another process, or here.
//!
//! Compiling what others wrote can take any time and memory (that is not a bug for wasmtime), so the agent leaves it to a
//! process with limits where it is told how.

use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::cache::{self, Cache, Lookup};
use crate::engine::{PluginEngine, settings};
use crate::manifest::MOST_COMPONENT;
use crate::metrics::CacheMetrics;

/// Where it is started by hand.
const DEFAULT_SECONDS: u64 = 30;
/// The compiler's address space; it also maps its own executable and libraries.
const ADDRESS_SPACE: u64 = 4 << 30;
/// On a busy machine processor time may take a while.
const WALL_FACTOR: u32 = 4;
/// What the compiler's process is told: its processor time in seconds.
const SECONDS: &str = "WITLET_COMPILE_SECONDS";
const MAX_COMPILED: u64 = 1 << 30;

/// Compiles components for one engine.
pub(crate) struct Compiler {
    pub(crate) engine: Arc<PluginEngine>,
    pub(crate) cache: Option<Cache>,
    pub(crate) command: Option<Vec<String>>,
    pub(crate) metrics: CacheMetrics,
}

impl Compiler {
    /// `patience`: processor time for a compiler in another process.
    pub(crate) async fn component(
        self: &Arc<Self>,
        source: Arc<[u8]>,
        digest: &[u8; 32],
        patience: Duration,
    ) -> Result<Component, String> {
        let key = Cache::key(&self.engine, digest);
        let this = Arc::clone(self);
        let lookup = {
            let key = key.clone();
            blocking(move || this.cache.as_ref().map_or(Lookup::Miss, |c| c.load(&this.engine, &key))).await?
        };
        let counter = match lookup {
            Lookup::Hit(component) => {
                self.metrics.hit.fetch_add(1, Ordering::Relaxed);
                return Ok(component);
            }
            Lookup::Miss => &self.metrics.miss,
            Lookup::Corrupt => &self.metrics.corrupt,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let compiled = match &self.command {
            Some(command) => Some(compile_elsewhere(command, &source, patience).await?),
            None => None,
        };
        let this = Arc::clone(self);
        let component = blocking(move || this.finish(&source, compiled, &key)).await?;
        let spent = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.metrics.compile_nanos.fetch_add(spent, Ordering::Relaxed);
        component
    }

    fn finish(&self, source: &[u8], compiled: Option<Vec<u8>>, key: &str) -> Result<Component, String> {
        let (component, code) = match compiled {
            Some(code) => (cache::from_compiler(&self.engine, &code).map_err(|e| chain(&e))?, code),
            None => {
                let component = Component::from_binary(self.engine.wasmtime(), source).map_err(|e| chain(&e))?;
                let code = component.serialize().map_err(|e| chain(&e))?;
                (component, code)
            }
        };
        if let Some(cache) = &self.cache
            && let Err(error) = cache.store(key, &code)
        {
            tracing::warn!(%error, "a compiled plugin could not be kept");
        }
        Ok(component)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| format!("compiling did not end: {e}"))
}

pub(crate) fn chain(error: &wasmtime::Error) -> String {
    let all: Vec<_> = error.chain().map(ToString::to_string).collect();
    all.join(": ")
}

async fn compile_elsewhere(command: &[String], source: &[u8], patience: Duration) -> Result<Vec<u8>, String> {
    let seconds = patience.as_secs().max(1);
    let (program, args) = command
        .split_first()
        .ok_or_else(|| "the command that compiles plugins is empty".to_owned())?;
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env(SECONDS, seconds.to_string())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("{program}: {e}"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(format!("{program}: no pipes"));
    };
    let work = async {
        let feed = async move {
            // If it ended early, its exit says why.
            let _ = stdin.write_all(source).await;
        };
        let (mut code, mut words) = (Vec::new(), Vec::new());
        let (mut stdout, mut stderr) = (stdout.take(MAX_COMPILED), stderr.take(8 << 10));
        let ((), code_read, _) = tokio::join!(feed, stdout.read_to_end(&mut code), stderr.read_to_end(&mut words));
        code_read.map_err(|e| format!("{program}: {e}"))?;
        let status = child.wait().await.map_err(|e| format!("{program}: {e}"))?;
        if status.success() {
            return Ok(code);
        }
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        Err(if words.is_empty() {
            format!("the compiler ended with {status}; limits.compile gives it more than {seconds} s")
        } else {
            words
        })
    };
    let wall = Duration::from_secs(seconds).saturating_mul(WALL_FACTOR);
    match tokio::time::timeout(wall, work).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "the compiler did not end within {wall:?}; limits.compile gives it more"
        )),
    }
}

/// Takes all files and all of TCP from this thread and those that it starts. False: the kernel cannot.
fn confine() -> Result<bool, String> {
    use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus};
    // No rule follows: what is handled is denied. What this kernel does not know is left out.
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(ABI::V5)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    let status = restricted.map_err(|e| format!("Landlock: {e}"))?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// What the configured `compile_command` does: a component on standard input, code on standard output. It first limits its own
/// processor time and memory.
pub fn compile_stdin_to_stdout() -> Result<(), String> {
    let limit = |resource, value| {
        setrlimit(
            resource,
            Rlimit {
                current: Some(value),
                maximum: Some(value),
            },
        )
        .map_err(|e| format!("limits: {e}"))
    };
    let seconds = std::env::var(SECONDS).ok().and_then(|s| s.parse().ok());
    limit(Resource::Cpu, seconds.unwrap_or(DEFAULT_SECONDS))?;
    limit(Resource::As, ADDRESS_SPACE)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    let mut source = Vec::new();
    let most = u64::try_from(MOST_COMPONENT).unwrap_or(u64::MAX);
    std::io::stdin()
        .lock()
        .take(most + 1)
        .read_to_end(&mut source)
        .map_err(|e| format!("standard input: {e}"))?;
    if source.len() > MOST_COMPONENT {
        return Err(format!("more than {MOST_COMPONENT} bytes"));
    }
    // All that it still has to do is to think and to answer.
    confine()?;
    let engine = Engine::new(&settings()).map_err(|e| chain(&e))?;
    let code = engine.precompile_component(&source).map_err(|e| chain(&e))?;
    std::io::stdout()
        .lock()
        .write_all(&code)
        .map_err(|e| format!("standard output: {e}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_confined_compiler_opens_nothing_and_still_compiles() {
        // Only this thread is confined, and it ends here.
        let worked = std::thread::spawn(|| {
            let engine = Engine::new(&settings()).unwrap();
            let confined = confine().unwrap();
            let opened = std::fs::File::open("/etc/passwd").is_ok();
            assert_eq!(opened, !confined);
            engine.precompile_component(b"\0asm\x0d\0\x01\0").is_ok()
        });
        assert!(worked.join().unwrap());
    }
}
