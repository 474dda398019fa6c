//! Programs that other languages need: those of the machine, and those that are fetched once into a directory of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Where what is fetched is kept, instead of `~/.cache/witlet-plugin`.
pub const DIR: &str = "WITLET_PLUGIN_TOOLS";

pub fn dir() -> Result<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(dir) = of(DIR) {
        return std::path::absolute(&dir).with_context(|| format!("{DIR}={}", dir.display()));
    }
    let cache = of("XDG_CACHE_HOME").or_else(|| of("HOME").map(|home| home.join(".cache")));
    let cache = cache.with_context(|| format!("neither {DIR} nor HOME says where tools can be kept"))?;
    Ok(cache.join("witlet-plugin"))
}

/// The first of these programs that the machine has.
pub fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut all = names
        .iter()
        .flat_map(|name| std::env::split_paths(&path).map(move |dir| dir.join(name)));
    all.find(|file| file.is_file())
}

/// Runs it. What it says is shown if it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(
        output.status.success(),
        "{name} failed ({}):\n{}",
        output.status,
        said.trim()
    );
    Ok(())
}

/// A directory with these files, in which `install` was run once. It has its final name only when everything in it is there.
pub fn once(name: &str, files: &[(&str, &str)], install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let all = dir()?;
    let place = all.join(name);
    if place.join(DONE).is_file() {
        return Ok(place);
    }
    fs::create_dir_all(&all).with_context(|| format!("create {}", all.display()))?;
    // Two at once each make their own; the second one to end finds the place taken, and is content.
    let part = all.join(format!(".{name}.{}", std::process::id()));
    let made = (|| {
        fs::create_dir_all(&part)?;
        for (file, text) in files {
            fs::write(part.join(file), text)?;
        }
        install(&part)?;
        fs::write(part.join(DONE), "")?;
        Ok(())
    })();
    match made {
        Ok(()) => {}
        Err(error) => {
            let _ = fs::remove_dir_all(&part);
            return Err(error);
        }
    }
    if fs::rename(&part, &place).is_err() {
        let _ = fs::remove_dir_all(&part);
        if !place.join(DONE).is_file() {
            bail!("{} is in the way: remove it", place.display());
        }
    }
    Ok(place)
}

const DONE: &str = ".complete";
