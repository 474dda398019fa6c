//! Following log files over their rotation.
//!
//! A log is one stream of bytes that lies in several files: those that were rotated away, by the moment in their names, and the
//! one that is written to. A [`Position`] in the stream is good whatever happens to the files: renamed, compressed, or removed,
//! in which case what they held is lost and reading goes on with the next.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use tracing::warn;
use witlet_core::rotation::{COMPRESSED, stamp};
use witlet_ports::sink::{LogEntry, OutputStream};

use super::position::{Position, Positions};

const BATCH_LINES: usize = 512;
const BATCH_BYTES: usize = 512 * 1024;
const READ_BYTES: u64 = 256 * 1024;
/// A longer line is no log line.
const LONGEST_LINE: u64 = 16 << 20;
/// How much of a file's beginning tells it from others: the time of its first line is in it.
const BEGIN: u64 = 64;
/// The runtime may write to a file for a moment after it was rotated away.
const SETTLED: Duration = Duration::from_secs(2);

/// Every log, and how far it was read.
pub(super) struct Tailer {
    dir: PathBuf,
    /// From an earlier run; taken by the logs as they are found. None: this is the first run.
    known: Option<Positions>,
    pub(super) files: HashMap<PathBuf, Tail>,
}

pub(super) struct Tail {
    path: PathBuf,
    template: LogEntry,
    /// Names and moments of the rotated files, oldest first.
    rotated: Vec<(String, String)>,
    at: Position,
    /// Lines that the runtime split, as far as they were read: of standard output and of standard error.
    partial: [Partial; 2],
}

#[derive(Clone, Default)]
struct Partial {
    text: String,
    /// Where it begins.
    from: Option<Position>,
}

/// What comes next, and what holds once it was taken.
pub(super) struct Batch {
    pub(super) entries: Vec<LogEntry>,
    /// There is more behind it.
    pub(super) more: bool,
    /// Something before it was removed unread.
    pub(super) gap: bool,
    next: Position,
    partial: [Partial; 2],
}

impl Tailer {
    pub(super) fn new(dir: PathBuf, known: Option<Positions>) -> Self {
        Self {
            dir,
            known,
            files: HashMap::new(),
        }
    }

    /// Finds new logs and forgets removed ones. What is there when a sink is fed for the first time was logged before.
    pub(super) fn scan(&mut self) {
        let mut found = find(&self.dir);
        self.files.retain(|path, tail| match found.remove(path) {
            Some(rotated) => {
                tail.rotated = rotated;
                true
            }
            None => false,
        });
        let first = self.known.is_none();
        let known = self.known.get_or_insert_default();
        for (path, rotated) in found {
            let Some(template) = template(&self.dir, &path) else {
                continue;
            };
            let at = match known.remove(&key(&self.dir, &path)) {
                Some(position) => position,
                None if first => end(&path, &rotated),
                None => Position::default(),
            };
            let tail = Tail {
                path: path.clone(),
                template,
                rotated,
                at,
                partial: Default::default(),
            };
            self.files.insert(path, tail);
        }
        // Those of logs that are gone.
        known.clear();
    }

    /// Bytes on disk that were not taken yet.
    pub(super) fn waiting(&self) -> u64 {
        self.files.values().map(Tail::waiting).sum()
    }

    pub(super) fn positions(&self) -> Positions {
        let of = |tail: &Tail| (key(&self.dir, &tail.path), tail.resume());
        self.files.values().map(of).collect()
    }
}

fn key(dir: &Path, path: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).to_string_lossy().into_owned()
}

/// Behind everything that is there.
fn end(path: &Path, rotated: &[(String, String)]) -> Position {
    let file = File::open(path).and_then(|file| Ok((file.metadata()?.len(), begin(file)?)));
    let (offset, begin) = file.unwrap_or_default();
    Position {
        done: rotated.last().map(|(_, stamp)| stamp.clone()),
        offset,
        begin,
    }
}

