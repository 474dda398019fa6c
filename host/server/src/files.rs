//! `/logs/`: the files of the system's log directory, and nothing else.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::StatusCode;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::query::encode;
use crate::reply::{self, Reply};

const BLOCK: usize = 128 * 1024;

pub(crate) async fn answer(root: PathBuf, path: String) -> Reply {
    let slash = path.is_empty() || path.ends_with('/');
    let found = tokio::task::spawn_blocking(move || look(&root, Path::new(&path))).await;
    match found {
        Ok(Ok(Found::Listing(names))) if slash => listing(&names),
        // Links in a listing only work below a path with a slash.
        Ok(Ok(Found::Listing(_))) => reply::text(
            StatusCode::NOT_FOUND,
            "this is a directory: end its path with a slash\n",
        ),
        Ok(Ok(Found::File(file))) => reply::stream(chunks(file)),
        Ok(Err(error)) => match error.kind() {
            io::ErrorKind::PermissionDenied => reply::text(StatusCode::FORBIDDEN, "403 Forbidden\n"),
            _ => reply::not_found(),
        },
        Err(_) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, "the log cannot be read\n"),
    }
}

/// The bytes of a file below the directory; none if there is no such file.
pub(crate) async fn open(root: PathBuf, path: String) -> io::Result<Option<BoxStream<'static, Bytes>>> {
    let found = tokio::task::spawn_blocking(move || look(&root, Path::new(&path))).await;
    match found.map_err(io::Error::other)? {
        Ok(Found::File(file)) => Ok(Some(chunks(file))),
        Ok(Found::Listing(_)) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

enum Found {
    Listing(Vec<String>),
    File(File),
}

/// Symlinks may lead anywhere within the directory. They are followed first, and what they lead to is then opened without
/// following any, so that none can be put in the way meanwhile.
fn look(root: &Path, path: &Path) -> io::Result<Found> {
    let root = root.canonicalize()?;
    if path.components().any(|c| !matches!(c, Component::Normal(_))) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let target = root.join(path).canonicalize()?;
    let inside = target.strip_prefix(&root).map_err(|_| io::ErrorKind::NotFound)?;
    let dir = File::open(&root)?;
    let inside = if inside.as_os_str().is_empty() {
        Path::new(".")
    } else {
        inside
    };
    // A named pipe must not make the node wait.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = File::from(rustix::fs::openat2(&dir, inside, flags, Mode::empty(), resolve)?);
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(Found::File(file));
    }
    if !kind.is_dir() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&file)? {
        let entry = entry?;
        let mut name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type() == rustix::fs::FileType::Directory {
            name.push('/');
        }
        if !matches!(name.as_str(), "./" | "../") {
            names.push(name);
        }
    }
    names.sort();
    Ok(Found::Listing(names))
}

fn listing(names: &[String]) -> Reply {
    let mut page = String::from("<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n");
    for name in names {
        let link = name.split('/').map(encode).collect::<Vec<_>>().join("/");
        let shown = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        page.push_str(&format!("<a href=\"{link}\">{shown}</a>\n"));
    }
    reply::full(StatusCode::OK, "text/html; charset=utf-8", page + "</pre>\n")
}

fn chunks(file: File) -> BoxStream<'static, Bytes> {
    futures::stream::unfold(file, |mut file| async move {
        let read = move || -> io::Result<(Vec<u8>, File)> {
            let mut block = vec![0; BLOCK];
            let length = file.read(&mut block)?;
            block.truncate(length);
            Ok((block, file))
        };
        let (block, file) = tokio::task::spawn_blocking(read).await.ok()?.ok()?;
        (!block.is_empty()).then(|| (Bytes::from(block), file))
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_outside_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        std::fs::create_dir_all(root.join("pods/a")).unwrap();
        std::fs::write(root.join("pods/a/0.log"), "inside").unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        symlink(root.join("pods/a/0.log"), root.join("link")).unwrap();
        symlink("../secret", root.join("escape")).unwrap();
        symlink(dir.path(), root.join("up")).unwrap();
        symlink("pods", root.join("logs")).unwrap();
        let see = |path: &str| match look(&root, Path::new(path)) {
            Ok(Found::File(file)) => io::read_to_string(file).unwrap(),
            Ok(Found::Listing(names)) => names.join(" "),
            Err(error) => format!("{:?}", error.kind()),
        };
        for (path, expected) in [
            ("", "escape link logs pods/ up"),
            ("pods/a/0.log", "inside"),
            ("link", "inside"),
            ("logs/a/0.log", "inside"),
            ("pods/a/", "0.log"),
            ("escape", "NotFound"),
            ("up/secret", "NotFound"),
            ("../secret", "NotFound"),
            ("pods/../../secret", "NotFound"),
            ("/etc/passwd", "NotFound"),
            ("missing", "NotFound"),
        ] {
            assert_eq!(see(path), expected, "{path}");
        }
    }
}
