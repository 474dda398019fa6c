//! `/logs/?query=…`: the journal's lines of services, or the file in which a service keeps its log (the kubelet's `NodeLogQuery`).

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::StatusCode;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use witlet_core::node_logs::{LogOptions, LogQuery, files_of, logs_to_journal};

use crate::files;
use crate::reply::{self, Reply};

/// For all that one query runs.
const LIMIT: Duration = Duration::from_secs(30);
/// At the same time: each reads the whole journal.
const AT_ONCE: usize = 4;
/// Of the list of units.
const UNITS: u64 = 4 << 20;
const BLOCK: usize = 64 * 1024;

/// Answers queries.
#[derive(Clone, Debug)]
pub struct Journal {
    program: PathBuf,
    slots: Arc<Semaphore>,
}

impl Default for Journal {
    fn default() -> Self {
        Self::at("/usr/bin/journalctl")
    }
}

impl Journal {
    /// With this program, which must be the journal's or act like it.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// What is below the directory `root`, or in the journal.
    pub(crate) async fn answer(&self, root: PathBuf, path: String, query: &[(String, String)]) -> Reply {
        let refused = |status, why: String| reply::text(status, why + "\n");
        let query = match LogQuery::parse(query) {
            Err(why) => return refused(StatusCode::BAD_REQUEST, why),
            Ok(None) => return files::answer(root, path).await,
            Ok(Some(_)) if !path.is_empty() => {
                return refused(StatusCode::NOT_ACCEPTABLE, "path not allowed in query mode".into());
            }
            Ok(Some(query)) => query,
        };
        if let Some(why) = query.problem() {
            return refused(StatusCode::NOT_ACCEPTABLE, why);
        }
        if let [file] = query.files.as_slice() {
            return files::answer(root, file.trim_start_matches('/').to_owned()).await;
        }
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            let why = "too many queries of the journal are under way; try again later";
            return refused(StatusCode::TOO_MANY_REQUESTS, why.into());
        };
        self.services(&root, &query, slot).await
    }

    async fn services(&self, root: &Path, query: &LogQuery, slot: OwnedSemaphorePermit) -> Reply {
        let deadline = Instant::now() + LIMIT;
        let units = timeout_at(deadline, self.units()).await.unwrap_or_default();
        let (journal, others): (Vec<_>, Vec<_>) = query
            .services
            .iter()
            .cloned()
            .partition(|service| logs_to_journal(&units, service));
        let mut parts: Vec<BoxStream<'static, Bytes>> = Vec::new();
        if !journal.is_empty() {
            parts.push(match self.start(&query.journalctl(&journal)) {
                Ok((child, output)) => lines(child, output, deadline),
                Err(error) => {
                    tracing::warn!(program = %self.program.display(), %error, "the journal cannot be asked");
                    said("\nerror: journal output not available\n".into())
                }
            });
        }
        if !others.is_empty() && query.options != LogOptions::default() {
            let others = others.join(" ");
            parts.push(said(format!(
                "\noptions present and query resolved to log files for [{others}]\ntry without specifying options\n"
            )));
        } else {
            for service in others {
                parts.push(of_files(root, &service).await);
            }
        }
        let all = futures::stream::iter(parts).flatten();
        reply::stream(
            all.map(move |chunk| {
                // Until the last byte is sent, or nobody wants it any more.
                let _held = &slot;
                chunk
            })
            .boxed(),
        )
    }

    /// The units that have lines in the journal; none if it cannot be asked.
    async fn units(&self) -> String {
        let words = ["--field".to_owned(), "_SYSTEMD_UNIT".to_owned()];
        let Ok((mut child, output)) = self.start(&words) else {
            return String::new();
        };
        let mut text = Vec::new();
        let read = output.take(UNITS).read_to_end(&mut text).await;
        match (read, child.wait().await) {
            (Ok(_), Ok(status)) if status.success() => String::from_utf8_lossy(&text).into_owned(),
            _ => String::new(),
        }
    }

    /// What it says and what it complains of, in one stream.
    fn start(&self, words: &[String]) -> io::Result<(Child, Receiver)> {
        let (output, input) = io::pipe()?;
        let child = Command::new(&self.program)
            .args(words)
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(input.try_clone()?)
            .stderr(input)
            .kill_on_drop(true)
            .spawn()?;
        Ok((child, Receiver::from_owned_fd(output.into())?))
    }
}

