//! The system's `libpmix.so.2`, loaded at run time: its types, its functions, and the calls it makes back.
//!
//! The only unsafe code of this package. The layouts are those of PMIx's standard, versions 4 and 5 (`pmix_common.h`: keys of
//! 512 bytes, name spaces of 256); another version is refused. What is handed to the library as a description is
//! never freed: it may look at it until the process, which serves one step, ends.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libloading::os::unix::{Library as Loaded, RTLD_GLOBAL, RTLD_NOW, Symbol};

use crate::service::Service;

const NAME: &str = "libpmix.so.2";
/// How long the library may take to do one thing of its own.
const PATIENCE: Duration = Duration::from_secs(20);

const SUCCESS: c_int = 0;
const NOT_FOUND: c_int = -46;
const NOT_SUPPORTED: c_int = -47;
/// It was done at once: no call back follows.
const DONE: c_int = -157;
const RANK_ALL: u32 = 0xffff_fffe;

/// Places in the table of the host's functions, and its length: room beyond what any version has.
const FINALIZED: usize = 1;
const ABORT: usize = 2;
const FENCE: usize = 3;
const DIRECT: usize = 4;
const TABLE: usize = 64;

#[repr(C)]
struct Proc {
    nspace: [u8; 256],
    rank: u32,
}

impl Proc {
    fn new(name: &str, rank: u32) -> Self {
        let mut nspace = [0; 256];
        for (to, from) in nspace.iter_mut().take(255).zip(name.bytes()) {
            *to = from;
        }
        Self { nspace, rank }
    }

    fn is_of(&self, name: &str) -> bool {
        CStr::from_bytes_until_nul(&self.nspace).is_ok_and(|own| own.to_bytes() == name.as_bytes())
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
union Data {
    text: *mut c_char,
    number: u32,
    small: u16,
    array: *mut Array,
    room: [u64; 3],
}

#[repr(C)]
struct CValue {
    kind: u16,
    data: Data,
}

#[repr(C)]
struct Info {
    key: [u8; 512],
    flags: u32,
    value: CValue,
}

#[repr(C)]
struct Array {
    kind: u16,
    size: usize,
    items: *mut c_void,
}

type Done = extern "C" fn(c_int, *mut c_void);
type Release = extern "C" fn(*mut c_void);
type Modex = extern "C" fn(c_int, *const c_char, usize, *mut c_void, Option<Release>, *mut c_void);
type Response = extern "C" fn(c_int, *mut c_char, usize, *mut c_void);

unsafe extern "C" {
    /// The C library's, for memory that libpmix hands over.
    fn free(memory: *mut c_void);
}

/// A value of a description.
pub(crate) enum Value {
    Text(String),
    /// `uint32`.
    Number(u32),
    /// `uint16`.
    Small(u16),
    Rank(u32),
    /// A description within the description.
    Fields(Fields),
}

/// A description: keys and values, in order.
#[derive(Default)]
pub(crate) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    pub(crate) fn add(&mut self, key: &'static str, value: Value) {
        self.0.push((key, value));
    }

    /// As the library reads it; stays for ever.
    fn leak(self) -> (*mut Info, usize) {
        let infos: Vec<Info> = self.0.into_iter().map(|(key, value)| info(key, value)).collect();
        let infos = infos.leak();
        (infos.as_mut_ptr(), infos.len())
    }
}

fn info(key: &str, value: Value) -> Info {
    let mut info = Info { key: [0; 512], flags: 0, value: CValue { kind: 0, data: Data { room: [0; 3] } } };
    for (to, from) in info.key.iter_mut().zip(key.bytes()) {
        *to = from;
    }
    // PMIX_STRING, PMIX_UINT16, PMIX_UINT32, PMIX_PROC_RANK, PMIX_DATA_ARRAY of PMIX_INFO.
    let (kind, data) = match value {
        Value::Text(text) => {
            // Names of nodes and folders have no zero byte; what had one ends there.
            let text: Vec<u8> = text.into_bytes().into_iter().take_while(|byte| *byte != 0).collect();
            (3, Data { text: CString::new(text).unwrap_or_default().into_raw() })
        }
        Value::Small(small) => (13, Data { small }),
        Value::Number(number) => (14, Data { number }),
        Value::Rank(number) => (40, Data { number }),
        Value::Fields(fields) => {
            let (items, size) = fields.leak();
            let array = Box::leak(Box::new(Array { kind: 24, size, items: items.cast() }));
            (39, Data { array })
        }
    };
    info.value = CValue { kind, data };
    info
}

/// Who waits for bytes; answered once.
pub(crate) struct Reply {
    function: Modex,
    data: *mut c_void,
}

// SAFETY: the library lets its call back be made from any thread, and hands its pointer back unread.
unsafe impl Send for Reply {}

impl Reply {
    /// These bytes.
    pub(crate) fn give(self, bytes: Vec<u8>) {
        let bytes = Box::new(bytes);
        let (start, length) = (bytes.as_ptr().cast::<c_char>(), bytes.len());
        // Freed by the library's call of `forget_bytes`.
        let owner = Box::into_raw(bytes).cast::<c_void>();
        (self.function)(SUCCESS, start, length, self.data, Some(forget_bytes), owner);
    }

