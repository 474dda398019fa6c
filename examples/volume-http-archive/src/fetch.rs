//! The bytes from the server: counted, hashed, and unpacked if they are compressed.

use std::fmt::Write;
use std::io::{self, Read};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use witlet_sdk::http::Body;
use witlet_sdk::{Error, Result};

use crate::Limits;

const PIECE: u32 = 256 << 10;

pub(crate) struct Fetched<'a, B> {
    body: B,
    url: &'a str,
    timeout: Duration,
    /// The most that may come, and what came.
    limit: u64,
    count: u64,
    hash: Sha256,
    /// Received and not yet read.
    piece: Vec<u8>,
    at: usize,
    ended: bool,
    /// Why there is no more: readers see only that.
    error: Option<Error>,
}

impl<'a, B: Body> Fetched<'a, B> {
    pub(crate) fn new(body: B, limits: Limits, url: &'a str) -> Result<Self> {
        if body.status() != 200 {
            return Err(Error::Unavailable(format!(
                "GET {url}: the server answers {}",
                body.status()
            )));
        }
        Ok(Self {
            body,
            url,
            timeout: limits.timeout(),
            limit: limits.max_bytes,
            count: 0,
            hash: Sha256::new(),
            piece: Vec::new(),
            at: 0,
            ended: false,
            error: None,
        })
    }

    /// Makes sure that there is something to read, unless it is all over.
    fn fill(&mut self) -> Result<()> {
        while self.at == self.piece.len() && !self.ended {
            let piece = self.body.read(PIECE, self.timeout)?;
            self.ended = piece.is_empty();
            self.count = self.count.saturating_add(piece.len() as u64);
            if self.count > self.limit {
                return Err(Error::Failed(format!(
                    "GET {}: more than {} bytes",
                    self.url, self.limit
                )));
            }
            self.hash.update(&piece);
            self.piece = piece;
            self.at = 0;
        }
        Ok(())
    }

    /// The archive itself; a compressed file says so in its first bytes.
    pub(crate) fn decoded(&mut self) -> Result<Box<dyn Read + '_>> {
        self.fill()?;
        // Pieces may be as small as the server likes.
        while self.piece.len() < 2 && !self.ended {
            let mut first = std::mem::take(&mut self.piece);
            self.at = 0;
            self.fill()?;
            first.append(&mut self.piece);
            self.piece = first;
        }
        if self.piece.starts_with(&[0x1f, 0x8b]) {
            return Ok(Box::new(MultiGzDecoder::new(self)));
        }
        Ok(Box::new(self))
    }

    /// Takes what is left, and gives the digest of everything.
    pub(crate) fn finish(mut self) -> Result<String> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        loop {
            self.at = self.piece.len();
            self.fill()?;
            if self.ended {
                break;
            }
        }
        let mut text = String::new();
        for byte in self.hash.finalize() {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Ok(text)
    }
}

impl<B: Body> Read for Fetched<'_, B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Err(error) = self.fill() {
            self.error = Some(error);
            return Err(io::Error::other("the transfer broke off"));
        }
        let rest = self.piece.get(self.at..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        Ok(n)
    }
}
