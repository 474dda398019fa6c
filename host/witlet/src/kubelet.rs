//! Standing in for a kubelet: started under its name, with its command line and its files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;
use witlet_core::kubelet::{self, Flags, Note, Translation};

use crate::config::Source;

/// What `kubelet --version` says; tools such as kubeadm read the release of Kubernetes from it.
const VERSION: &str = "Kubernetes v1.36.2";
/// Where an operator says what no kubelet knows, such as plugins: conf.d and plugins.d in it.
const WITLET_DIR: &str = "/etc/witlet";

/// Whether the program was started as a kubelet.
pub(crate) fn is_called(program: Option<&str>) -> bool {
    let name = program.map(Path::new).and_then(Path::file_name);
    name.is_some_and(|name| name == "kubelet")
}

/// Runs `start` with the translated configuration.
pub(crate) fn main(arguments: &[String], start: impl FnOnce(&Source) -> ExitCode) -> ExitCode {
    let flags = match Flags::parse(arguments) {
        Ok(flags) => flags,
        Err(error) => return refuse(&[error]),
    };
    if flags.is("help") {
        print!("{}", kubelet::usage());
        return ExitCode::SUCCESS;
    }
    if flags.is("version") {
        println!("{VERSION}");
        return ExitCode::SUCCESS;
    }
    match read(&flags) {
        Ok(translation) => {
            for note in &translation.notes {
                eprintln!("{}", line(note));
            }
            start(&Source::Kubelet {
                toml: translation.toml,
                dir: PathBuf::from(WITLET_DIR),
            })
        }
        Err(errors) => refuse(&errors),
    }
}

fn refuse(errors: &[String]) -> ExitCode {
    for error in errors {
        eprintln!("Error: {error}");
    }
    ExitCode::FAILURE
}

fn line(note: &Note) -> String {
    let Note { of, value, why, .. } = note;
    let word = if note.differs {
        "is not followed"
    } else {
        "has no effect"
    };
    format!("{of} = {} {word}: {why}", value.replace('\n', " "))
}

/// `witlet config from-kubelet`: the configuration, and beneath it what has no counterpart.
pub(crate) fn print(file: &str, arguments: &[String]) -> ExitCode {
    let arguments = [&["--config".to_owned(), file.to_owned()], arguments].concat();
    let translation = Flags::parse(&arguments)
        .map_err(|error| vec![error])
        .and_then(|flags| read(&flags));
    match translation {
        Ok(translation) => {
            print!("{}", document(&translation));
            ExitCode::SUCCESS
        }
        Err(errors) => refuse(&errors),
    }
}

fn document(translation: &Translation) -> String {
    let mut out = translation.toml.clone();
    let headings = [
        (true, "# These are not followed; the node behaves otherwise:"),
        (false, "# These have no effect:"),
    ];
    for (differs, heading) in headings {
        let notes: Vec<_> = translation.notes.iter().filter(|n| n.differs == differs).collect();
        if !notes.is_empty() {
            out.push_str(&format!("\n{heading}\n"));
        }
        for Note { of, value, why, .. } in notes {
            out.push_str(&format!("#   {of} = {}: {why}\n", value.replace('\n', " ")));
        }
    }
    out
}

fn read(flags: &Flags) -> Result<Translation, Vec<String>> {
    let config = files(flags).map_err(|error| vec![error])?;
    kubelet::translate(config, flags)
}

/// The configuration file with its drop-ins merged.
fn files(flags: &Flags) -> Result<Value, String> {
    let mut config = match flags.text("config") {
        Some(path) => {
            let path = absolute(path)?;
            let load = |e| {
                format!(
                    "failed to load kubelet config file, path: {}, error: {e}",
                    path.display()
                )
            };
            file(&path).map_err(load)?
        }
        None => kubelet::without_file(),
    };
    if let Some(dir) = flags.text("config-dir") {
        let failed = |e| format!("failed to merge kubelet configs: {dir}: {e}");
        let mut drop_ins = Vec::new();
        collect(Path::new(dir), &mut drop_ins).map_err(|e| failed(e.to_string()))?;
        for path in drop_ins {
            let patch = file(&absolute(&path.display().to_string())?);
            kubelet::merge(
                &mut config,
                patch.map_err(|e| failed(format!("{}: {e}", path.display())))?,
            );
        }
    }
    Ok(config)
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|e| format!("{path}: {e}"))
}

fn file(path: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    let dir = path.parent().unwrap_or(Path::new("/")).display().to_string();
    kubelet::parse(&text, &dir)
}

/// `*.conf` below the directory, in lexical order.
fn collect(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = fs::read_dir(dir)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "conf") {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
