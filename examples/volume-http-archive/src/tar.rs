//! Unpacking `tar`: files, directories and symlinks, and nothing that leads out of the volume.
//!
//! The host keeps every path within the volume's directory by itself; what is refused here is refused so that nobody wonders
//! why half of an archive is missing.

use std::collections::BTreeSet;
use std::io::Read;

use witlet_sdk::volume::Dir;
use witlet_sdk::{Error, Result};

use crate::Limits;

const BLOCK: usize = 512;
const PIECE: usize = 256 << 10;
/// Names that do not fit a header come as entries of their own.
const MAX_EXTRA: u64 = 64 << 10;
const MAX_DEPTH: usize = 64;

/// What comes before an entry and belongs to it.
#[derive(Default)]
struct Extra {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

struct Unpacking<'a, D> {
    target: &'a D,
    limits: Limits,
    bytes: u64,
    entries: usize,
    dirs: BTreeSet<String>,
    links: BTreeSet<String>,
}

pub(crate) fn unpack(archive: &mut impl Read, target: &impl Dir, limits: Limits) -> Result<()> {
    let mut unpacking = Unpacking {
        target,
        limits,
        bytes: 0,
        entries: 0,
        dirs: BTreeSet::new(),
        links: BTreeSet::new(),
    };
    let mut extra = Extra::default();
    let mut first = true;
    loop {
        let mut header = [0; BLOCK];
        if !block(archive, &mut header, first)? || header == [0; BLOCK] {
            return if first { Err(broken("it is empty")) } else { Ok(()) };
        }
        first = false;
        verify(&header)?;
        let size = extra.size.unwrap_or(number(&header[124..136])?);
        match header[156] {
            kind @ (b'x' | b'L' | b'K') => {
                let text = text(archive, size)?;
                match kind {
                    b'L' => extra.path = Some(text.trim_end_matches('\0').to_owned()),
                    b'K' => extra.link = Some(text.trim_end_matches('\0').to_owned()),
                    _ => records(&text, &mut extra)?,
                }
            }
            // Of the archive as a whole.
            b'g' => drop(text(archive, size)?),
            kind => {
                let Extra { path, link, .. } = std::mem::take(&mut extra);
                let path = path.map_or_else(|| name(&header), Ok)?;
                let link = link.map_or_else(|| field(&header[157..257]), Ok)?;
                let mode = u32::try_from(number(&header[100..108])?).unwrap_or(0o644);
                unpacking.entry(archive, kind, &path, &link, mode & 0o777, size)?;
            }
        }
    }
}

impl<D: Dir> Unpacking<'_, D> {
    fn entry(&mut self, archive: &mut impl Read, kind: u8, path: &str, link: &str, mode: u32, size: u64) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.max_entries {
            return Err(broken(format!("it has more than {} entries", self.limits.max_entries)));
        }
        let path = inside(path)?;
        match kind {
            b'5' => self.dir(&path, mode),
            _ if path.is_empty() => Err(broken("an entry without a name")),
            b'0' | 0 | b'7' => {
                self.parents(&path)?;
                self.replace(&path)?;
                self.file(archive, &path, mode, size)
            }
            b'2' => {
                self.parents(&path)?;
                stays(&path, link)?;
                self.replace(&path)?;
                self.target.symlink(link, &path)?;
                self.links.insert(path);
                Ok(())
            }
            b'1' => Err(broken(format!("{path} is a hard link, which is not supported"))),
            b'3' | b'4' | b'6' => Err(broken(format!("{path} is a device or a pipe"))),
            other => Err(broken(format!("{path} is of the unknown type {:?}", char::from(other)))),
        }
    }

    /// A later entry of the same name counts, as it does for `tar`.
    fn replace(&mut self, path: &str) -> Result<()> {
        if self.dirs.contains(path) {
            return Err(broken(format!("{path} is a directory and something else")));
        }
        if self.links.remove(path) {
            self.target.remove(path)?;
        }
        Ok(())
    }

    fn dir(&mut self, path: &str, mode: u32) -> Result<()> {
        if path.is_empty() {
            return self.target.chmod(".", mode);
        }
        self.parents(path)?;
        self.passable(path)?;
        if self.dirs.contains(path) {
            return self.target.chmod(path, mode);
        }
        self.target.make_dir(path, mode)?;
        self.dirs.insert(path.to_owned());
        Ok(())
    }

    /// Nothing is put through a symlink.
    fn passable(&self, path: &str) -> Result<()> {
        if self.links.contains(path) {
            return Err(broken(format!("{path} is a symlink and a directory")));
        }
        Ok(())
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            self.passable(parent)?;
            if !self.dirs.contains(parent) {
                self.target.make_dir(parent, 0o755)?;
                self.dirs.insert(parent.to_owned());
            }
        }
        Ok(())
    }

    fn file(&mut self, archive: &mut impl Read, path: &str, mode: u32, size: u64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.max_bytes {
            let limit = self.limits.max_bytes;
            return Err(broken(format!("unpacked it has more than {limit} bytes")));
        }
        self.target.write(path, &[], mode)?;
        let mut left = size;
        let mut piece = vec![0; PIECE];
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            archive.read_exact(&mut piece[..n]).map_err(|e| cut(&e))?;
            self.target.append(path, &piece[..n])?;
            left -= n as u64;
        }
        pad(archive, size)
    }
}