fn said(text: String) -> BoxStream<'static, Bytes> {
    futures::stream::once(async { Bytes::from(text) }).boxed()
}

/// Ends at the deadline at the latest; the program ends with the stream.
fn lines(child: Child, output: Receiver, deadline: Instant) -> BoxStream<'static, Bytes> {
    futures::stream::unfold((child, output), move |(child, mut output)| async move {
        let mut block = vec![0; BLOCK];
        let length = timeout_at(deadline, output.read(&mut block)).await.ok()?.ok()?;
        block.truncate(length);
        (length > 0).then(|| (Bytes::from(block), (child, output)))
    })
    .boxed()
}

/// The first of the files in which the service may keep its log.
async fn of_files(root: &Path, service: &str) -> BoxStream<'static, Bytes> {
    for path in files_of(service) {
        match files::open(root.to_owned(), path).await {
            Ok(Some(chunks)) => return chunks,
            Ok(None) => {}
            Err(error) => return said(format!("\nerror getting log for {service}: {error}\n")),
        }
    }
    said(format!("\nlog not found for {service}\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use http_body_util::BodyExt;

    use super::*;
    use crate::query;

    /// A journal that knows two units, says how it was called, and complains. It is not written by the tests: a program that is
    /// being written cannot be run.
    const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/journalctl");

    struct Node {
        dir: tempfile::TempDir,
        journal: Journal,
    }

    impl Node {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("log/nginx")).unwrap();
            fs::write(dir.path().join("log/nginx/nginx.log"), "of nginx\n").unwrap();
            fs::write(dir.path().join("log/syslog"), "of the system\n").unwrap();
            fs::write(dir.path().join("secret"), "outside").unwrap();
            let journal = Journal::at(PROGRAM);
            Self { dir, journal }
        }

        async fn ask(&self, path: &str, text: &str) -> (u16, String) {
            let root = self.dir.path().join("log");
            let reply = self.journal.answer(root, path.into(), &query::parse(text)).await;
            let status = reply.status().as_u16();
            let body = reply.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        }
    }

    #[tokio::test]
    async fn the_journal_is_asked_in_its_own_words() {
        let node = Node::new();
        let (status, text) = node.ask("", "query=kubelet&tailLines=3&pattern=a%3B+%24%28b%29").await;
        assert_eq!(status, 200);
        let words = "<--utc>\n<--no-pager>\n<--output=short-precise>\n<--pager-end>\n<--lines=3>\n<--unit=kubelet>\n<--grep=a; $(b)>\n";
        assert_eq!(text, format!("{words}complaint\n"));
    }

    #[tokio::test]
    async fn other_services_have_files() {
        let node = Node::new();
        for (query, status, part) in [
            ("query=nginx", 200, "of nginx\n"),
            ("query=syslog", 200, "of the system\n"),
            ("query=nothing", 200, "\nlog not found for nothing\n"),
            ("query=kubelet&query=syslog", 200, "complaint\nof the system\n"),
            (
                "query=nginx&tailLines=1",
                200,
                "\noptions present and query resolved to log files for [nginx]\ntry without specifying options\n",
            ),
            ("query=/syslog", 200, "of the system\n"),
            ("query=/nothing", 404, "404 page not found\n"),
            ("query=/../secret", 404, "404 page not found\n"),
            ("query=..", 200, "\nlog not found for ..\n"),
            ("query=%20", 400, "query cannot be empty\n"),
            ("query=a%2Fb&tailLines=1", 406, "cannot specify file with options\n"),
            ("query=a%20b", 406, "input contains unsupported characters\n"),
            ("query=--file%3Dx", 406, "input contains unsupported characters\n"),
            ("", 200, "syslog"),
        ] {
            let (got, text) = node.ask("", query).await;
            assert_eq!(got, status, "{query}: {text}");
            assert!(text.contains(part), "{query}: {text}");
        }
        assert_eq!(node.ask("syslog", "").await.0, 200);
        let (status, text) = node.ask("syslog", "query=kubelet").await;
        assert_eq!((status, text.as_str()), (406, "path not allowed in query mode\n"));
    }

    #[tokio::test]
    async fn a_machine_without_a_journal_has_files() {
        let mut node = Node::new();
        node.journal = Journal::at("/nowhere/journalctl");
        assert_eq!(node.ask("", "query=kubelet").await.1, "\nlog not found for kubelet\n");
        assert_eq!(node.ask("", "query=syslog").await.1, "of the system\n");
    }
}
