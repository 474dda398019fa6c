//! Finding every problem of a TOML file in one go, each with its line.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Table;

/// More than this many in one file are not worth reading.
const MAX: usize = 50;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) file: PathBuf,
    pub(crate) line: Option<usize>,
    pub(crate) message: String,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    pub(crate) fn add(&mut self, file: &Path, line: Option<usize>, message: impl Into<String>) {
        self.0.push(Problem {
            file: file.to_owned(),
            line,
            message: message.into(),
        });
    }

    pub(crate) fn into_result<T>(mut self, value: T) -> Result<T, Self> {
        // Stable: what has no line comes first, the rest in the order of the files.
        self.0.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Reads a file as `T` and returns its content without the lines that are wrong, each of which becomes a problem.
    pub(crate) fn check<T: DeserializeOwned>(&mut self, file: &Path, text: &str) -> Table {
        let mut rest = text.to_owned();
        for _ in 0..MAX {
            let Err(error) = toml::from_str::<T>(&rest) else { break };
            let span = error.span().unwrap_or(0..0);
            let line = error
                .span()
                .map(|s| 1 + text[..s.start.min(text.len())].matches('\n').count());
            let key = line
                .and_then(|n| key_of(text, n))
                .map(|key| format!("{key}: "))
                .unwrap_or_default();
            self.add(file, line, key + &error.message().replace('\n', " "));
            if !blank(&mut rest, &span) {
                break;
            }
        }
        toml::from_str(&rest).unwrap_or_default()
    }
}

/// The key that the line sets, if it sets one.
fn key_of(text: &str, line: usize) -> Option<&str> {
    let (key, _) = text.lines().nth(line - 1)?.split_once('=')?;
    Some(key.trim())
}

/// Overwrites the lines of a span with spaces, so that offsets stay. False if there was nothing left to overwrite.
fn blank(text: &mut String, span: &Range<usize>) -> bool {
    let start = text[..span.start.min(text.len())].rfind('\n').map_or(0, |i| i + 1);
    let end = text[span.end.min(text.len())..]
        .find('\n')
        .map_or(text.len(), |i| span.end + i);
    let before = &text[start..end];
    if before.trim().is_empty() {
        return false;
    }
    let spaces: String = before.bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
    text.replace_range(start..end, &spaces);
    true
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0.len();
        write!(f, "{n} problem{} in the configuration:", if n == 1 { "" } else { "s" })?;
        for problem in &self.0 {
            write!(f, "\n  {}", problem.file.display())?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            write!(f, ": {}", problem.message)?;
        }
        Ok(())
    }
}
