#![allow(clippy::unwrap_used)]

use std::io::Read;

use flate2::read::GzDecoder;

use super::*;

fn policy() -> Policy {
    Policy {
        max_size: Some(10),
        max_files: 4,
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn rotated_files_are_compressed_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in [
        "0.log",
        "0.log.20260101-000001",
        "0.log.20260101-000002.tmp",
        "1.log.20260101-000001",
    ] {
        fs::write(path(name), format!("{name}\n").repeat(1000)).unwrap();
    }
    clean(&path("0.log"), policy()).unwrap();
    assert_eq!(
        names(dir.path()),
        ["0.log", "0.log.20260101-000001.gz", "1.log.20260101-000001"]
    );
    let mut text = String::new();
    let file = File::open(path("0.log.20260101-000001.gz")).unwrap();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    assert_eq!(text, "0.log.20260101-000001\n".repeat(1000));
}

#[test]
fn a_directory_that_is_gone_is_an_error_and_no_panic() {
    assert!(clean(Path::new("/nowhere/at/all/0.log"), policy()).is_err());
    assert!(clean(Path::new("/"), policy()).is_ok());
}
