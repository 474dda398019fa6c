//! Loading a library and calling it: all `unsafe` of native plugins is here, and the structures are those of
//! `sdk/c/include/witlet_plugin.h`.
//!
//! The file's content is checked by the caller and loaded from a sealed copy in memory, so that what runs is what was checked,
//! whatever becomes of the file. A library is loaded once and never unloaded: code may still run in it, or be registered
//! somewhere by it.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::fs::File;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};
use rustix::fs::{MemfdFlags, SealFlags};

use crate::capability::log::{self, Level};
use crate::error::{CallError, Fault, FaultKind, LoadCause, clean};
use crate::state::Plugin;

const MAGIC: u32 = 0x544C_5457;
const VERSION: u32 = 1;
const MAX_MANIFEST: usize = 64 << 10;
/// As a guest may answer at most.
const MAX_ANSWER: usize = 16 << 20;

#[repr(C)]
#[derive(Clone, Copy)]
struct Abi {
    magic: u32,
    version: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Bytes {
    data: *const u8,
    len: usize,
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        Self {
            data: bytes.as_ptr(),
            len: bytes.len(),
        }
    }
}

#[repr(C)]
struct Host {
    size: usize,
    context: *mut c_void,
    name: Bytes,
    config: Bytes,
    log: extern "C" fn(*mut c_void, u32, Bytes),
}

#[repr(C)]
struct Response {
    size: usize,
    data: *mut u8,
    len: usize,
}

/// As far as this version knows it; `size` may say that there is more.
#[repr(C)]
#[derive(Clone, Copy)]
struct Table {
    size: usize,
    this: *mut c_void,
    call: Option<extern "C" fn(*mut c_void, Bytes, Bytes, *mut Response) -> i32>,
    release: Option<extern "C" fn(*mut c_void, *mut u8, usize)>,
    close: Option<extern "C" fn(*mut c_void)>,
}

type Open = extern "C" fn(*const Host) -> *const Table;

/// A library that stays as long as the process.
pub(super) struct Library {
    pub(super) manifest: String,
    open: Open,
}

/// By digest: the same content is loaded once, whatever it is called.
static LOADED: Mutex<BTreeMap<String, Arc<Library>>> = Mutex::new(BTreeMap::new());

impl Library {
    /// `digest` is that of `bytes`, which the operator pinned.
    pub(super) fn load(name: &str, digest: &str, bytes: &[u8]) -> Result<Arc<Self>, LoadCause> {
        // Nothing is left half done while the lock is held.
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = loaded.get(digest) {
            return Ok(Arc::clone(library));
        }
        let copy = sealed(name, bytes).map_err(|e| LoadCause::Link(format!("no memory to load it from: {e}")))?;
        let library = Arc::new(Self::open_copy(copy).map_err(LoadCause::Link)?);
        loaded.insert(digest.to_owned(), Arc::clone(&library));
        Ok(library)
    }

    fn open_copy(copy: File) -> Result<Self, String> {
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        // SAFETY: loading runs the library's constructors, which can do anything; the operator said that this very content is
        // trusted as the agent is (`trusted = true` and the pin), and nobody can have changed it since it was compared.
        let handle = unsafe { Handle::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|e| format!("it cannot be loaded: {}", shown(&e)))?;
        // It is never unloaded, also if it turns out to be no plugin: pointers into it stay good. Its descriptor stays open as
        // long, because the loader takes a library of the same name, which is that descriptor's number, for the same one.
        let handle = ManuallyDrop::new(handle);
        std::mem::forget(copy);
        let missing = |symbol: &str| {
            format!("it has no symbol {symbol}; it is no plugin as sdk/c/include/witlet_plugin.h has it")
        };
        // SAFETY: the symbols are data of these types, by the ABI's definition; the first word, which is read before anything
        // else, says that the library means that ABI. `Abi` has no padding and no invalid values.
        let abi = unsafe {
            handle
                .get::<*const Abi>(b"witlet_plugin_abi\0")
                .map(|s| (*s).read_unaligned())
        }
        .map_err(|_| missing("witlet_plugin_abi"))?;
        if abi.magic != MAGIC {
            return Err("its witlet_plugin_abi does not begin with WITLET_ABI_MAGIC".to_owned());
        }
        if abi.version != VERSION {
            return Err(format!(
                "it was built for version {} of the native ABI, this node has version {VERSION}; build it with this release's witlet_plugin.h",
                abi.version
            ));
        }
        // SAFETY: as above: bytes that end with a zero, which are static data of a library that is never unloaded.
        let manifest = unsafe {
            handle
                .get::<*const c_char>(b"witlet_plugin_manifest\0")
                .map(|s| CStr::from_ptr(*s))
        }
        .map_err(|_| missing("witlet_plugin_manifest"))?;
        let manifest = manifest
            .to_str()
            .map_err(|e| format!("its manifest is no UTF-8: {e}"))?;
        if manifest.len() > MAX_MANIFEST {
            return Err(format!(
                "its manifest has {} bytes, at most {MAX_MANIFEST} are read",
                manifest.len()
            ));
        }
        // SAFETY: the symbol is a function of this type, by the ABI that the library says it was built for.
        let open = unsafe { handle.get::<Open>(b"witlet_plugin_open\0").map(|s| *s) }
            .map_err(|_| missing("witlet_plugin_open"))?;
        Ok(Self {
            manifest: manifest.to_owned(),
            open,
        })
    }
}

fn shown(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// A file in memory that nobody can change any more, this process included.
fn sealed(name: &str, bytes: &[u8]) -> std::io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create(format!("witlet-{name}"), flags)?);
    file.write_all(bytes)?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(file)
}

/// What the host functions find behind `context`.
struct Context {
    plugin: Arc<Plugin>,
    last_error: Mutex<String>,
}