fn begin(file: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(BEGIN).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A file of the log.
struct Source {
    path: PathBuf,
    /// Of a rotated one.
    stamp: Option<String>,
    /// Nothing will be written to it any more.
    settled: bool,
}

impl Source {
    fn open(&self) -> io::Result<Box<dyn Read>> {
        let file = File::open(&self.path)?;
        Ok(if self.is_compressed() {
            Box::new(MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        })
    }

    fn is_compressed(&self) -> bool {
        self.path.to_str().is_some_and(|p| p.ends_with(COMPRESSED))
    }

    fn read(&self, from: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if self.is_compressed() {
            let mut reader = self.open()?;
            io::copy(&mut reader.by_ref().take(from), &mut io::sink())?;
            reader.take(length).read_to_end(&mut bytes)?;
        } else {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(from))?;
            file.take(length).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }
}

impl Tail {
    fn waiting(&self) -> u64 {
        let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
        let after = |(_, stamp): &&(String, String)| self.at.done.as_ref().is_none_or(|done| stamp > done);
        let rotated = self
            .rotated
            .iter()
            .filter(after)
            .map(|(name, _)| size(&self.path.with_file_name(name)));
        let all: u64 = rotated.sum::<u64>() + size(&self.path);
        all.saturating_sub(self.at.offset)
    }

    /// Where to go on after a restart: before the lines of which only the beginning was read.
    fn resume(&self) -> Position {
        let partial = self.partial.iter().filter_map(|p| p.from.as_ref());
        partial.chain([&self.at]).min().cloned().unwrap_or_default()
    }

    pub(super) fn commit(&mut self, batch: Batch) {
        self.at = batch.next;
        self.partial = batch.partial;
    }

    /// The next batch. The same one again until it is committed.
    pub(super) fn read(&self) -> io::Result<Batch> {
        let mut batch = Batch {
            entries: Vec::new(),
            more: false,
            gap: false,
            next: self.at.clone(),
            partial: self.partial.clone(),
        };
        loop {
            let source = self.source(&batch.next);
            if !self.recognise(&source, &mut batch)? {
                return Ok(batch);
            }
            let bytes = read_lines(&source, batch.next.offset)?;
            if bytes.is_empty() {
                match source.stamp {
                    // This file is done; on with the next one.
                    Some(stamp) if source.settled => {
                        batch.next = Position {
                            done: Some(stamp),
                            ..Position::default()
                        };
                        continue;
                    }
                    _ => return Ok(batch),
                }
            }
            let mut size = 0;
            for line in bytes.split_inclusive(|b| *b == b'\n') {
                if batch.entries.len() >= BATCH_LINES || size >= BATCH_BYTES {
                    break;
                }
                if let Some(entry) = self.parse(&String::from_utf8_lossy(line), &batch.next, &mut batch.partial) {
                    size += entry.line.len();
                    batch.entries.push(entry);
                }
                batch.next.offset += line.len() as u64;
            }
            batch.more = true;
            return Ok(batch);
        }
    }

    /// The file that a position is in.
    fn source(&self, at: &Position) -> Source {
        let after = |(_, stamp): &&(String, String)| at.done.as_ref().is_none_or(|done| stamp > done);
        let mut rotated = self.rotated.iter().filter(after);
        match rotated.next() {
            Some((name, stamp)) => {
                let path = self.path.with_file_name(name);
                let old = || {
                    let modified = fs::metadata(&path).and_then(|m| m.modified()).ok();
                    modified
                        .and_then(|at| at.elapsed().ok())
                        .is_some_and(|age| age >= SETTLED)
                };
                let settled = name.ends_with(COMPRESSED) || rotated.next().is_some() || (self.path.exists() && old());
                Source {
                    path,
                    stamp: Some(stamp.clone()),
                    settled,
                }
            }
            None => Source {
                path: self.path.clone(),
                stamp: None,
                settled: false,
            },
        }
    }

    /// Makes sure that the offset is one of this file. False if there is nothing to read yet.
    fn recognise(&self, source: &Source, batch: &mut Batch) -> io::Result<bool> {
        if source.stamp.is_none() {
            let length = match fs::metadata(&source.path) {
                Ok(meta) => meta.len(),
                // Between two files.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            };
            if length == batch.next.offset {
                return Ok(false);
            }
        }
        let begin = begin(source.open()?)?;
        if batch.next.offset > 0 && !begin.starts_with(&batch.next.begin) {
            if source.stamp.is_none() && self.was_rotated(&batch.next) {
                // Since the last scan; the next one sees it.
                return Ok(false);
            }
            warn!(path = %source.path.display(), "a log was removed before it was read to its end; some lines are lost for a sink");
            batch.gap = true;
            batch.next.offset = 0;
            batch.partial = Default::default();
        }
        batch.next.begin = begin;
        Ok(true)
    }

    /// Is there a rotated file now that comes after the position?
    fn was_rotated(&self, at: &Position) -> bool {
        let (Some(dir), Some(log)) = (self.path.parent(), self.path.file_name().and_then(|n| n.to_str())) else {
            return false;
        };
        let names = fs::read_dir(dir).into_iter().flatten().flatten();
        names.filter_map(|e| e.file_name().into_string().ok()).any(|name| {
            let stamp = stamp(log, &name);
            stamp.is_some() && stamp > at.done.as_deref()
        })
    }

    /// One CRI log line: `time stream tags content`. None for a part of a line, or for what is no log line.
    fn parse(&self, line: &str, at: &Position, partial: &mut [Partial; 2]) -> Option<LogEntry> {
        let mut fields = line.trim_end_matches('\n').splitn(4, ' ');
        let time: Timestamp = fields.next()?.parse().ok()?;
        let stream = match fields.next()? {
            "stdout" => OutputStream::Stdout,
            "stderr" => OutputStream::Stderr,
            _ => return None,
        };
        let tags = fields.next()?;
        let content = fields.next().unwrap_or_default();
        let [out, err] = partial;
        let partial = if stream == OutputStream::Stdout { out } else { err };
        if tags.split(':').next() == Some("P") && partial.text.len() + content.len() < BATCH_BYTES {
            partial.text.push_str(content);
            partial.from.get_or_insert_with(|| at.clone());
            return None;
        }
        let line = std::mem::take(partial).text + content;
        let time = u64::try_from(time.as_nanosecond()).unwrap_or(0);
        Some(LogEntry {
            time,
            stream,
            line,
            ..self.template.clone()
        })
    }
}

/// Whole lines from an offset on; none if there is no whole one. A line that never ends is passed over.
fn read_lines(source: &Source, from: u64) -> io::Result<Vec<u8>> {
    let mut length = READ_BYTES;
    loop {
        let mut bytes = source.read(from, length)?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let full = bytes.len() as u64 == length;
        if whole == 0 && full && length < LONGEST_LINE {
            length *= 4;
            continue;
        }
        if whole > 0 || !full {
            bytes.truncate(whole);
        }
        return Ok(bytes);
    }
}

/// `<dir>/<namespace>_<pod>_<uid>/<container>/<restart count>.log`, each with its rotated files, oldest first.
fn find(dir: &Path) -> BTreeMap<PathBuf, Vec<(String, String)>> {
    let below = |dir: &Path| -> Vec<_> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|e| e.path()).collect()
    };
    let mut all: BTreeMap<PathBuf, Vec<(String, String)>> = BTreeMap::new();
    for container in below(dir).iter().flat_map(|pod| below(pod)) {
        for path in below(&container) {
            let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
                continue;
            };
            if name.ends_with(".log") {
                all.entry(path).or_default();
                continue;
            }
            let Some((log, _)) = name.split_once(".log.") else {
                continue;
            };
            let log = format!("{log}.log");
            if let Some(stamp) = stamp(&log, name) {
                let entry = (name.to_owned(), stamp.to_owned());
                all.entry(path.with_file_name(log)).or_default().push(entry);
            }
        }
    }
    for rotated in all.values_mut() {
        // A file and its compressed one may be there both for a moment: they hold the same.
        rotated.sort_by(|a, b| (&a.1, a.0.len()).cmp(&(&b.1, b.0.len())));
        rotated.dedup_by(|later, first| later.1 == first.1);
    }
    all
}

fn template(dir: &Path, path: &Path) -> Option<LogEntry> {
    let mut parts = path.strip_prefix(dir).ok()?.iter().map(|p| p.to_str());
    let (pod, container, file) = (parts.next()??, parts.next()??, parts.next()??);
    let mut names = pod.splitn(3, '_');
    Some(LogEntry {
        time: 0,
        namespace: names.next()?.into(),
        pod: names.next()?.into(),
        pod_uid: names.next()?.into(),
        container: container.into(),
        restart_count: file.strip_suffix(".log")?.parse().ok()?,
        stream: OutputStream::Stdout,
        line: String::new(),
    })
}