    /// There are none.
    pub(crate) fn fail(self) {
        (self.function)(NOT_FOUND, ptr::null(), 0, self.data, None, ptr::null_mut());
    }
}

extern "C" fn forget_bytes(owner: *mut c_void) {
    // SAFETY: made by `Reply::give` from a box of this type, and given back once.
    drop(unsafe { Box::from_raw(owner.cast::<Vec<u8>>()) });
}

/// Whom the library's threads call.
static HOST: OnceLock<Arc<Service>> = OnceLock::new();

/// The library.
pub(crate) struct Library {
    // Never unloaded while the process lives: its threads run its code.
    init: Symbol<unsafe extern "C" fn(*mut usize, *mut Info, usize) -> c_int>,
    finalize: Symbol<unsafe extern "C" fn() -> c_int>,
    register_job:
        Symbol<unsafe extern "C" fn(*const c_char, c_int, *mut Info, usize, Done, *mut c_void) -> c_int>,
    register_task:
        Symbol<unsafe extern "C" fn(*const Proc, u32, u32, *mut c_void, Done, *mut c_void) -> c_int>,
    setup_fork: Symbol<unsafe extern "C" fn(*const Proc, *mut *mut *mut c_char) -> c_int>,
    request: Symbol<unsafe extern "C" fn(*const Proc, Response, *mut c_void) -> c_int>,
    error_text: Symbol<unsafe extern "C" fn(c_int) -> *const c_char>,
}

impl Library {
    /// Loads it. The error is a sentence.
    pub(crate) fn load() -> Result<Self, String> {
        // SAFETY: the system's own library; its initialisers are those of any program that links it. Its parts that
        // it loads itself need its names, hence RTLD_GLOBAL.
        let loaded = unsafe { Loaded::open(Some(NAME), RTLD_NOW | RTLD_GLOBAL) };
        let loaded = loaded.map_err(|error| format!("PMIx is not installed on this node: {error}"))?;
        macro_rules! find {
            ($name:literal) => {
                // SAFETY: the type stands in PMIx's standard for this name.
                unsafe { loaded.get(concat!($name, "\0").as_bytes()) }
                    .map_err(|error| format!("{NAME} has no {}: {error}", $name))?
            };
        }
        let version: Symbol<unsafe extern "C" fn() -> *const c_char> = find!("PMIx_Get_version");
        // SAFETY: a C string that stays.
        let version = unsafe { CStr::from_ptr(version()) }.to_string_lossy().into_owned();
        let major = version.split([' ', ',']).find_map(|word| word.split('.').next()?.parse::<u32>().ok());
        if !matches!(major, Some(4 | 5)) {
            return Err(format!("{NAME} is \"{version}\"; versions 4 and 5 are known here"));
        }
        let library = Self {
            init: find!("PMIx_server_init"),
            finalize: find!("PMIx_server_finalize"),
            register_job: find!("PMIx_server_register_nspace"),
            register_task: find!("PMIx_server_register_client"),
            setup_fork: find!("PMIx_server_setup_fork"),
            request: find!("PMIx_server_dmodex_request"),
            error_text: find!("PMIx_Error_string"),
        };
        std::mem::forget(loaded);
        Ok(library)
    }