/// One instance: a generation's own.
pub(super) struct Instance {
    table: Table,
    /// The plugin may keep these until it was closed.
    host: NonNull<Host>,
    context: NonNull<Context>,
}

// SAFETY: the ABI demands that an instance can be called by several threads at once; `host` and `context` are only read, and
// freed when nobody has the instance any more.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Instance {
    #[allow(clippy::needless_pass_by_value)] // It outlives the call in what it is kept in.
    pub(super) fn open(library: Arc<Library>, plugin: Arc<Plugin>) -> Result<Self, String> {
        let name: Arc<str> = Arc::clone(&plugin.name);
        let context = NonNull::from(Box::leak(Box::new(Context {
            plugin: Arc::clone(&plugin),
            last_error: Mutex::default(),
        })));
        // The strings live in the plugin, which the context holds.
        let host = NonNull::from(Box::leak(Box::new(Host {
            size: size_of::<Host>(),
            context: context.as_ptr().cast(),
            name: Bytes::of(name.as_bytes()),
            config: Bytes::of(plugin.config.as_bytes()),
            log: write_log,
        })));
        let mut instance = Self {
            table: Table {
                size: size_of::<Table>(),
                this: std::ptr::null_mut(),
                call: None,
                release: None,
                close: None,
            },
            host,
            context,
        };
        let table = (library.open)(host.as_ptr());
        if table.is_null() {
            let why = instance.last_error();
            let why = if why.is_empty() {
                "it does not say why".to_owned()
            } else {
                why
            };
            return Err(format!("witlet_plugin_open refused: {why}"));
        }
        // SAFETY: not null, and by the ABI a structure that begins with its size, which is read alone at first.
        let size = unsafe { (&raw const (*table).size).read() };
        if size < size_of::<Table>() {
            // Made, but there is no way to end it: what it was given stays.
            std::mem::forget(instance);
            return Err(format!(
                "its structure witlet_plugin has {size} bytes, which is less than version {VERSION} has"
            ));
        }
        // SAFETY: it is as large as what is read, and every value of its fields is one of `Table`'s: functions may be null.
        let read = unsafe { table.read() };
        if read.call.is_none() {
            std::mem::forget(instance);
            return Err("its structure witlet_plugin has no call".to_owned());
        }
        instance.table = read;
        Ok(instance)
    }

    fn last_error(&self) -> String {
        // SAFETY: made from a box in `open` and freed in `drop` alone.
        let context = unsafe { self.context.as_ref() };
        let text = context.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        text.clone()
    }

    /// Calls the plugin, on this thread, for as long as it takes.
    pub(super) fn call(&self, operation: &str, request: &[u8]) -> Result<Vec<u8>, CallError> {
        let Some(call) = self.table.call else {
            return Err(CallError::Host("the plugin has no call".to_owned()));
        };
        let mut response = Response {
            size: size_of::<Response>(),
            data: std::ptr::null_mut(),
            len: 0,
        };
        let status = call(
            self.table.this,
            Bytes::of(operation.as_bytes()),
            Bytes::of(request),
            &raw mut response,
        );
        let Response { data, len, .. } = response;
        let answer = if data.is_null() {
            Ok(Vec::new())
        } else if len > MAX_ANSWER {
            Err(CallError::Nonsense(format!(
                "{len} bytes, at most {MAX_ANSWER} are taken"
            )))
        } else {
            // SAFETY: by the ABI `len` bytes that are the plugin's until they are released, below.
            Ok(unsafe { std::slice::from_raw_parts(data, len) }.to_vec())
        };
        if let Some(release) = self.table.release
            && !data.is_null()
        {
            release(self.table.this, data, len);
        }
        let answer = answer?;
        let Some(kind) = kind(status) else {
            return match status {
                0 => Ok(answer),
                _ => Err(CallError::Nonsense(format!(
                    "the status {status}, which is no witlet_status"
                ))),
            };
        };
        let text = clean(String::from_utf8_lossy(&answer).into_owned(), 8 << 10);
        Err(CallError::Guest(Fault::new(kind, text)))
    }
}

fn kind(status: i32) -> Option<FaultKind> {
    Some(match status {
        1 => FaultKind::Invalid,
        2 => FaultKind::NotFound,
        3 => FaultKind::Denied,
        4 => FaultKind::Unavailable,
        5 => FaultKind::Timeout,
        6 => FaultKind::Failed,
        7 => FaultKind::Other,
        _ => return None,
    })
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Nothing runs in it: a call holds the instance.
        if let Some(close) = self.table.close {
            close(self.table.this);
        }
        // SAFETY: both were leaked from boxes in `open`, and nobody uses them after `close`, by the ABI.
        unsafe {
            drop(Box::from_raw(self.host.as_ptr()));
            drop(Box::from_raw(self.context.as_ptr()));
        }
    }
}

extern "C" fn write_log(context: *mut c_void, level: u32, text: Bytes) {
    // Nothing unwinds into the plugin.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if context.is_null() || text.data.is_null() {
            return;
        }
        // SAFETY: the context that the host's table has, which lives until `close` returned; the text is the plugin's, valid
        // during the call.
        let (context, text) = unsafe {
            let text = std::slice::from_raw_parts(text.data, text.len);
            (&*context.cast::<Context>(), text)
        };
        let level = match level {
            0 => Level::Error,
            1 => Level::Warn,
            2 => Level::Info,
            3 => Level::Debug,
            _ => Level::Trace,
        };
        let text = String::from_utf8_lossy(text).into_owned();
        if matches!(level, Level::Error) {
            let mut last = context.last_error.lock().unwrap_or_else(PoisonError::into_inner);
            *last = clean(text.clone(), 1 << 10);
        }
        log::write(&context.plugin, level, text);
    }));
}
