#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn engine() -> PluginEngine {
    PluginEngine::new().unwrap()
}

fn code(engine: &PluginEngine) -> Vec<u8> {
    engine
        .wasmtime()
        .precompile_component(&wat::parse_str("(component)").unwrap())
        .unwrap()
}

#[test]
fn kept_and_found() {
    let root = tempfile::tempdir().unwrap();
    let engine = engine();
    let cache = Cache::open(&root.path().join("a/cache")).unwrap();
    let key = Cache::key(&engine, &[1; 32]);
    assert_ne!(key, Cache::key(&engine, &[2; 32]));
    assert_eq!(key, Cache::key(&tests::engine(), &[1; 32]), "the same in every process");
    assert!(matches!(cache.load(&engine, &key), Lookup::Miss));
    cache.store(&key, &code(&engine)).unwrap();
    assert!(matches!(cache.load(&engine, &key), Lookup::Hit(_)));
}

#[test]
fn altered_anywhere_it_is_refused_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let engine = engine();
    let cache = Cache::open(root.path()).unwrap();
    let file = root.path().join("k.cwasm");
    let code = code(&engine);
    for position in [0, 8, 20, HEAD, HEAD + code.len() / 2, HEAD + code.len() - 1] {
        cache.store("k", &code).unwrap();
        let mut bytes = fs::read(&file).unwrap();
        bytes[position] ^= 0x10;
        fs::write(&file, bytes).unwrap();
        assert!(matches!(cache.load(&engine, "k"), Lookup::Corrupt), "byte {position}");
        assert!(!file.exists());
    }
    cache.store("k", &code).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(10)
        .unwrap();
    assert!(matches!(cache.load(&engine, "k"), Lookup::Corrupt));
    // What was written properly and is no code for this engine.
    cache.store("k", b"not code").unwrap();
    assert!(matches!(cache.load(&engine, "k"), Lookup::Corrupt));
}

#[test]
fn only_files_of_our_own() {
    let root = tempfile::tempdir().unwrap();
    let engine = engine();
    let cache = Cache::open(root.path()).unwrap();
    cache.store("k", &code(&engine)).unwrap();
    let file = root.path().join("k.cwasm");
    fs::rename(&file, root.path().join("elsewhere")).unwrap();
    symlink(root.path().join("elsewhere"), &file).unwrap();
    assert!(matches!(cache.load(&engine, "k"), Lookup::Miss), "through a symlink");
    fs::remove_file(&file).unwrap();
    fs::rename(root.path().join("elsewhere"), &file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(
        matches!(cache.load(&engine, "k"), Lookup::Miss),
        "that others can write to"
    );
}

#[test]
fn only_a_directory_of_our_own() {
    let root = tempfile::tempdir().unwrap();
    let loose = root.path().join("loose");
    fs::create_dir(&loose).unwrap();
    fs::set_permissions(&loose, fs::Permissions::from_mode(0o755)).unwrap();
    Cache::open(&loose).unwrap();
    assert_eq!(
        fs::metadata(&loose).unwrap().mode() & 0o777,
        0o700,
        "it is made private"
    );
    let shared = root.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let error = Cache::open(&shared.join("cache")).err().unwrap();
    assert!(error.to_string().ends_with("can be written to by others"), "{error}");
}

#[test]
fn litter_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let cache = Cache::open(root.path()).unwrap();
    for n in 0..MAX_FILES + 5 {
        cache.store(&format!("{n}"), b"x").unwrap();
    }
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), MAX_FILES);
}
