//! Asking the runtime for everything it has of one pod.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use futures::future::try_join_all;
use witlet_core::ids::PodUid;
use witlet_core::observed::{Container, ContainerState, ObservedPod, Sandbox};
use witlet_ports::Result;
use witlet_ports::runtime::Runtime;

/// Limits of termination messages (contract/pod.md section 0).
const MESSAGE_FILE_BYTES: u64 = 4096;
const MESSAGE_LOG_BYTES: u64 = 2048;
const MESSAGE_LOG_LINES: usize = 80;

const ANNOTATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
const ANNOTATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";

/// One list and one status call per sandbox and container. Exited containers do not change any more: those in `known` are
/// taken from there.
pub async fn inspect(runtime: &dyn Runtime, uid: &PodUid, known: &ObservedPod) -> Result<ObservedPod> {
    let at = crate::clock::now();
    let (sandboxes, containers) = futures::try_join!(runtime.sandboxes(Some(uid)), runtime.containers(Some(uid)))?;
    let sandboxes = try_join_all(sandboxes.into_iter().map(|s| sandbox(runtime, s.id))).await?;
    let containers = try_join_all(containers.into_iter().map(|listed| async move {
        let old = known
            .containers
            .iter()
            .find(|c| c.id == listed.id && c.state == ContainerState::Exited);
        match old {
            Some(old) => Ok(Some(old.clone())),
            None => container(runtime, &listed.id).await,
        }
    }))
    .await?;
    let mut pod = ObservedPod {
        sandboxes: sandboxes.into_iter().flatten().collect(),
        containers: containers.into_iter().flatten().collect(),
        at: Some(at),
    };
    pod.sort();
    Ok(pod)
}

async fn sandbox(runtime: &dyn Runtime, id: String) -> Result<Option<Sandbox>> {
    absent_if_not_found(runtime.sandbox(&id).await)
}

/// A container as it is, with its termination message. None if it vanished meanwhile.
pub async fn container(runtime: &dyn Runtime, id: &str) -> Result<Option<Container>> {
    let mut found = absent_if_not_found(runtime.container(id).await)?;
    if let Some(c) = found.as_mut().filter(|c| c.state == ContainerState::Exited) {
        // Small local files: reading them here is cheaper than handing it to another thread.
        let text = termination_message(c);
        if !text.is_empty() {
            if !c.message.is_empty() {
                c.message.push_str(": ");
            }
            c.message.push_str(&text);
        }
    }
    Ok(found)
}

fn absent_if_not_found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

/// The kubelet contract, pod 5.6 rule 39.
fn termination_message(c: &Container) -> String {
    let path = c
        .annotations
        .get(ANNOTATION_MESSAGE_PATH)
        .map(String::as_str)
        .unwrap_or_default();
    if path.is_empty() {
        return String::new();
    }
    let file = c
        .mounts
        .iter()
        .find(|m| m.container_path == path)
        .map(|m| m.host_path.as_str());
    let text = file.map(|f| tail(Path::new(f), MESSAGE_FILE_BYTES)).unwrap_or_default();
    let fall_back = c
        .annotations
        .get(ANNOTATION_MESSAGE_POLICY)
        .is_some_and(|p| p == "FallbackToLogsOnError");
    if !text.is_empty() || !fall_back || c.exit_code == 0 || c.reason == "ContainerCannotRun" {
        return text;
    }
    log_tail(&tail(Path::new(&c.log_path), 4 * MESSAGE_LOG_BYTES + 80 * 64))
}

/// The last bytes of a file; empty if it cannot be read. Never follows a symlink that the container may have planted.
fn tail(path: &Path, limit: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let fd = rustix::fs::open(
            path,
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK,
            rustix::fs::Mode::empty(),
        )?;
        let mut file = std::fs::File::from(fd);
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(limit)))?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// The content of the last lines of a CRI log. A part of a line goes on in the next one, or ends without a line's end.
fn log_tail(raw: &str) -> String {
    let lines: Vec<&str> = raw.lines().filter(|line| line.splitn(4, ' ').count() == 4).collect();
    let mut text = String::new();
    for line in &lines[lines.len().saturating_sub(MESSAGE_LOG_LINES)..] {
        let mut fields = line.splitn(4, ' ').skip(2);
        let partial = fields.next().is_some_and(|tags| tags.split(':').next() == Some("P"));
        text.push_str(fields.next().unwrap_or_default());
        if !partial {
            text.push('\n');
        }
    }
    let mut start = text.len().saturating_sub(MESSAGE_LOG_BYTES as usize);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.split_off(start)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn log_tail_keeps_content_of_last_lines() {
        let raw: String = (0..100)
            .map(|i| format!("2026-01-01T00:00:00Z stdout F line {i}\n"))
            .collect();
        let tail = log_tail(&raw);
        assert!(tail.starts_with("line 20\n"), "{tail}");
        assert!(tail.ends_with("line 99\n"));
    }

    /// As of `echo -n`: nobody wrote an end of the line.
    #[test]
    fn log_tail_adds_no_ends_to_parts_of_lines() {
        let at = "2026-01-01T00:00:00Z stdout";
        assert_eq!(log_tail(&format!("{at} P DONE\n")), "DONE");
        let parts = format!("{at} F a\n{at} P b\n{at} P:x c\n{at} F d\n{at} F \n{at} P e f\n");
        assert_eq!(log_tail(&parts), "a\nbcd\n\ne f");
    }

    #[test]
    fn log_tail_is_bounded_and_cuts_at_characters() {
        let raw = format!("2026-01-01T00:00:00Z stdout F {}\n", "ä".repeat(3000));
        assert!(log_tail(&raw).len() <= MESSAGE_LOG_BYTES as usize);
    }

    /// The kubelet contract, pod 5.6 rule 39.
    #[test]
    fn of_a_message_file_the_end_is_read_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        std::fs::write(&file, format!("{}end", "x".repeat(10_000))).unwrap();
        let text = tail(&file, MESSAGE_FILE_BYTES);
        assert_eq!(text.len(), 4096);
        assert!(text.ends_with("xend"));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(tail(&link, MESSAGE_FILE_BYTES), "");
    }
}
