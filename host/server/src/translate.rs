//! WebSocket towards the client, SPDY towards the runtime: runtimes do not speak the newest protocols of clients (the kubelet
//! contract, node G1 rule 147).
//!
//! One task per stream, which reads and writes both connections at the same time. It ends when the runtime has said
//! everything, when the client is gone, when nothing moves for too long, or at shutdown.

use std::io;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tracing::debug;
use witlet_ports::Result;
use witlet_ports::runtime::Streams;

use crate::remote::TUNNEL;
use crate::reply::{self, Reply};
use crate::spdy::{self, Frame, Opener};
use crate::upgrade::{self, Hold, Upstream};
use crate::websocket::{self, Message, Reader};

/// The client's protocol in which the end of its input can be told.
pub(crate) const V5: &str = "v5.channel.k8s.io";
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Followed by the channel that ends.
const END: u8 = 255;
/// Frames that wait to be written, per direction.
const QUEUE: usize = 16;
const LAST_WORDS: Duration = Duration::from_secs(5);
const NORMAL: u16 = 1000;

/// Joins a client of the v5 protocol with the streams of a command or a process.
pub(crate) async fn remote_command(
    request: Request<Incoming>,
    url: &str,
    streams: Streams,
    hold: Hold,
) -> Result<Reply> {
    let Some(accepted) = websocket::accept(request.headers(), V5) else {
        return Ok(bad_handshake());
    };
    let (client, runtime) = match switch(request, url, "v4.channel.k8s.io").await? {
        Ok(pair) => pair,
        Err(refused) => return Ok(refused),
    };
    tokio::spawn(async move {
        if let Ok(client) = client.await {
            let session = Session::new(streams);
            let ended = session.run(TokioIo::new(client), TokioIo::new(runtime), &hold).await;
            if let Err(error) = ended {
                debug!(%error, "a stream into a container broke off");
            }
        }
    });
    Ok(upgrade::switched(accepted))
}

/// Joins a client that speaks SPDY within WebSocket messages with the ports of a pod.
pub(crate) async fn tunnel(request: Request<Incoming>, url: &str, hold: Hold) -> Result<Reply> {
    let Some(accepted) = websocket::accept(request.headers(), TUNNEL) else {
        return Ok(bad_handshake());
    };
    let (client, runtime) = match switch(request, url, "portforward.k8s.io").await? {
        Ok(pair) => pair,
        Err(refused) => return Ok(refused),
    };
    tokio::spawn(async move {
        if let Ok(client) = client.await {
            carry(TokioIo::new(client), TokioIo::new(runtime), &hold).await;
        }
    });
    Ok(upgrade::switched(accepted))
}

fn bad_handshake() -> Reply {
    reply::text(StatusCode::BAD_REQUEST, "this is no WebSocket request of version 13\n")
}

/// Has the runtime switch to SPDY, and the client's connection handed over once it is answered.
async fn switch(
    mut request: Request<Incoming>,
    url: &str,
    protocol: &'static str,
) -> Result<std::result::Result<(hyper::upgrade::OnUpgrade, Upgraded), Reply>> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    let client = hyper::upgrade::on(&mut request);
    Ok(match upgrade::ask(url, Method::POST, headers).await? {
        Upstream::Switched(_, runtime) => Ok((client, runtime)),
        Upstream::Refused(response) => Err(upgrade::pass(response)),
    })
}

/// The streams of one command: the channel of the client and the stream of the runtime.
struct Session {
    ids: Vec<(u8, u32)>,
    opening: Vec<u8>,
}

impl Session {
    fn new(wanted: Streams) -> Self {
        // In the order in which the runtime waits for them.
        let all = [
            (ERROR, "error", true),
            (STDIN, "stdin", wanted.stdin),
            (STDOUT, "stdout", wanted.stdout),
            (STDERR, "stderr", wanted.stderr),
            (RESIZE, "resize", wanted.tty),
        ];
        let (mut opener, mut ids, mut opening) = (Opener::default(), Vec::new(), Vec::new());
        for (channel, name, _) in all.into_iter().filter(|(_, _, wanted)| *wanted) {
            let (id, frame) = opener.open(&[("streamtype", name)]);
            ids.push((channel, id));
            opening.extend(frame);
        }
        Self { ids, opening }
    }

    fn id(&self, channel: u8) -> Option<u32> {
        self.ids.iter().find(|(c, _)| *c == channel).map(|(_, id)| *id)
    }

    fn channel(&self, id: u32) -> Option<u8> {
        self.ids.iter().find(|(_, i)| *i == id).map(|(channel, _)| *channel)
    }

    /// What a client's message says to the runtime. None if it says nothing to it.
    fn to_runtime(&self, message: &[u8]) -> Option<Vec<u8>> {
        match message {
            [END, channel, ..] if *channel == STDIN => Some(spdy::data(self.id(STDIN)?, &[], true)),
            [channel @ (STDIN | RESIZE), data @ ..] if !data.is_empty() => {
                Some(spdy::data(self.id(*channel)?, data, false))
            }
            _ => None,
        }
    }

