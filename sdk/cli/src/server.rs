//! What a plugin talks to in a test: something on this machine that reads, and gives one prepared answer after the other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Enough to look at.
const MOST: usize = 1 << 20;

pub(crate) struct Server {
    pub(crate) port: u16,
    received: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(received: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    /// On each connection: each answer after something was read, then the end.
    pub(crate) async fn start(replies: Vec<String>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let port = listener.local_addr()?.port();
        let received = Arc::default();
        let kept = Arc::clone(&received);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, &replies, &kept).await;
            }
        });
        Ok(Self { port, received, task })
    }

    /// All that came, as text.
    pub(crate) fn received(&self) -> String {
        String::from_utf8_lossy(&lock(&self.received)).into_owned()
    }
}

/// A request of HTTP has a head, and a body as long as the head says. Of anything else, what comes at once is one.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    if !["GET ", "POST ", "PUT "].iter().any(|method| text.starts_with(method)) {
        return !request.is_empty();
    }
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    body.len() >= length.unwrap_or(0)
}

fn keep(received: &Mutex<Vec<u8>>, request: &[u8]) {
    let mut all = lock(received);
    if all.len() < MOST {
        all.extend_from_slice(request);
    }
}

async fn serve(mut stream: TcpStream, replies: &[String], received: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 64 << 10];
    for reply in replies {
        let mut request = Vec::new();
        while !is_whole(&request) {
            match stream.read(&mut buffer).await {
                Ok(n) if n > 0 && request.len() < MOST => request.extend_from_slice(&buffer[..n]),
                _ => return,
            }
        }
        keep(received, &request);
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_end() {
        for (text, whole) in [
            ("", false),
            ("PING\r\n", true),
            ("GET / HTTP/1.1\r\n", false),
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", false),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", true),
        ] {
            assert_eq!(is_whole(text.as_bytes()), whole, "{text:?}");
        }
    }
}
