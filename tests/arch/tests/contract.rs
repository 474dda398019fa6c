//! The tables of `tests/contract` say which test proves which rule: each of these tests must exist.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Names of all functions in Rust sources, and of golden files as `plan/x` and `config/x`.
fn known(root: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut dirs: Vec<_> = ["host", "plugins", "sdk", "tests", "xtask", "tools", "examples"]
        .map(|d| root.join(d))
        .into();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let names_in = |line: &str| {
                    let rest = line.split_once("fn ")?.1;
                    let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric())?;
                    Some(rest[..end].to_owned())
                };
                names.extend(text.lines().filter_map(names_in));
            }
        }
    }
    for kind in ["plan", "config"] {
        for golden in fs::read_dir(root.join("host/core/tests/golden").join(kind)).unwrap() {
            let path = golden.unwrap().path();
            names.insert(format!("{kind}/{}", path.file_stem().unwrap().to_str().unwrap()));
        }
    }
    names
}

/// What stands in backticks in the second column.
fn named(table: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in table.lines().enumerate() {
        let Some(tests) = line.strip_prefix('|').and_then(|row| row.split('|').nth(1)) else {
            continue;
        };
        let quoted = tests.split('`').skip(1).step_by(2);
        found.extend(quoted.map(|name| (number + 1, name.rsplit("::").next().unwrap().to_owned())));
    }
    found
}

#[test]
fn every_named_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let known = known(&root);
    let mut missing = Vec::new();
    for entry in fs::read_dir(root.join("tests/contract")).unwrap() {
        let path = entry.unwrap().path();
        // Beside the tables lies what tests read.
        if path.extension().is_none_or(|e| e != "md") {
            continue;
        }
        let table = fs::read_to_string(&path).unwrap();
        let names = named(&table);
        assert!(!names.is_empty(), "{} names no test", path.display());
        for (line, name) in names.into_iter().filter(|(_, name)| !known.contains(name)) {
            missing.push(format!("{}:{line}: {name}", path.file_name().unwrap().display()));
        }
    }
    assert!(missing.is_empty(), "there are no such tests:\n{}", missing.join("\n"));
}

#[test]
fn rows_are_read() {
    let table = "| rule | tests | note |\n|---|---|---|\n| 1 | `a`, `m::b` | `no` |\ntext `c`\n";
    assert_eq!(named(table), [(3, "a".to_owned()), (3, "b".to_owned())]);
}