    fn sentence(&self, what: &str, status: c_int) -> String {
        // SAFETY: a C string that stays, for every number.
        let text = unsafe { CStr::from_ptr((self.error_text)(status)) }.to_string_lossy().into_owned();
        format!("{NAME}: {what}: {text}")
    }

    /// Makes it serve; `host` is called from its threads.
    pub(crate) fn start(&self, description: Fields, host: Arc<Service>) -> Result<(), String> {
        if HOST.set(host).is_err() {
            return Err("a process serves one step".to_owned());
        }
        let table: &'static mut [usize; TABLE] = Box::leak(Box::new([0; TABLE]));
        table[FINALIZED] = finalized as *const () as usize;
        table[ABORT] = abort as *const () as usize;
        table[FENCE] = fence as *const () as usize;
        table[DIRECT] = direct as *const () as usize;
        let (infos, count) = description.leak();
        // SAFETY: the table's functions have the standard's types for their places, and what is not served is null;
        // table and description stay for ever.
        match unsafe { (self.init)(table.as_mut_ptr(), infos, count) } {
            SUCCESS => Ok(()),
            status => Err(self.sentence("PMIx_server_init", status)),
        }
    }

    pub(crate) fn register_job(&self, name: &str, local: usize, fields: Fields) -> Result<(), String> {
        let proc = Proc::new(name, 0);
        let (infos, count) = fields.leak();
        let local = c_int::try_from(local).unwrap_or(c_int::MAX);
        self.finish("PMIx_server_register_nspace", |done, data| {
            // SAFETY: a name with its zero byte, read before the call returns; the description stays for ever.
            unsafe { (self.register_job)(proc.nspace.as_ptr().cast(), local, infos, count, done, data) }
        })
    }

    pub(crate) fn register_task(&self, name: &str, rank: u32, uid: u32, gid: u32) -> Result<(), String> {
        let proc = Box::leak(Box::new(Proc::new(name, rank)));
        self.finish("PMIx_server_register_client", |done, data| {
            // SAFETY: the process's name stays for ever; no object of ours is passed.
            unsafe { (self.register_task)(proc, uid, gid, ptr::null_mut(), done, data) }
        })
    }

    /// Does something that may end later, on another thread.
    fn finish(&self, what: &str, call: impl FnOnce(Done, *mut c_void) -> c_int) -> Result<(), String> {
        let (sender, ended) = mpsc::channel::<c_int>();
        let data = Box::into_raw(Box::new(sender)).cast::<c_void>();
        let status = match call(told, data) {
            SUCCESS => ended.recv_timeout(PATIENCE).map_err(|_| format!("{NAME}: {what} does not end"))?,
            status => status,
        };
        match status {
            SUCCESS | DONE => Ok(()),
            status => Err(self.sentence(what, status)),
        }
    }

    /// What a task's environment must hold.
    pub(crate) fn environment(&self, name: &str, rank: u32) -> Result<Vec<Vec<u8>>, String> {
        let proc = Proc::new(name, rank);
        let mut list: *mut *mut c_char = ptr::null_mut();
        // SAFETY: the name is read, the list is made or made longer.
        let status = unsafe { (self.setup_fork)(&raw const proc, &raw mut list) };
        if status != SUCCESS {
            return Err(self.sentence("PMIx_server_setup_fork", status));
        }
        let mut entries = Vec::new();
        // SAFETY: a list of C strings that ends in a null pointer, as `environ` does; it is not freed.
        unsafe {
            while !list.is_null() && !(*list).is_null() {
                entries.push(CStr::from_ptr(*list).to_bytes().to_vec());
                list = list.add(1);
            }
        }
        Ok(entries)
    }

    /// Looks up what a local rank has put, now or when it does; a byte 1 and the bytes, or a byte 0.
    pub(crate) fn look_up(&self, name: &str, rank: u32, answer: Box<dyn FnOnce(Vec<u8>) + Send>) {
        let proc = Box::leak(Box::new(Proc::new(name, rank)));
        let data = Box::into_raw(Box::new(answer));
        // SAFETY: the name stays for ever; the data is taken back by `found`, called once where this succeeds.
        if unsafe { (self.request)(proc, found, data.cast()) } != SUCCESS {
            // SAFETY: nobody else has it: the call back is not made after a failure.
            let answer = unsafe { Box::from_raw(data) };
            answer(vec![0]);
        }
    }

