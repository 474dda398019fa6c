//! WASI for plugins that were built for it: clocks, randomness and a standard error that is logged. No files, no sockets, no
//! environment, no arguments: what a plugin may do beyond that, it is granted through witlet's own interfaces.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use super::log::{self, Level};
use crate::state::Plugin;

/// A line that has no end is cut here.
const MAX_LINE: usize = 4 << 10;

pub(crate) fn context(plugin: &Arc<Plugin>) -> WasiCtx {
    WasiCtx::builder()
        .stderr(Lines {
            plugin: Arc::clone(plugin),
        })
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

struct Lines {
    plugin: Arc<Plugin>,
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Stream {
            plugin: Arc::clone(&self.plugin),
            line: Vec::new(),
        })
    }
}

struct Stream {
    plugin: Arc<Plugin>,
    line: Vec<u8>,
}

impl Stream {
    fn end_line(&mut self) {
        if !self.line.is_empty() {
            let text = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            log::write(&self.plugin, Level::Info, text);
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        for &byte in data {
            if byte == b'\n' || self.line.len() >= MAX_LINE {
                self.end_line();
            }
            if byte != b'\n' {
                self.line.push(byte);
            }
        }
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.end_line();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end_line();
    }
}
