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

fn all(excess: Vec<Excess>) -> Vec<PathBuf> {
    excess.into_iter().map(|file| file.path).collect()
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
    clean(&path("0.log"), policy(), all).unwrap();
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
    assert!(clean(Path::new("/nowhere/at/all/0.log"), policy(), all).is_err());
    assert!(clean(Path::new("/"), policy(), all).is_ok());
}

#[test]
fn what_is_still_needed_stays() {
    let dir = tempfile::tempdir().unwrap();
    for second in 1..=5 {
        fs::write(dir.path().join(format!("0.log.20260101-00000{second}")), "12345").unwrap();
    }
    let mut asked = Vec::new();
    clean(&dir.path().join("0.log"), policy(), |excess| {
        asked = excess.iter().map(|file| (file.stamp.clone(), file.size)).collect();
        all(excess).into_iter().take(1).collect()
    })
    .unwrap();
    let stamps = ["20260101-000001", "20260101-000002", "20260101-000003"];
    assert_eq!(asked, stamps.map(|stamp| (stamp.to_owned(), 5)), "oldest first");
    assert_eq!(
        names(dir.path()),
        ["2", "3", "4.gz", "5.gz"].map(|end| format!("0.log.20260101-00000{end}"))
    );
}