    /// Ends its threads and its sockets.
    pub(crate) fn end(&self) {
        // SAFETY: called once, at the end. What it says changes nothing any more.
        unsafe { (self.finalize)() };
    }
}

extern "C" fn told(status: c_int, data: *mut c_void) {
    // SAFETY: made by `finish` from a box of this type, and given back once.
    let sender = unsafe { Box::from_raw(data.cast::<mpsc::Sender<c_int>>()) };
    // Who waited in vain has gone.
    let _ = sender.send(status);
}

extern "C" fn found(status: c_int, bytes: *mut c_char, length: usize, data: *mut c_void) {
    // SAFETY: made by `look_up` from a box of this type, and given back once.
    let answer = unsafe { Box::from_raw(data.cast::<Box<dyn FnOnce(Vec<u8>) + Send>>()) };
    let mut all = vec![u8::from(status == SUCCESS)];
    // SAFETY: the library's own bytes, valid during this call.
    all.extend_from_slice(unsafe { bytes_of(bytes, length) });
    answer(all);
}

/// # Safety
/// `start` is null or has `length` bytes that stay while they are looked at.
unsafe fn bytes_of<'a>(start: *const c_char, length: usize) -> &'a [u8] {
    if start.is_null() || length == 0 {
        return &[];
    }
    // SAFETY: what the caller promises.
    unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) }
}

extern "C" fn finalized(_: *const Proc, _: *mut c_void, _: Option<Done>, _: *mut c_void) -> c_int {
    if let Some(host) = HOST.get() {
        host.leave();
    }
    DONE
}

extern "C" fn abort(
    proc: *const Proc,
    _: *mut c_void,
    status: c_int,
    text: *const c_char,
    _: *mut Proc,
    _: usize,
    _: Option<Done>,
    _: *mut c_void,
) -> c_int {
    if let Some(host) = HOST.get() {
        // SAFETY: the library's own name and C string, valid during this call; either may be null.
        let (rank, text) = unsafe {
            let text = if text.is_null() {
                String::new()
            } else {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            };
            (proc.as_ref().map_or(0, |proc| proc.rank), text)
        };
        host.abort(rank, status, &text);
    }
    DONE
}

extern "C" fn fence(
    procs: *const Proc,
    count: usize,
    _: *const Info,
    _: usize,
    data: *mut c_char,
    length: usize,
    answer: Modex,
    answer_data: *mut c_void,
) -> c_int {
    let Some(host) = HOST.get() else { return NOT_SUPPORTED };
    // SAFETY: the library's own array, valid during this call.
    let procs = if procs.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(procs, count) } };
    if procs.iter().any(|proc| !proc.is_of(host.name())) {
        return NOT_SUPPORTED;
    }
    let all = procs.is_empty() || procs.iter().any(|proc| proc.rank == RANK_ALL);
    let ranks = if all { Vec::new() } else { procs.iter().map(|proc| proc.rank).collect() };
    // SAFETY: the library's own bytes, which are ours from here on and freed as it would.
    let bytes = unsafe {
        let bytes = bytes_of(data, length).to_vec();
        free(data.cast());
        bytes
    };
    host.fence(ranks, bytes, Reply { function: answer, data: answer_data });
    SUCCESS
}

extern "C" fn direct(
    proc: *const Proc,
    _: *const Info,
    _: usize,
    answer: Modex,
    answer_data: *mut c_void,
) -> c_int {
    // SAFETY: the library's own name, valid during this call.
    match (HOST.get(), unsafe { proc.as_ref() }) {
        (Some(host), Some(proc)) if proc.is_of(host.name()) => {
            host.ask(proc.rank, Reply { function: answer, data: answer_data });
            SUCCESS
        }
        _ => NOT_SUPPORTED,
    }
}

/// What the supervisor has put into this process: the exchange stream (0), the specification (3), the place for one
/// answer (4).
pub(crate) fn gifts() -> (UnixStream, File, File) {
    // SAFETY: the supervisor opens these for us, and nothing else in this process has taken them: this is the first
    // thing that main does. Where one is not open, its first use says so.
    unsafe { (UnixStream::from_raw_fd(0), File::from_raw_fd(3), File::from_raw_fd(4)) }
}
