//! The server's side of WebSocket (RFC 6455), as much as Kubernetes' streams use of it.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Clients of Kubernetes send 32 KiB at a time.
const LONGEST: usize = 4 << 20;
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const CONTINUED: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    Data(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// With its code.
    Close(u16),
}

/// What answers an upgrade: the protocol that was chosen, and the proof that the request was understood.
pub(crate) fn accept(request: &HeaderMap, protocol: &str) -> Option<HeaderMap> {
    let key = request.get(header::SEC_WEBSOCKET_KEY)?;
    if request.get(header::SEC_WEBSOCKET_VERSION)? != "13" {
        return None;
    }
    let mut hashed = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    hashed.update(key.as_bytes());
    hashed.update(GUID);
    let proof = STANDARD.encode(hashed.finish());
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, proof.parse().ok()?);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.parse().ok()?);
    Some(headers)
}

/// Reads a client's messages. Parts of one are put together; control frames may come between them.
pub(crate) struct Reader<R> {
    from: R,
    pending: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            pending: Vec::new(),
        }
    }

    /// None when the connection ends.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Message>> {
        loop {
            let mut head = [0; 2];
            match self.from.read_exact(&mut head).await {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                other => other?,
            };
            let (last, opcode) = (head[0] & 0x80 != 0, head[0] & 0x0f);
            if head[0] & 0x70 != 0 || head[1] & 0x80 == 0 {
                return Err(wrong("an unmasked frame, or an extension that was not agreed on"));
            }
            let length = match head[1] & 0x7f {
                126 => u64::from(self.from.read_u16().await?),
                127 => self.from.read_u64().await?,
                short => u64::from(short),
            };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > LONGEST - self.pending.len().min(LONGEST) {
                return Err(wrong("a message that is too long"));
            }
            let mut mask = [0; 4];
            self.from.read_exact(&mut mask).await?;
            let mut payload = vec![0; length];
            self.from.read_exact(&mut payload).await?;
            for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
                *byte ^= key;
            }
            match opcode {
                CONTINUED | TEXT | BINARY => {
                    if self.pending.is_empty() {
                        self.pending = payload;
                    } else {
                        self.pending.append(&mut payload);
                    }
                    if last {
                        return Ok(Some(Message::Data(std::mem::take(&mut self.pending))));
                    }
                }
                CLOSE => {
                    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    return Ok(Some(Message::Close(code)));
                }
                PING => return Ok(Some(Message::Ping(payload))),
                PONG => return Ok(Some(Message::Pong(payload))),
                _ => return Err(wrong("a frame of an unknown kind")),
            }
        }
    }
}

/// Writes a message in one frame.
pub(crate) async fn write(to: &mut (impl AsyncWrite + Unpin), message: &Message) -> io::Result<()> {
    let code;
    let (opcode, payload) = match message {
        Message::Data(data) => (BINARY, data.as_slice()),
        Message::Ping(data) => (PING, data.as_slice()),
        Message::Pong(data) => (PONG, data.as_slice()),
        Message::Close(number) => {
            code = number.to_be_bytes();
            (CLOSE, &code[..])
        }
    };
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(0x80 | opcode);
    match u16::try_from(payload.len()) {
        Ok(short @ 0..=125) => frame.push(short as u8),
        Ok(medium) => {
            frame.push(126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
        Err(_) => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    to.write_all(&frame).await?;
    to.flush().await
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the client sent {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..=125 => frame.push(0x80 | short as u8),
            medium @ 126..=65535 => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(medium as u16).to_be_bytes());
            }
            long => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, k)| b ^ k));
        frame
    }

    async fn read(bytes: &[u8]) -> io::Result<Vec<Message>> {
        let mut reader = Reader::new(bytes);
        let mut all = Vec::new();
        while let Some(message) = reader.next().await? {
            all.push(message);
        }
        Ok(all)
    }

    #[test]
    fn the_example_of_the_rfc() {
        let mut request = HeaderMap::new();
        request.insert("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
        assert_eq!(accept(&request, "p"), None);
        request.insert("sec-websocket-version", "13".parse().unwrap());
        let headers = accept(&request, "v5.channel.k8s.io").unwrap();
        assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(headers["sec-websocket-protocol"], "v5.channel.k8s.io");
    }

    #[tokio::test]
    async fn messages_are_put_together() {
        let long = vec![7; 70_000];
        let medium = vec![8; 200];
        let bytes = [
            frame(0x02, b"he"),
            frame(0x89, b"?"),
            frame(0x80, b"llo"),
            frame(0x82, &long),
            frame(0x81, &medium),
            frame(0x88, &[3, 232]),
        ]
        .concat();
        let expected = [
            Message::Ping(b"?".to_vec()),
            Message::Data(b"hello".to_vec()),
            Message::Data(long),
            Message::Data(medium),
            Message::Close(1000),
        ];
        assert_eq!(read(&bytes).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn what_breaks_the_rules_is_an_error() {
        let unmasked = [0x82, 1, 0];
        let too_long = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes()].concat();
        for bytes in [
            &unmasked[..],
            &too_long,
            &frame(0x83, b""),
            &frame(0xc2, b""),
            &[0x82, 0x85, 1],
        ] {
            assert!(read(bytes).await.is_err(), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn frames_are_written_with_every_length() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let mut out = Vec::new();
            write(&mut out, &Message::Data(vec![1; length])).await.unwrap();
            let head = out.len() - length;
            assert_eq!(
                (out[0], head),
                (
                    0x82,
                    if length < 126 {
                        2
                    } else if length < 65_536 {
                        4
                    } else {
                        10
                    }
                )
            );
        }
    }
}
