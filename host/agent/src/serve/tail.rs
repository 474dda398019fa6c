//! Reading one log file forward, in big blocks. Blocks; its callers run it where that harms nobody.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use witlet_core::logs::{Decoder, LogOptions, tail_start};

const BLOCK: usize = 256 * 1024;
/// Of the search for the last lines: most clients want few.
const TAIL_BLOCK: u64 = 64 * 1024;
/// Runtimes cut lines at 16 KiB. A file without line ends for so long is none of theirs.
const LONGEST_LINE: usize = 4 << 20;
/// What is handed on at a time, and how much is read for it where little of it is wanted.
const OUT: usize = 128 * 1024;
const READ: usize = 8 << 20;

/// What a step came to.
pub(super) struct Step {
    pub(super) out: Vec<u8>,
    pub(super) state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// There is more to read.
    More,
    /// At the file's end, as it was a moment ago.
    AtEnd,
    /// A limit was reached.
    Done,
}

pub(super) struct Tail {
    file: File,
    inode: (u64, u64),
    decoder: Decoder,
    /// The beginning is filled with what was not used yet.
    buffer: Vec<u8>,
    filled: usize,
}

impl Tail {
    pub(super) fn open(path: &Path, options: &LogOptions) -> io::Result<Self> {
        let mut file = File::open(path)?;
        if let Some(lines) = options.tail {
            let size = file.metadata()?.len();
            let read = |offset: u64, length: usize| {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, offset).map(|()| bytes)
            };
            let start = tail_start(size, lines, TAIL_BLOCK, read)?;
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(Self {
            inode: inode(&file.metadata()?),
            file,
            decoder: Decoder::new(options),
            buffer: vec![0; BLOCK],
            filled: 0,
        })
    }

    /// Whether another file stands in this one's place: the log was rotated.
    pub(super) fn replaced(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|m| inode(&m) != self.inode)
    }

    /// Goes on with the file that is there now.
    pub(super) fn reopen(&mut self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        self.inode = inode(&file.metadata()?);
        self.file = file;
        self.filled = 0;
        Ok(())
    }

    /// Reads on. `last`: nobody writes any more, so the file's end is the end of a line as well.
    pub(super) fn step(&mut self, last: bool) -> io::Result<Step> {
        let mut out = Vec::with_capacity(OUT + BLOCK / 2);
        let mut read = 0;
        while out.len() < OUT && read < READ {
            let got = self.file.read(&mut self.buffer[self.filled..])?;
            read += got;
            self.filled += got;
            let at_end = got == 0;
            let fed = self
                .decoder
                .feed(&self.buffer[..self.filled], at_end && last, &mut out)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            self.buffer.copy_within(fed.consumed..self.filled, 0);
            self.filled -= fed.consumed;
            if fed.done || at_end {
                let state = if fed.done { State::Done } else { State::AtEnd };
                return Ok(Step { out, state });
            }
            self.make_room();
        }
        Ok(Step {
            out,
            state: State::More,
        })
    }

    fn make_room(&mut self) {
        if self.filled < self.buffer.len() {
            return;
        }
        if self.filled >= LONGEST_LINE {
            self.filled = 0;
        } else {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }
}

fn inode(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