    async fn run(
        self,
        client: impl AsyncRead + AsyncWrite,
        runtime: impl AsyncRead + AsyncWrite,
        hold: &Hold,
    ) -> io::Result<()> {
        let (client_in, client_out) = tokio::io::split(client);
        let (mut runtime_in, runtime_out) = tokio::io::split(runtime);
        let (to_client, client_queue) = mpsc::channel::<Message>(QUEUE);
        let (to_runtime, runtime_queue) = mpsc::channel::<Vec<u8>>(QUEUE);
        let (moved, last) = watch::channel(Instant::now());

        let from_client = async {
            to_runtime.send(self.opening.clone()).await.map_err(io::Error::other)?;
            let mut reader = Reader::new(client_in);
            loop {
                match reader.next().await? {
                    Some(Message::Data(data)) => {
                        if let Some(frame) = self.to_runtime(&data) {
                            to_runtime.send(frame).await.map_err(io::Error::other)?;
                        }
                    }
                    // Waiting here for a client that does not read could wait for ever; a ping may be lost.
                    Some(Message::Ping(data)) => drop(to_client.try_send(Message::Pong(data))),
                    Some(Message::Pong(_)) => {}
                    Some(Message::Close(_)) | None => return Ok(()),
                }
                moved.send_replace(Instant::now());
            }
        };
        let from_runtime = async {
            let mut open: Vec<u8> = self.ids.iter().map(|(channel, _)| *channel).collect();
            open.retain(|channel| matches!(*channel, STDOUT | STDERR | ERROR));
            while !open.is_empty() {
                let Some(frame) = spdy::read(&mut runtime_in).await? else {
                    break;
                };
                moved.send_replace(Instant::now());
                match frame {
                    Frame::Data { stream, data, last } => {
                        let Some(channel) = self.channel(stream) else { continue };
                        if !data.is_empty() {
                            let message = Message::Data([&[channel], &data[..]].concat());
                            to_client.send(message).await.map_err(io::Error::other)?;
                        }
                        if last {
                            open.retain(|c| *c != channel);
                        }
                    }
                    Frame::Reset(stream) => open.retain(|c| Some(*c) != self.channel(stream)),
                    Frame::Ping(id) => drop(to_runtime.try_send(spdy::pong(id))),
                    Frame::GoAway => break,
                    Frame::Other => {}
                }
            }
            to_client.send(Message::Close(NORMAL)).await.map_err(io::Error::other)
        };
        let writing = write_messages(client_queue, client_out);
        let feeding = write_frames(runtime_queue, runtime_out);
        tokio::pin!(writing);
        // Cancel-safe: whichever ends first ends the whole; only what is still to be told to the client is waited for.
        tokio::select! {
            ended = from_client => return ended,
            ended = from_runtime => ended?,
            ended = &mut writing => return ended,
            ended = feeding => return ended,
            () = upgrade::idle(last, hold.idle) => return Ok(()),
            () = hold.shutdown.cancelled() => return Ok(()),
        }
        drop(to_client);
        timeout(LAST_WORDS, writing).await.unwrap_or(Ok(()))
    }
}

/// Until the queue ends.
async fn write_messages(mut queue: mpsc::Receiver<Message>, mut out: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some(message) = queue.recv().await {
        websocket::write(&mut out, &message).await?;
    }
    out.shutdown().await
}

async fn write_frames(mut queue: mpsc::Receiver<Vec<u8>>, mut out: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some(frame) = queue.recv().await {
        out.write_all(&frame).await?;
        out.flush().await?;
    }
    Ok(())
}

