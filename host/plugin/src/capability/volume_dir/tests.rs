#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::super::files::{self, Kind};
use super::*;
use crate::error::FaultKind;

struct Fixture {
    root: tempfile::TempDir,
    dir: VolumeDir,
}

fn fixture() -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let dir = VolumeDir::new(root.path(), &"u".into(), EMPTY_DIR, "v", None).unwrap();
    dir.create(0o777).unwrap();
    Fixture { root, dir }
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn where_it_is() {
    let at = |driver: &str| VolumeDir::new(Path::new("/r"), &"u".into(), driver, "v", None).unwrap();
    assert_eq!(
        at(EMPTY_DIR).path(),
        Path::new("/r/pods/u/volumes/kubernetes.io~empty-dir/v")
    );
    assert_eq!(
        at(EMPTY_DIR).inner.marker,
        Path::new("/r/pods/u/plugins/kubernetes.io~empty-dir/v")
    );
    assert_eq!(
        at(PROJECTED).inner.marker,
        Path::new("/r/pods/u/plugins/kubernetes.io~empty-dir/wrapped_v")
    );
    assert_eq!(
        at("witlet.dev/x").inner.marker,
        Path::new("/r/pods/u/plugins/witlet.dev~x/v")
    );
    for (uid, driver, name) in [
        ("..", "d", "v"),
        ("u", "..", "v"),
        ("u", "d", ".."),
        ("u", "d", "a/b"),
        ("u", "", "v"),
        ("u", "d", "a\0"),
    ] {
        assert!(
            VolumeDir::new(Path::new("/r"), &uid.into(), driver, name, None).is_err(),
            "{uid:?} {driver:?} {name:?}"
        );
    }
}

#[test]
fn modes_are_exact() {
    let Fixture { root: _root, dir } = fixture();
    assert_eq!(mode(dir.path()), 0o777);
    dir.create(0o2750).unwrap();
    assert_eq!(mode(dir.path()), 0o2750);
    assert_eq!(mode(dir.path().parent().unwrap()), 0o750);
    files::make_dir(&dir, "d", 0o777).unwrap();
    files::write(&dir, "d/f", b"one", 0o666).unwrap();
    assert_eq!(
        (mode(dir.path().join("d")), mode(dir.path().join("d/f"))),
        (0o777, 0o666)
    );
    files::write(&dir, "d/f", b"2", 0o400).unwrap();
    assert_eq!(
        fs::read(dir.path().join("d/f")).unwrap(),
        b"2",
        "shorter content replaces longer"
    );
    files::set_mode(&dir, "d/f", 0o4755).unwrap();
    assert_eq!(mode(dir.path().join("d/f")), 0o4755);
}

#[test]
fn nothing_leads_out() {
    let Fixture { root, dir } = fixture();
    let outside = root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), b"secret").unwrap();
    symlink(&outside, dir.path().join("link")).unwrap();
    symlink(outside.join("secret"), dir.path().join("file")).unwrap();
    symlink("../../../../../outside", dir.path().join("relative")).unwrap();
    for path in [
        "link/secret",
        "file",
        "relative/secret",
        "../v/x",
        "/etc/passwd",
        "d/../../x",
        "",
        ".",
    ] {
        assert!(files::read(&dir, path).is_err(), "read {path:?}");
        assert!(files::write(&dir, path, b"x", 0o644).is_err(), "write {path:?}");
    }
    for path in ["link/new", "relative/new", "../new"] {
        assert!(files::make_dir(&dir, path, 0o755).is_err(), "{path:?}");
        assert!(files::symlink(&dir, "x", path).is_err(), "{path:?}");
        assert!(files::rename(&dir, "file", path).is_err(), "{path:?}");
    }
    assert!(files::list(&dir, "link").is_err());
    // The last step acts on the symlink, not behind it.
    files::chown(&dir, "file", Some(0), Some(0)).unwrap();
    assert!(files::set_mode(&dir, "file", 0o777).is_err());
    assert_eq!(files::stat(&dir, "link").unwrap().kind, Kind::Symlink);
    files::remove_tree(&dir, "link").unwrap();
    files::remove(&dir, "file").unwrap();
    dir.destroy().unwrap();
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
    assert_eq!(mode(outside.join("secret")) & 0o777, 0o644);
}

#[test]
fn a_directory_replaced_by_a_symlink_is_not_entered() {
    let Fixture { root, dir } = fixture();
    let outside = root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), b"x").unwrap();
    fs::remove_dir(dir.path()).unwrap();
    symlink(&outside, dir.path()).unwrap();
    assert!(!dir.exists());
    assert!(files::read(&dir, "f").is_err() && dir.apply_fs_group(1, false).is_err());
    let _ = dir.destroy();
    assert!(outside.join("f").exists());
}

#[test]
fn links_within_are_followed() {
    let Fixture { root: _root, dir } = fixture();
    // As the atomic writer leaves them.
    files::make_dir(&dir, "..2026", 0o755).unwrap();
    files::write(&dir, "..2026/key", b"value", 0o644).unwrap();
    files::symlink(&dir, "..2026", "..data_tmp").unwrap();
    files::rename(&dir, "..data_tmp", "..data").unwrap();
    files::symlink(&dir, "..data/key", "key").unwrap();
    assert_eq!(files::read(&dir, "key").unwrap(), b"value");
    assert_eq!(files::read(&dir, "..data/key").unwrap(), b"value");
    assert_eq!(files::read_link(&dir, "..data").unwrap(), "..2026");
    let names: Vec<_> = files::list(&dir, "").unwrap();
    assert_eq!(
        names,
        [
            ("..2026".to_owned(), Kind::Directory),
            ("..data".to_owned(), Kind::Symlink),
            ("key".to_owned(), Kind::Symlink)
        ]
    );
    assert_eq!(files::list(&dir, "..2026").unwrap(), [("key".to_owned(), Kind::File)]);
    assert_eq!(files::list(&dir, "..data").unwrap(), [("key".to_owned(), Kind::File)]);
}

