//! The client's side of SPDY/3.1, as much as the runtime's streaming server needs: a few streams that we open, and their data.
//!
//! Headers go out in stored blocks, which every inflater reads; those of answers say nothing and are not read. There is no flow
//! control: neither end of Kubernetes' streams has one.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The protocol's own limit is 16 MiB; runtimes send 32 KiB at a time.
const LONGEST: usize = 16 << 20;
const VERSION: u16 = 0x8003;
const SYN_STREAM: u16 = 1;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Frame {
    Data {
        stream: u32,
        data: Vec<u8>,
        last: bool,
    },
    /// A stream ends at once.
    Reset(u32),
    Ping(u32),
    GoAway,
    /// Nothing that matters here.
    Other,
}

/// Opens streams; the headers of all of them are one compressed stream.
#[derive(Default)]
pub(crate) struct Opener {
    opened: u32,
}

impl Opener {
    /// The new stream's id and the frame that opens it.
    pub(crate) fn open(&mut self, headers: &[(&str, &str)]) -> (u32, Vec<u8>) {
        let id = self.opened * 2 + 1;
        let mut block = Vec::new();
        let number = |block: &mut Vec<u8>, n: usize| block.extend_from_slice(&(n as u32).to_be_bytes());
        number(&mut block, headers.len());
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            number(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
        let mut payload = Vec::new();
        payload.extend_from_slice(&id.to_be_bytes());
        // No associated stream, the highest priority.
        payload.extend_from_slice(&[0; 6]);
        if self.opened == 0 {
            // zlib's header.
            payload.extend_from_slice(&[0x78, 0x01]);
        }
        // Headers of ours are short: one block takes them. The empty one behind it makes the reader hand it over.
        for part in [&block[..], &[]] {
            let length = part.len() as u16;
            payload.push(0);
            payload.extend_from_slice(&length.to_le_bytes());
            payload.extend_from_slice(&(!length).to_le_bytes());
            payload.extend_from_slice(part);
        }
        self.opened += 1;
        (id, control(SYN_STREAM, &payload))
    }
}

fn control(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 8);
    frame.extend_from_slice(&VERSION.to_be_bytes());
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(&(payload.len() as u32 & 0x00ff_ffff).to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A frame of data, which must be shorter than 16 MiB. `last`: nothing more comes on the stream.
pub(crate) fn data(stream: u32, data: &[u8], last: bool) -> Vec<u8> {
    let mut frame = Vec::with_capacity(data.len() + 8);
    frame.extend_from_slice(&stream.to_be_bytes());
    let flags = if last { u32::from(FIN) << 24 } else { 0 };
    frame.extend_from_slice(&(flags | (data.len() as u32 & 0x00ff_ffff)).to_be_bytes());
    frame.extend_from_slice(data);
    frame
}

/// The answer to a ping is the same ping.
pub(crate) fn pong(id: u32) -> Vec<u8> {
    control(PING, &id.to_be_bytes())
}

/// The next frame. None when the connection ends.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let mut head = [0; 8];
    match from.read_exact(&mut head).await {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let [a, b, c, d, flags, rest @ ..] = head;
    let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await?;
    let first = payload.first_chunk().map_or(0, |id| u32::from_be_bytes(*id));
    if a & 0x80 == 0 {
        return Ok(Some(Frame::Data {
            stream: u32::from_be_bytes([a, b, c, d]),
            data: payload,
            last: flags & FIN != 0,
        }));
    }
    Ok(Some(match u16::from_be_bytes([c, d]) {
        RST_STREAM => Frame::Reset(first & 0x7fff_ffff),
        PING => Frame::Ping(first),
        GOAWAY => Frame::GoAway,
        _ => Frame::Other,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn streams_are_opened_one_by_one() {
        let mut opener = Opener::default();
        let (first, frame) = opener.open(&[("streamtype", "error")]);
        let headers = b"\0\0\0\x01\0\0\0\x0astreamtype\0\0\0\x05error";
        assert_eq!(headers.len(), 27);
        let expected = [
            &[0x80, 3, 0, 1, 0, 0, 0, 49][..],
            &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
            &[0x78, 0x01, 0, 27, 0, !27, 0xff],
            headers,
            &[0, 0, 0, 0xff, 0xff],
        ]
        .concat();
        assert_eq!((first, frame), (1, expected));
        let (second, frame) = opener.open(&[]);
        assert_eq!((second, &frame[8..12]), (3, &[0, 0, 0, 3][..]));
        assert_ne!(frame[18], 0x78, "zlib's header comes once");
    }

    #[tokio::test]
    async fn frames_are_read() {
        let bytes = [
            data(3, b"out", false),
            control(2, &[0, 0, 0, 1, 9, 9]),
            control(RST_STREAM, &[0, 0, 0, 5, 0, 0, 0, 1]),
            pong(7),
            control(GOAWAY, &[]),
            data(1, b"", true),
        ]
        .concat();
        let mut from = &bytes[..];
        let mut frames = Vec::new();
        while let Some(frame) = read(&mut from).await.unwrap() {
            frames.push(frame);
        }
        let of = |stream, data: &[u8], last| Frame::Data {
            stream,
            data: data.to_vec(),
            last,
        };
        assert_eq!(
            frames,
            [
                of(3, b"out", false),
                Frame::Other,
                Frame::Reset(5),
                Frame::Ping(7),
                Frame::GoAway,
                of(1, b"", true)
            ]
        );
        assert!(read(&mut &bytes[..10]).await.is_err(), "a frame that is cut off");
    }
}
