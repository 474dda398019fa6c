//! TLS towards containers, unverified: a pod's certificate is for its service's name, not for its address.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PLAIN: &[u8] = b"HTTP/";

pub(super) enum Failed {
    /// The other side answered in plain HTTP.
    Plain,
    Tls(String),
}

pub(super) async fn connect(stream: TcpStream, host: &str) -> Result<TlsStream<Watched>, Failed> {
    let config = witlet_net::unverified().map_err(|e| Failed::Tls(e.to_string()))?;
    let server = ServerName::try_from(host.to_owned()).map_err(|e| Failed::Tls(e.to_string()))?;
    let connecting = TlsConnector::from(Arc::new(config))
        .connect(
            server,
            Watched {
                stream,
                first: Vec::new(),
            },
        )
        .into_fallible();
    connecting.await.map_err(|(error, watched)| {
        if watched.first == PLAIN {
            Failed::Plain
        } else {
            Failed::Tls(error.to_string())
        }
    })
}

/// Keeps what the other side said first.
pub(super) struct Watched {
    stream: TcpStream,
    first: Vec<u8>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let missing = PLAIN.len().saturating_sub(self.first.len());
        let new = &buf.filled()[before..];
        self.first.extend_from_slice(&new[..new.len().min(missing)]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