#[test]
fn pipes_do_not_block() {
    let Fixture { root: _root, dir } = fixture();
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), FileType::Fifo, mode, 0).unwrap();
    assert!(files::read(&dir, "pipe").is_err());
    assert!(files::write(&dir, "pipe", b"x", 0o644).is_err());
}

#[test]
fn errors_have_kinds() {
    let Fixture { root: _root, dir } = fixture();
    assert_eq!(files::read(&dir, "none").unwrap_err().kind, FaultKind::NotFound);
    assert_eq!(
        files::stat(&dir, "none").unwrap_err().text,
        "stat none: no such file or directory"
    );
    assert_eq!(
        files::make_dir(&dir, "a/b", 0o755).unwrap_err().kind,
        FaultKind::NotFound
    );
    assert_eq!(
        files::write(&dir, "a/../b", b"", 0o644).unwrap_err().kind,
        FaultKind::Invalid
    );
    assert_eq!(
        files::chown(&dir, "", Some(u32::MAX), None).unwrap_err().kind,
        FaultKind::Invalid
    );
}

#[test]
fn the_mark_of_readiness() {
    let Fixture { root: _root, dir } = fixture();
    assert!(!dir.ready());
    dir.set_ready(false).unwrap();
    dir.set_ready(true).unwrap();
    assert!(dir.ready() && dir.inner.marker.join("ready").is_file());
    assert_eq!(mode(&dir.inner.marker), 0o750);
    dir.set_ready(false).unwrap();
    assert!(!dir.ready() && !dir.inner.marker.exists() && dir.inner.marker.parent().unwrap().exists());
}

#[test]
fn destroy_leaves_nothing_and_is_idempotent() {
    let Fixture { root: _root, dir } = fixture();
    files::make_dir(&dir, "a", 0o700).unwrap();
    files::make_dir(&dir, "a/b", 0).unwrap();
    files::write(&dir, "a/f", b"x", 0).unwrap();
    dir.destroy().unwrap();
    assert!(!dir.path().exists());
    dir.destroy().unwrap();
}

#[test]
fn fs_group() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let Fixture { root, dir } = fixture();
    files::make_dir(&dir, "d", 0o700).unwrap();
    files::write(&dir, "d/f", b"x", 0o400).unwrap();
    fs::write(root.path().join("target"), b"x").unwrap();
    symlink(root.path().join("target"), dir.path().join("link")).unwrap();
    let of = |path: &str| {
        let m = fs::symlink_metadata(dir.path().join(path)).unwrap();
        (m.gid(), m.mode() & 0o7777)
    };
    dir.apply_fs_group(4321, false).unwrap();
    assert_eq!(of(""), (4321, 0o2777));
    assert_eq!(of("d"), (4321, 0o2770));
    assert_eq!(of("d/f"), (4321, 0o660));
    assert_eq!(of("link").0, 4321);
    let target = fs::metadata(root.path().join("target")).unwrap();
    assert_ne!(target.gid(), 4321, "what a symlink leads to is somebody else's");
    files::set_mode(&dir, "d/f", 0o400).unwrap();
    dir.apply_fs_group(4321, true).unwrap();
    assert_eq!(of("d/f"), (4321, 0o440));
}

#[test]
fn the_table_of_mounts() {
    let table = "\
22 1 0:21 / / rw - ext4 /dev/sda rw
30 22 0:40 / /mnt/a\\040b rw,relatime shared:5 - tmpfs tmpfs rw,size=1k
31 22 0:41 / /mnt rw - xfs /dev/b rw
32 31 0:42 / /mnt rw - hugetlbfs nodev rw
";
    let at = |path: &str| filesystem_at(table, Path::new(path));
    assert_eq!(at("/mnt/a b").as_deref(), Some("tmpfs"));
    assert_eq!(
        at("/mnt").as_deref(),
        Some("hugetlbfs"),
        "the last one covers the others"
    );
    assert_eq!(at("/mnt/a"), None);
    assert_eq!(filesystem_at("", Path::new("/")), None);
    assert_eq!(unescape_octal("a\\134b\\04"), "a\\b\\04");
}

#[test]
fn mounted_memory() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let Fixture { root: _root, dir } = fixture();
    assert_eq!(dir.mounted().unwrap(), None);
    let allocatable: crate::deps::Allocatable = Arc::new(std::collections::BTreeMap::new);
    let grant = crate::grants::Mount::default();
    super::super::mount::tmpfs(&grant, &dir, Some(1 << 20), &allocatable).unwrap();
    assert_eq!(dir.mounted().unwrap().as_deref(), Some("tmpfs"));
    files::write(&dir, "f", b"x", 0o644).unwrap();
    assert!(dir.destroy().unwrap_err().text.ends_with("unmount it first"));
    super::super::mount::unmount(&dir).unwrap();
    super::super::mount::unmount(&dir).unwrap();
    assert_eq!(dir.mounted().unwrap(), None);
    dir.destroy().unwrap();
    let hugetlbfs = crate::grants::Mount {
        types: vec!["hugetlbfs".into()],
        ..Default::default()
    };
    let refused = super::super::mount::tmpfs(&hugetlbfs, &dir, None, &allocatable).unwrap_err();
    assert_eq!(refused.kind, FaultKind::Denied);
}
