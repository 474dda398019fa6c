//! A TCP connection whose end does not hold up the thread that drops it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How long the kernel tries to deliver what was written, when the socket is closed.
const LINGER: Duration = Duration::from_secs(1);

/// With SO_LINGER set, closing waits for the other side, if it is silent for the whole second. A guest's thread has better to
/// do.
pub(crate) struct Socket(Option<TcpStream>);

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        rustix::net::sockopt::set_socket_linger(&stream, Some(LINGER))?;
        Ok(Self(Some(stream)))
    }

    #[cfg(test)]
    pub(crate) fn stream(&self) -> Option<&TcpStream> {
        self.0.as_ref()
    }

    fn get(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        // It is only taken when this is dropped.
        self.get_mut()
            .0
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(Ok(stream)) = self.0.take().map(TcpStream::into_std) else {
            return;
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(stream))),
            Err(_) => drop(stream),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.get()?.poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get()?.poll_shutdown(cx)
    }
}
