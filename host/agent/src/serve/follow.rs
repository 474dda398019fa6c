//! A log as a stream: to its end, or for as long as the container runs and over rotations (the kubelet contract, pod 11.7).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use inotify::{EventStream, Inotify, WatchMask};
use tokio::time::Instant;
use witlet_core::logs::LogOptions;
use witlet_core::observed::ContainerState;
use witlet_ports::Class;
use witlet_ports::runtime::Runtime;

use super::tail::{State, Step, Tail};

/// How often the runtime is asked whether the container still runs.
const CHECK: Duration = Duration::from_secs(1);
/// How often the file is looked at where the kernel has no watch to spare.
const POLL: Duration = Duration::from_millis(200);

/// Whether the container still writes.
pub(super) type Alive = Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// As the runtime says. One that is away says nothing about its containers.
pub(super) fn runs(runtime: Arc<dyn Runtime>, id: String) -> Alive {
    Box::new(move || {
        let (runtime, id) = (runtime.clone(), id.clone());
        async move {
            match runtime.container(&id).await {
                Ok(container) => container.state == ContainerState::Running,
                Err(error) => matches!(error.class, Class::Retry | Class::Timeout),
            }
        }
        .boxed()
    })
}

/// Errors end it and are its last words: the answer has begun before the file is opened.
pub(super) fn stream(alive: Alive, path: PathBuf, options: LogOptions) -> BoxStream<'static, Bytes> {
    let follower = Follower {
        alive,
        path,
        options,
        tail: None,
        watch: None,
        running: true,
        draining: false,
        checked: Instant::now(),
        ended: false,
    };
    stream::unfold(follower, |mut follower| async move {
        let bytes = match follower.next().await {
            Ok(bytes) => bytes?,
            Err(error) => {
                follower.ended = true;
                Bytes::from(error.to_string())
            }
        };
        Some((bytes, follower))
    })
    .boxed()
}

struct Follower {
    alive: Alive,
    path: PathBuf,
    options: LogOptions,
    /// Away while it reads.
    tail: Option<Tail>,
    watch: Option<EventStream<Vec<u8>>>,
    running: bool,
    /// Another file has taken the place of the one that is read; its last lines may have come after its end was seen.
    draining: bool,
    checked: Instant,
    ended: bool,
}

impl Follower {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while !self.ended {
            let step = self.step().await?;
            match step.state {
                State::More => {}
                State::Done => self.ended = true,
                State::AtEnd => {
                    if step.out.is_empty() {
                        self.at_end().await?;
                    }
                }
            }
            if !step.out.is_empty() {
                return Ok(Some(step.out.into()));
            }
        }
        Ok(None)
    }

    async fn step(&mut self) -> io::Result<Step> {
        let (tail, path, options) = (self.tail.take(), self.path.clone(), self.options.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let mut tail = match tail {
                Some(tail) => tail,
                None => Tail::open(&path, &options).map_err(|e| failed("open", &path, &e))?,
            };
            let step = tail.step(!options.follow).map_err(|e| failed("read", &path, &e))?;
            Ok::<_, io::Error>((tail, step))
        });
        let (tail, step) = reading.await.map_err(io::Error::other)??;
        self.tail = Some(tail);
        Ok(step)
    }

    /// Nothing more is there for now.
    async fn at_end(&mut self) -> io::Result<()> {
        if !self.options.follow {
            self.ended = true;
            return Ok(());
        }
        if self.watch.is_none() {
            self.watch = self.watch();
            if self.watch.is_some() {
                // What was written before the watch began is seen by the next look.
                return Ok(());
            }
        }
        let replaced = self.tail.as_ref().is_some_and(|t| t.replaced(&self.path));
        match (replaced, self.draining, &mut self.tail) {
            (true, false, _) => self.draining = true,
            (true, true, Some(tail)) => {
                self.draining = false;
                match tail.reopen(&self.path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("open", &self.path, &e)),
                    _ => {}
                }
            }
            _ if !self.running => self.ended = true,
            _ => self.wait().await,
        }
        Ok(())
    }

    async fn wait(&mut self) {
        let until = self.checked + CHECK;
        // Cancel-safe: an event says no more than that it is time to look.
        match &mut self.watch {
            Some(watch) => tokio::select! {
                _ = watch.next() => {}
                () = tokio::time::sleep_until(until) => {}
            },
            None => tokio::time::sleep(POLL).await,
        }
        if self.checked.elapsed() >= CHECK {
            self.running = (self.alive)().await;
            self.checked = Instant::now();
        }
    }

    /// None where the machine allows no more watches.
    fn watch(&self) -> Option<EventStream<Vec<u8>>> {
        let file = self.path.canonicalize().ok()?;
        let inotify = Inotify::init().ok()?;
        let events = WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO;
        inotify.watches().add(file.parent()?, events).ok()?;
        inotify.into_event_stream(vec![0; 4096]).ok()
    }
}

fn failed(what: &str, path: &std::path::Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("failed to {what} log file {:?}: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests;
