//! JavaScript: Firefox's engine with the source in it, made by `componentize-js` of npm, which is fetched once, in the versions of
//! the lock file beside this crate.
//!
//! QuickJS (`componentize-qjs` 0.4.5) would be a seventh of the size. It keeps what it was lent for a call until after the call,
//! which the component model forbids, so that every call with a pod traps.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::tools;

const TOOL: &str = "componentize-js-0.23.0";
const FILES: [(&str, &str); 2] = [
    ("package.json", include_str!("../tools/componentize-js/package.json")),
    (
        "package-lock.json",
        include_str!("../tools/componentize-js/package-lock.json"),
    ),
];

/// Fetches what makes components of JavaScript, unless it is there.
pub fn install() -> Result<PathBuf> {
    tools::once(TOOL, &FILES, |dir| {
        let missing = "there is no npm: install Node.js 20 or newer, as with `apt-get install nodejs npm`";
        let npm = tools::find(&["npm"]).context(missing)?;
        eprintln!("fetching {TOOL} from npm, once");
        let mut command = Command::new(npm);
        command
            .current_dir(dir)
            // Not `ci`: it insists on packages for all machines, of which registries may have only some.
            .args([
                "install",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--prefer-offline",
            ]);
        tools::run(&mut command).context("npm could not fetch what makes components of JavaScript")
    })
}

/// The component of the project's source.
pub fn build(root: &Path, source: &str, out: &Path) -> Result<PathBuf> {
    let tool = install()?;
    let node = tools::find(&["node"]).context("there is no node: install Node.js 20 or newer")?;
    let component = out.join("component.wasm");
    let mut command = Command::new(node);
    command
        .current_dir(&tool)
        .args(["--input-type=module", "--eval", COMPONENTIZE])
        .args([&root.join(source), &root.join("wit"), &component]);
    tools::run(&mut command)?;
    Ok(component)
}

const COMPONENTIZE: &str = r"
import { readFile, writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';
const [source, witPath, out] = process.argv.slice(1);
// What is not disabled becomes an import, of interfaces that nodes do not offer or leave empty.
const disableFeatures = ['stdio', 'random', 'clocks', 'http', 'fetch-event'];
const options = { witPath, worldName: 'plugin', disableFeatures };
const { component } = await componentize(await readFile(source, 'utf8'), options);
await writeFile(out, component);
";