/// Bytes within messages on one side, the same bytes alone on the other.
async fn carry(client: impl AsyncRead + AsyncWrite, runtime: impl AsyncRead + AsyncWrite, hold: &Hold) {
    let (client_in, client_out) = tokio::io::split(client);
    let (mut runtime_in, mut runtime_out) = tokio::io::split(runtime);
    let (to_client, queue) = mpsc::channel::<Message>(QUEUE);
    let (moved, last) = watch::channel(Instant::now());
    let from_client = async {
        let mut reader = Reader::new(client_in);
        loop {
            match reader.next().await? {
                Some(Message::Data(data)) => {
                    runtime_out.write_all(&data).await?;
                    runtime_out.flush().await?;
                }
                // As above.
                Some(Message::Ping(data)) => drop(to_client.try_send(Message::Pong(data))),
                Some(Message::Pong(_)) => {}
                Some(Message::Close(_)) | None => return Ok::<_, io::Error>(()),
            }
            moved.send_replace(Instant::now());
        }
    };
    let from_runtime = async {
        use tokio::io::AsyncReadExt;
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let length = runtime_in.read(&mut buffer).await?;
            let message = match length {
                0 => Message::Close(NORMAL),
                length => Message::Data(buffer[..length].to_vec()),
            };
            to_client.send(message).await.map_err(io::Error::other)?;
            moved.send_replace(Instant::now());
            if length == 0 {
                return Ok::<_, io::Error>(());
            }
        }
    };
    let writing = write_messages(queue, client_out);
    tokio::pin!(writing);
    // Cancel-safe, as above.
    let told = tokio::select! {
        ended = from_client => ended.map(|()| false),
        ended = from_runtime => ended.map(|()| true),
        ended = &mut writing => ended.map(|()| false),
        () = upgrade::idle(last, hold.idle) => Ok(false),
        () = hold.shutdown.cancelled() => Ok(false),
    };
    drop(to_client);
    match told {
        // What is left is written, then the close.
        Ok(true) => drop(timeout(LAST_WORDS, writing).await),
        Ok(false) => {}
        Err(error) => debug!(%error, "a port-forward broke off"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::sync::Semaphore;
    use tokio_util::sync::CancellationToken;

    use super::*;

    const ALL: Streams = Streams {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };

    fn hold() -> Hold {
        Hold {
            _slot: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
            shutdown: CancellationToken::new(),
            idle: Duration::from_secs(60),
        }
    }

    /// The far ends of a session of a command.
    fn session(streams: Streams) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<io::Result<()>>) {
        let ((client, near), (runtime, far)) = (duplex(1 << 20), duplex(1 << 20));
        let hold = hold();
        let task = tokio::spawn(async move { Session::new(streams).run(near, far, &hold).await });
        (client, runtime, task)
    }

    /// A client's message with a mask of zeros.
    async fn say(client: &mut DuplexStream, message: &[u8]) {
        let head = [0x82, 0x80 | message.len() as u8, 0, 0, 0, 0];
        client.write_all(&[&head[..], message].concat()).await.unwrap();
    }

    async fn next_data(runtime: &mut DuplexStream) -> Frame {
        loop {
            match spdy::read(runtime).await.unwrap().unwrap() {
                Frame::Other => {}
                frame => return frame,
            }
        }
    }

    #[tokio::test]
    async fn a_command_is_joined() {
        let (mut client, mut runtime, task) = session(ALL);
        say(&mut client, b"\0typed").await;
        say(&mut client, &[END, STDIN]).await;
        // Nobody may write to the others.
        say(&mut client, b"\x01forged").await;
        let of = |stream, data: &[u8], last| Frame::Data {
            stream,
            data: data.to_vec(),
            last,
        };
        assert_eq!(next_data(&mut runtime).await, of(3, b"typed", false));
        assert_eq!(next_data(&mut runtime).await, of(3, b"", true));

        runtime.write_all(&spdy::data(5, b"out", true)).await.unwrap();
        runtime.write_all(&spdy::data(7, b"err", true)).await.unwrap();
        runtime.write_all(&spdy::pong(9)).await.unwrap();
        assert_eq!(next_data(&mut runtime).await, Frame::Ping(9));
        runtime.write_all(&spdy::data(1, b"{}", false)).await.unwrap();
        runtime.write_all(&spdy::data(1, b"", true)).await.unwrap();
        task.await.unwrap().unwrap();
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"\x82\x04\x01out\x82\x04\x02err\x82\x03\x03{}\x88\x02\x03\xe8");
    }

    #[tokio::test]
    async fn a_client_that_is_gone_ends_the_command() {
        let (client, mut runtime, task) = session(ALL);
        drop(client);
        task.await.unwrap().unwrap();
        while spdy::read(&mut runtime).await.unwrap().is_some() {}
    }

    #[tokio::test]
    async fn a_terminal_has_a_size_and_no_stderr() {
        let terminal = Session::new(Streams {
            stderr: false,
            tty: true,
            ..ALL
        });
        assert_eq!(terminal.ids, [(ERROR, 1), (STDIN, 3), (STDOUT, 5), (RESIZE, 7)]);
        assert_eq!(terminal.to_runtime(b"\x04{}"), Some(spdy::data(7, b"{}", false)));
        assert_eq!(Session::new(ALL).to_runtime(b"\x04{}"), None);
    }

    #[tokio::test]
    async fn a_tunnel_carries_bytes() {
        let ((mut client, near), (mut runtime, far)) = (duplex(1 << 20), duplex(1 << 20));
        let hold = hold();
        let task = tokio::spawn(async move { carry(near, far, &hold).await });
        say(&mut client, b"hello ").await;
        say(&mut client, b"world").await;
        let mut heard = [0; 11];
        runtime.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello world");
        runtime.write_all(b"and back").await.unwrap();
        drop(runtime);
        task.await.unwrap();
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"\x82\x08and back\x88\x02\x03\xe8");
    }
}
