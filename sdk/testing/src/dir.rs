//! A model of one volume's directory, and of the node's paths.

use std::cell::RefCell;
use std::collections::BTreeMap;

use witlet_sdk::volume::steps::Bind;
use witlet_sdk::volume::{Dir, Entry, HostPaths, Kind, Metadata, Mount};
use witlet_sdk::{Error, Result};

/// The directory of one volume, in memory. The host's clean-up rules hold: see `volume.wit`.
#[derive(Debug)]
pub struct FakeDir {
    name: String,
    state: RefCell<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    ready: bool,
    mounted: Option<String>,
    /// By path; the directory itself is "". None while the directory does not exist.
    nodes: BTreeMap<String, Inode>,
    /// What a mount covers.
    covered: Option<BTreeMap<String, Inode>>,
    calls: Vec<String>,
    fail: Option<(String, Error)>,
}

#[derive(Clone, Debug)]
struct Inode {
    content: Content,
    mode: u32,
    uid: u32,
    gid: u32,
}

#[derive(Clone, Debug)]
enum Content {
    File(Vec<u8>),
    Dir,
    Symlink(String),
}

impl Inode {
    fn new(content: Content, mode: u32) -> Self {
        Self {
            content,
            mode,
            uid: 0,
            gid: 0,
        }
    }
}

impl FakeDir {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: RefCell::default(),
        }
    }

    /// The next call whose text starts with `prefix` fails. Texts are those of [`calls`](Self::calls).
    pub fn fail_at(&self, prefix: &str, error: Error) {
        self.state.borrow_mut().fail = Some((prefix.to_owned(), error));
    }

    /// The calls that changed something, in order: a function's name and its paths.
    pub fn calls(&self) -> Vec<String> {
        self.state.borrow().calls.clone()
    }

    pub fn forget_calls(&self) {
        self.state.borrow_mut().calls.clear();
    }

    /// What a reader finds at a path, symlinks followed, as text.
    pub fn content(&self, path: &str) -> Option<String> {
        let state = self.state.borrow();
        let path = resolve(&state.nodes, path, 0)?;
        match &state.nodes.get(&path)?.content {
            Content::File(data) => Some(String::from_utf8_lossy(data).into_owned()),
            Content::Dir => Some("<directory>".to_owned()),
            Content::Symlink(_) => None,
        }
    }

    /// Mode, uid and gid of what a reader finds at a path.
    pub fn attributes(&self, path: &str) -> Option<(u32, u32, u32)> {
        let state = self.state.borrow();
        let path = resolve(&state.nodes, path, 0)?;
        state.nodes.get(&path).map(|n| (n.mode, n.uid, n.gid))
    }

    /// A change from outside: what a container or an earlier agent left there.
    pub fn plant_file(&self, path: &str, data: &str) {
        self.state
            .borrow_mut()
            .nodes
            .insert(path.to_owned(), Inode::new(Content::File(data.into()), 0o644));
    }

    /// Something that is not the plugin's is mounted over the directory.
    pub fn mount_foreign(&self, filesystem: &str) {
        let mut state = self.state.borrow_mut();
        state.covered = Some(state.nodes.clone());
        state.mounted = Some(filesystem.to_owned());
    }

    fn change<T>(&self, call: String, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.state.borrow_mut();
        if state.fail.as_ref().is_some_and(|(prefix, _)| call.starts_with(prefix))
            && let Some((_, error)) = state.fail.take()
        {
            return Err(error);
        }
        state.calls.push(call);
        change(&mut state)
    }
}

fn missing(path: &str) -> Error {
    Error::NotFound(format!("{path}: no such file or directory"))
}

/// As the host writes the directory itself.
fn clean(path: &str) -> &str {
    if path == "." { "" } else { path }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Follows symlinks, in the middle and at the end.
fn resolve(nodes: &BTreeMap<String, Inode>, path: &str, depth: u8) -> Option<String> {
    if depth > 8 {
        return None;
    }
    let mut done = String::new();
    let mut rest = path.split('/').filter(|s| !s.is_empty() && *s != ".");
    while let Some(segment) = rest.next() {
        let here = if done.is_empty() {
            segment.to_owned()
        } else {
            format!("{done}/{segment}")
        };
        if let Content::Symlink(target) = &nodes.get(&here)?.content {
            let mut next = if done.is_empty() {
                target.clone()
            } else {
                format!("{done}/{target}")
            };
            for segment in rest {
                next = format!("{next}/{segment}");
            }
            return resolve(nodes, &next, depth + 1);
        }
        done = here;
    }
    nodes.contains_key(&done).then_some(done)
}

/// Where a path is, with symlinks in its parents followed but not at its end.
fn locate(nodes: &BTreeMap<String, Inode>, path: &str) -> Result<String> {
    let path = clean(path);
    if path.is_empty() {
        return Ok(String::new());
    }
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let dir = resolve(nodes, dir, 0).ok_or_else(|| missing(path))?;
    Ok(if dir.is_empty() {
        name.to_owned()
    } else {
        format!("{dir}/{name}")
    })
}

fn existing(nodes: &BTreeMap<String, Inode>, path: &str) -> Result<String> {
    let at = locate(nodes, path)?;
    if nodes.contains_key(&at) {
        Ok(at)
    } else {
        Err(missing(path))
    }
}

fn children<'a>(nodes: &'a BTreeMap<String, Inode>, dir: &'a str) -> impl Iterator<Item = (&'a String, &'a Inode)> {
    nodes
        .iter()
        .filter(move |(path, _)| !path.is_empty() && parent(path) == dir)
}

