//! From the runtime's log file to what a client reads: a pure machine that is fed blocks of the file.
//!
//! Nothing is allocated per line of the CRI format: content is copied from the block to the output, and that is all.

use jiff::Timestamp;
use serde::Deserialize;

use super::options::{LogOptions, LogStreams};

/// The fraction digits of a printed timestamp.
const FRACTION: usize = 9;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Cri,
    DockerJson,
}

/// How far a block was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fed {
    /// Bytes of whole lines; the rest is to be fed again with more behind it.
    pub consumed: usize,
    /// Nothing more will come out: a limit is reached.
    pub done: bool,
}

/// The file's first line is of no format that is known.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("failed to get parse function: unsupported log format: {0:?}")]
pub struct UnknownFormat(pub String);

/// One record of the file.
struct Record<'a> {
    /// As written, checked as far as its shape goes.
    time: &'a [u8],
    stdout: bool,
    content: &'a [u8],
}

#[derive(Clone, Debug)]
pub struct Decoder {
    timestamps: bool,
    since: Option<Timestamp>,
    streams: LogStreams,
    /// Lines of the file still to be looked at.
    lines: Option<u64>,
    bytes: Option<u64>,
    format: Option<Format>,
    at_line_start: bool,
}

impl Decoder {
    pub fn new(options: &LogOptions) -> Self {
        Self {
            timestamps: options.timestamps,
            since: options.since,
            streams: options.streams,
            // Whoever follows wants what comes behind the last lines, too.
            lines: options.tail.filter(|_| !options.follow),
            bytes: options.limit_bytes,
            format: None,
            at_line_start: true,
        }
    }

    /// Appends to `out` what `block` says. `end`: nothing more is behind it, so a line without its end is a line.
    pub fn feed(&mut self, block: &[u8], end: bool, out: &mut Vec<u8>) -> Result<Fed, UnknownFormat> {
        let mut consumed = 0;
        loop {
            let done = self.lines == Some(0) || self.bytes == Some(0);
            let rest = &block[consumed..];
            let length = match memchr::memchr(b'\n', rest) {
                Some(at) => at + 1,
                None if end => rest.len(),
                None => 0,
            };
            if done || length == 0 {
                return Ok(Fed { consumed, done });
            }
            self.line(&rest[..length], out)?;
            consumed += length;
        }
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), UnknownFormat> {
        let format = match self.format {
            Some(format) => format,
            None => *self.format.insert(sniff(line)?),
        };
        match format {
            Format::Cri => {
                if let Some(record) = cri(line) {
                    self.write(&record, out);
                }
            }
            Format::DockerJson => {
                if let Ok(entry) = serde_json::from_slice::<DockerLine>(line) {
                    let record = Record {
                        time: entry.time.as_bytes(),
                        stdout: entry.stream == "stdout",
                        content: entry.log.as_bytes(),
                    };
                    if well_formed(record.time) {
                        self.write(&record, out);
                    }
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        if let Some(lines) = &mut self.lines {
            *lines -= 1;
        }
        let start = out.len();
        let wanted = match self.streams {
            LogStreams::All => true,
            LogStreams::Stdout => record.stdout,
            LogStreams::Stderr => !record.stdout,
        };
        if wanted
            && self
                .since
                .is_none_or(|since| moment(record.time).is_some_and(|t| t >= since))
        {
            if self.timestamps && self.at_line_start {
                write_time(record.time, out);
                out.push(b' ');
            }
            out.extend_from_slice(record.content);
            if let Some(left) = &mut self.bytes {
                let room = usize::try_from(*left).unwrap_or(usize::MAX);
                out.truncate(start.saturating_add(room));
                *left -= (out.len() - start) as u64;
            }
        }
        self.at_line_start = record.content.last().is_none_or(|b| *b == b'\n');
    }
}

#[derive(Deserialize)]
struct DockerLine {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    time: String,
}

fn sniff(line: &[u8]) -> Result<Format, UnknownFormat> {
    if cri(line).is_some() {
        return Ok(Format::Cri);
    }
    match serde_json::from_slice::<DockerLine>(line) {
        Ok(entry) if well_formed(entry.time.as_bytes()) => Ok(Format::DockerJson),
        _ => {
            let shown = &line[..line.len().min(256)];
            Err(UnknownFormat(String::from_utf8_lossy(shown).into_owned()))
        }
    }
}

/// `<time> <stream> <tag[:tag…]> <content>\n`. The line's end belongs to the content unless the record is a part of a line.
fn cri(line: &[u8]) -> Option<Record<'_>> {
    let (time, rest) = word(line)?;
    let (stream, rest) = word(rest)?;
    let (tags, content) = word(rest)?;
    let stdout = match stream {
        b"stdout" => true,
        b"stderr" => false,
        _ => return None,
    };
    let partial = tags == b"P" || tags.starts_with(b"P:");
    let content = match content {
        [start @ .., b'\n'] if partial => start,
        content => content,
    };
    well_formed(time).then_some(Record { time, stdout, content })
}

fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b' ', text)?;
    Some((&text[..at], &text[at + 1..]))
}

/// `2006-01-02T15:04:05[.fraction](Z|±07:00)`, without a look at the calendar.
fn well_formed(time: &[u8]) -> bool {
    const SHAPE: &[u8; 19] = b"0000-00-00T00:00:00";
    let Some((head, mut tail)) = time.split_at_checked(SHAPE.len()) else {
        return false;
    };
    let fits = |(is, shape): (&u8, &u8)| {
        if *shape == b'0' {
            is.is_ascii_digit()
        } else {
            is == shape
        }
    };
    if let [b'.', rest @ ..] = tail {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return false;
        }
        tail = &rest[digits..];
    }
    let zone = match tail {
        b"Z" => true,
        [b'+' | b'-', a, b, b':', c, d] => [a, b, c, d].iter().all(|x| x.is_ascii_digit()),
        _ => false,
    };
    zone && head.iter().zip(SHAPE).all(fits)
}

fn moment(time: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(time).ok()?.parse().ok()
}

/// A well-formed time with exactly nine fraction digits, in its own zone.
fn write_time(time: &[u8], out: &mut Vec<u8>) {
    let (head, tail) = time.split_at(19);
    out.extend_from_slice(head);
    let (fraction, zone) = match tail {
        [b'.', rest @ ..] => rest.split_at(rest.iter().take_while(|b| b.is_ascii_digit()).count()),
        _ => (&[][..], tail),
    };
    out.push(b'.');
    let kept = &fraction[..fraction.len().min(FRACTION)];
    out.extend_from_slice(kept);
    out.extend_from_slice(&b"000000000"[kept.len()..]);
    out.extend_from_slice(zone);
}

/// Where the last `lines` lines begin. `read` gives the bytes of a range of the file, which is `size` long.
pub fn tail_start<E>(
    size: u64,
    lines: u64,
    block: u64,
    mut read: impl FnMut(u64, usize) -> Result<Vec<u8>, E>,
) -> Result<u64, E> {
    let mut right = size;
    // The end of the last wanted line is one end too many.
    let mut left_to_find = lines.saturating_add(1);
    while right > 0 {
        let left = right.saturating_sub(block.max(1));
        let bytes = read(left, usize::try_from(right - left).unwrap_or(usize::MAX))?;
        for at in memchr::memrchr_iter(b'\n', &bytes) {
            left_to_find -= 1;
            if left_to_find == 0 {
                return Ok(left + at as u64 + 1);
            }
        }
        right = left;
    }
    Ok(0)
}