fn broken(why: impl std::fmt::Display) -> Error {
    Error::Failed(format!("the archive is refused: {why}"))
}

fn cut(error: &std::io::Error) -> Error {
    broken(format!("it cannot be read to its end: {error}"))
}

/// False where the archive ends.
fn block(archive: &mut impl Read, into: &mut [u8; BLOCK], first: bool) -> Result<bool> {
    let mut have = 0;
    while have < BLOCK {
        match archive.read(&mut into[have..]).map_err(|e| cut(&e))? {
            0 if have == 0 && !first => return Ok(false),
            0 => return Err(broken("it ends in the middle of an entry")),
            n => have += n,
        }
    }
    Ok(true)
}

/// Content fills whole blocks.
fn pad(archive: &mut impl Read, size: u64) -> Result<()> {
    let rest = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if rest > 0 {
        archive.read_exact(&mut [0; BLOCK][rest..]).map_err(|e| cut(&e))?;
    }
    Ok(())
}

fn text(archive: &mut impl Read, size: u64) -> Result<String> {
    if size > MAX_EXTRA {
        return Err(broken("a name or its attributes are too long"));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    archive.read_exact(&mut bytes).map_err(|e| cut(&e))?;
    pad(archive, size)?;
    String::from_utf8(bytes).map_err(|_| broken("a name is not UTF-8"))
}

/// `<length> <key>=<value>\n`, again and again.
fn records(mut text: &str, extra: &mut Extra) -> Result<()> {
    while !text.is_empty() {
        let bad = || broken("its attributes make no sense");
        let (length, _) = text.split_once(' ').ok_or_else(bad)?;
        let end: usize = length.parse().map_err(|_| bad())?;
        let record = text.get(length.len() + 1..end).ok_or_else(bad)?;
        let (key, value) = record
            .strip_suffix('\n')
            .and_then(|r| r.split_once('='))
            .ok_or_else(bad)?;
        match key {
            "path" => extra.path = Some(value.to_owned()),
            "linkpath" => extra.link = Some(value.to_owned()),
            "size" => extra.size = Some(value.parse().map_err(|_| bad())?),
            _ => {}
        }
        text = &text[end..];
    }
    Ok(())
}

fn verify(header: &[u8; BLOCK]) -> Result<()> {
    let mut blank = *header;
    blank[148..156].fill(b' ');
    let sum: u64 = blank.iter().map(|b| u64::from(*b)).sum();
    if number(&header[148..156])? != sum {
        return Err(broken("it is no tar, or it is damaged"));
    }
    Ok(())
}

/// Octal digits, or a binary number where those do not suffice.
fn number(field: &[u8]) -> Result<u64> {
    if let Some((first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        return rest.iter().try_fold(u64::from(first & 0x7f), |n, byte| {
            let shifted = n.checked_mul(256).ok_or_else(|| broken("a number is too large"))?;
            Ok(shifted | u64::from(*byte))
        });
    }
    let text = self::field(field)?;
    let text = text.trim_matches(' ');
    if text.is_empty() {
        return Ok(0);
    }
    u64::from_str_radix(text, 8).map_err(|_| broken("it is no tar, or it is damaged"))
}

fn field(bytes: &[u8]) -> Result<String> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8(bytes[..end].to_vec()).map_err(|_| broken("a name is not UTF-8"))
}

fn name(header: &[u8; BLOCK]) -> Result<String> {
    let name = field(&header[..100])?;
    let prefix = field(&header[345..500])?;
    if &header[257..262] == b"ustar" && header[262] == 0 && !prefix.is_empty() {
        return Ok(format!("{prefix}/{name}"));
    }
    Ok(name)
}

/// The path without what means nothing; empty for the volume itself.
fn inside(path: &str) -> Result<String> {
    let leads_out = || broken(format!("{path:?} leads out of the volume"));
    if path.starts_with('/') || path.len() > 4096 || path.contains('\0') {
        return Err(leads_out());
    }
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.contains(&"..") || parts.len() > MAX_DEPTH {
        return Err(leads_out());
    }
    Ok(parts.join("/"))
}

/// Does the symlink stay within the volume? It goes up first and only as far as it lies deep; after that, a `..` could follow
/// another symlink.
fn stays(path: &str, link: &str) -> Result<()> {
    let depth = path.matches('/').count();
    let parts: Vec<&str> = link.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    let up = parts.iter().take_while(|p| **p == "..").count();
    if link.is_empty() || link.starts_with('/') || up > depth || parts[up..].contains(&"..") {
        return Err(broken(format!(
            "the symlink {path:?} leads out of the volume, to {link:?}"
        )));
    }
    Ok(())
}