fn is_within(path: &str, dir: &str) -> bool {
    path == dir || dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

fn kind(content: &Content) -> Kind {
    match content {
        Content::File(_) => Kind::File,
        Content::Dir => Kind::Directory,
        Content::Symlink(_) => Kind::Symlink,
    }
}

impl Dir for FakeDir {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn exists(&self) -> bool {
        self.state.borrow().nodes.contains_key("")
    }

    fn create(&self, mode: u32) -> Result<()> {
        self.change(format!("create {mode:o}"), |state| {
            state
                .nodes
                .entry(String::new())
                .or_insert_with(|| Inode::new(Content::Dir, mode))
                .mode = mode;
            Ok(())
        })
    }

    fn destroy(&self) -> Result<()> {
        self.change("destroy".to_owned(), |state| {
            if state.mounted.is_some() {
                return Err(Error::Failed("something is mounted there".to_owned()));
            }
            state.nodes.clear();
            Ok(())
        })
    }

    fn mounted(&self) -> Result<Option<String>> {
        Ok(self.state.borrow().mounted.clone())
    }

    fn ready(&self) -> bool {
        self.state.borrow().ready
    }

    fn set_ready(&self, ready: bool) -> Result<()> {
        self.change(format!("set-ready {ready}"), |state| {
            state.ready = ready;
            Ok(())
        })
    }

    fn make_dir(&self, path: &str, mode: u32) -> Result<()> {
        self.change(format!("make-dir {path} {mode:o}"), |state| {
            let at = locate(&state.nodes, path)?;
            if state.nodes.contains_key(&at) {
                return Err(Error::Failed(format!("{path}: file exists")));
            }
            state.nodes.insert(at, Inode::new(Content::Dir, mode));
            Ok(())
        })
    }

    fn write(&self, path: &str, data: &[u8], mode: u32) -> Result<()> {
        self.change(format!("write {path} {mode:o}"), |state| {
            let at = locate(&state.nodes, path)?;
            state.nodes.insert(at, Inode::new(Content::File(data.to_vec()), mode));
            Ok(())
        })
    }

    fn append(&self, path: &str, data: &[u8]) -> Result<()> {
        self.change(format!("append {path}"), |state| {
            let at = locate(&state.nodes, path)?;
            match state.nodes.get_mut(&at).map(|n| &mut n.content) {
                Some(Content::File(content)) => {
                    content.extend_from_slice(data);
                    Ok(())
                }
                _ => Err(missing(path)),
            }
        })
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let state = self.state.borrow();
        let at = resolve(&state.nodes, path, 0).ok_or_else(|| missing(path))?;
        match state.nodes.get(&at).map(|n| &n.content) {
            Some(Content::File(data)) => Ok(data.clone()),
            _ => Err(Error::Failed(format!("{path}: is a directory"))),
        }
    }

    fn symlink(&self, target: &str, path: &str) -> Result<()> {
        self.change(format!("symlink {target} {path}"), |state| {
            let at = locate(&state.nodes, path)?;
            if state.nodes.contains_key(&at) {
                return Err(Error::Failed(format!("{path}: file exists")));
            }
            state
                .nodes
                .insert(at, Inode::new(Content::Symlink(target.to_owned()), 0o777));
            Ok(())
        })
    }

    fn read_link(&self, path: &str) -> Result<String> {
        let state = self.state.borrow();
        let at = existing(&state.nodes, path)?;
        match state.nodes.get(&at).map(|n| &n.content) {
            Some(Content::Symlink(target)) => Ok(target.clone()),
            _ => Err(Error::Failed(format!("{path}: invalid argument"))),
        }
    }

    fn rename(&self, source: &str, target: &str) -> Result<()> {
        self.change(format!("rename {source} {target}"), |state| {
            let from = existing(&state.nodes, source)?;
            let to = locate(&state.nodes, target)?;
            state.nodes.remove(&to);
            let moved: Vec<_> = state.nodes.keys().filter(|p| is_within(p, &from)).cloned().collect();
            for path in moved {
                if let Some(node) = state.nodes.remove(&path) {
                    let rest = path.strip_prefix(&from).unwrap_or_default();
                    state.nodes.insert(format!("{to}{rest}"), node);
                }
            }
            Ok(())
        })
    }

    fn remove(&self, path: &str) -> Result<()> {
        self.change(format!("remove {path}"), |state| {
            let at = existing(&state.nodes, path)?;
            if matches!(state.nodes.get(&at).map(|n| &n.content), Some(Content::Dir)) {
                return Err(Error::Failed(format!("{path}: is a directory")));
            }
            state.nodes.remove(&at);
            Ok(())
        })
    }

    fn remove_tree(&self, path: &str) -> Result<()> {
        self.change(format!("remove-tree {path}"), |state| {
            let at = existing(&state.nodes, path)?;
            state.nodes.retain(|p, _| !is_within(p, &at));
            Ok(())
        })
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        let state = self.state.borrow();
        let at = resolve(&state.nodes, clean(path), 0).ok_or_else(|| missing(path))?;
        let name = |p: &str| p.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(children(&state.nodes, &at)
            .map(|(p, n)| Entry {
                name: name(p),
                kind: kind(&n.content),
            })
            .collect())
    }

    fn stat(&self, path: &str) -> Result<Metadata> {
        let state = self.state.borrow();
        let at = existing(&state.nodes, path)?;
        let node = state.nodes.get(&at).ok_or_else(|| missing(path))?;
        let size = match &node.content {
            Content::File(data) => data.len() as u64,
            _ => 0,
        };
        Ok(Metadata {
            kind: kind(&node.content),
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            size,
        })
    }

    fn chown(&self, path: &str, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        self.change(format!("chown {path} {uid:?} {gid:?}"), |state| {
            let at = existing(&state.nodes, path)?;
            if let Some(node) = state.nodes.get_mut(&at) {
                node.uid = uid.unwrap_or(node.uid);
                node.gid = gid.unwrap_or(node.gid);
            }
            Ok(())
        })
    }

    fn chmod(&self, path: &str, mode: u32) -> Result<()> {
        self.change(format!("chmod {path} {mode:o}"), |state| {
            let at = existing(&state.nodes, path)?;
            if let Some(node) = state.nodes.get_mut(&at) {
                node.mode = mode;
            }
            Ok(())
        })
    }

    fn apply_fs_group(&self, gid: u32, read_only: bool) -> Result<()> {
        self.change(format!("apply-fs-group {gid} {read_only}"), |state| {
            let more = if read_only { 0o440 } else { 0o660 };
            for node in state.nodes.values_mut() {
                node.gid = gid;
                match node.content {
                    Content::File(_) => node.mode |= more,
                    Content::Dir => node.mode |= more | 0o2110,
                    Content::Symlink(_) => {}
                }
            }
            Ok(())
        })
    }
}

impl FakeDir {
    fn mount(&self, call: String, filesystem: &str) -> Result<()> {
        self.change(call, |state| {
            let Some(root) = state.nodes.get("").cloned() else {
                return Err(missing("the directory"));
            };
            let covered = std::mem::replace(&mut state.nodes, BTreeMap::from([(String::new(), root)]));
            state.covered = Some(covered);
            state.mounted = Some(filesystem.to_owned());
            Ok(())
        })
    }
}

impl Mount for FakeDir {
    fn tmpfs(&self, size: Option<u64>) -> Result<()> {
        self.mount(format!("tmpfs {size:?}"), "tmpfs")
    }

    fn hugetlbfs(&self, page_size: u64) -> Result<()> {
        self.mount(format!("hugetlbfs {page_size}"), "hugetlbfs")
    }

    fn nfs(&self, source: &str, options: &[String]) -> Result<()> {
        self.mount(format!("nfs {source} {}", options.join(",")), "nfs4")
    }

    fn unmount(&self) -> Result<()> {
        self.change("unmount".to_owned(), |state| {
            state.mounted = None;
            state.nodes = state.covered.take().unwrap_or_default();
            Ok(())
        })
    }
}

impl Bind for FakeDir {
    fn bind_to(&self, target: &Self, read_only: bool) -> Result<()> {
        let nodes = self.state.borrow().nodes.clone();
        let how = if read_only { " ro" } else { "" };
        target.mount(format!("bind {}{how}", self.name), "ext4")?;
        target.state.borrow_mut().nodes = nodes;
        Ok(())
    }
}

/// Paths of a node.
#[derive(Debug, Default)]
pub struct Node {
    pub paths: RefCell<BTreeMap<String, Kind>>,
}

impl HostPaths for Node {
    fn kind_of(&self, path: &str) -> Result<Option<Kind>> {
        Ok(self.paths.borrow().get(path).copied())
    }

    fn make_dirs(&self, path: &str, _: u32) -> Result<()> {
        self.paths.borrow_mut().insert(path.to_owned(), Kind::Directory);
        Ok(())
    }

    fn create_file(&self, path: &str, _: u32) -> Result<()> {
        if !self.paths.borrow().contains_key(parent(path)) {
            return Err(missing(path));
        }
        self.paths.borrow_mut().insert(path.to_owned(), Kind::File);
        Ok(())
    }
}
