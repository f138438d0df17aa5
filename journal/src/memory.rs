//! A modelled disk: it knows what is durable and what a power cut may leave, and it fails on demand. For tests.
//!
//! Every change is kept as an event until a sync makes it durable: a write as the units (512 bytes or 4 KiB) it
//! touches, a change of names as a whole. A power cut leaves any prefix, or any subset, of the events. After a sync
//! that failed, some units are durable by chance and the others never will be, although reads still show them: what
//! Linux does.
//!
//! All [`handle`](MemoryDisk::handle)s show the same disk; each is an owner of its own, and writes of one that
//! was superseded fail. An [`observe`](MemoryDisk::observe)r sees the disk after each change.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile, LockError, Ownership};

/// What a power cut leaves whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A sector of 512 bytes.
    Sector,
    /// A page of 4,096 bytes.
    Page,
}

impl Unit {
    fn bytes(self) -> usize {
        match self {
            Self::Sector => 512,
            Self::Page => 4096,
        }
    }
}

/// What goes wrong with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with EIO: a write after a part of it, a sync after a random subset became durable.
    Eio,
    /// A write stores a part and says so; other operations succeed.
    Short,
    /// A write stores a part and fails with ENOSPC; a creation fails with it; other operations succeed.
    NoSpace,
}

/// A small seeded generator (splitmix64), so that tests need no other crate.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The generator of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

type FileNumber = usize;

#[derive(Debug, Clone)]
struct Inode {
    /// What reads show.
    visible: Arc<Vec<u8>>,
    /// What a power cut certainly leaves.
    durable: Arc<Vec<u8>>,
    /// Writes since the last sync, with their place in the order of all events.
    writes: Vec<(u64, usize, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(String, FileNumber),
    Move(String, String, FileNumber),
    Unset(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, FileNumber>) {
        match self {
            Self::Set(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Move(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Unset(name) => {
                names.remove(name);
            }
        }
    }
}

#[derive(Default)]
struct World {
    files: Vec<Inode>,
    names: BTreeMap<String, FileNumber>,
    durable_names: BTreeMap<String, FileNumber>,
    name_changes: Vec<(u64, NameChange)>,
    events: u64,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    /// Bytes that all named files together may have.
    capacity: Option<u64>,
    dice: Option<Dice>,
    owner: u64,
    handles: u64,
}

type Observer = Box<dyn FnMut(&MemoryDisk) + Send>;

struct Hub {
    world: Mutex<World>,
    observer: Mutex<Option<Observer>>,
}

/// A modelled disk.
#[derive(Clone)]
pub struct MemoryDisk {
    hub: Arc<Hub>,
    handle: u64,
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::with(World::default())
    }

    fn with(world: World) -> Self {
        Self { hub: Arc::new(Hub { world: Mutex::new(world), observer: Mutex::new(None) }), handle: 0 }
    }

    /// Another owner's view of the same disk.
    #[must_use]
    pub fn handle(&self) -> Self {
        let mut world = locked(&self.hub.world);
        world.handles += 1;
        Self { hub: Arc::clone(&self.hub), handle: world.handles }
    }

    /// Calls `observer` after each operation that changes something, with the disk as it is then.
    pub fn observe(&self, observer: impl FnMut(&Self) + Send + 'static) {
        *locked(&self.hub.observer) = Some(Box::new(observer));
    }

    /// Operations that changed, or would have changed, something so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        locked(&self.hub.world).operations
    }

    /// Lets operation number `operation` (the next one is [`operations`](Self::operations)) go wrong; `seed` decides
    /// how much of it was done.
    pub fn inject(&self, operation: u64, fault: Fault, seed: u64) {
        let mut world = locked(&self.hub.world);
        world.faults.insert(operation, fault);
        world.dice = Some(Dice::new(seed));
    }

    /// Forgets the faults that have not come up.
    pub fn clear_faults(&self) {
        locked(&self.hub.world).faults.clear();
    }

    /// Bounds the bytes of all files together; `None` lifts the bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        locked(&self.hub.world).capacity = bytes;
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn used(&self) -> u64 {
        locked(&self.hub.world).used()
    }

    /// Content of a file as reads show it.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let world = locked(&self.hub.world);
        world.names.get(name).map(|file| world.files[*file].visible.to_vec())
    }

    /// Replaces a file's content durably, whatever it was: damage.
    pub fn set_content(&self, name: &str, content: Vec<u8>) {
        let mut world = locked(&self.hub.world);
        let content = Arc::new(content);
        let inode = Inode { visible: Arc::clone(&content), durable: content, writes: Vec::new() };
        let file = world.files.len();
        world.files.push(inode);
        world.names.insert(name.to_owned(), file);
        world.durable_names.insert(name.to_owned(), file);
    }

    /// A disk with the same content, all of it durable, as after an orderly end.
    #[must_use]
    pub fn settled(&self) -> Self {
        self.cut_by(Unit::Page, |_| true)
    }

    /// How many events a power cut could undo now, if whole `unit`s survive.
    #[must_use]
    pub fn unsynced(&self, unit: Unit) -> usize {
        let mut count = 0;
        let _ = self.cut_by(unit, |_| {
            count += 1;
            true
        });
        count
    }

    /// The disk after a power cut that left the first `kept` events.
    #[must_use]
    pub fn cut_prefix(&self, unit: Unit, kept: usize) -> Self {
        self.cut_by(unit, |index| index < kept)
    }

    /// The disk after a power cut that left a random subset of the events.
    #[must_use]
    pub fn cut_random(&self, unit: Unit, dice: &mut Dice) -> Self {
        // Mostly about half; sometimes nearly all or nearly none.
        let odds = [2, 2, 4, 8][dice.below(4) as usize];
        let keep_rare = dice.one_in(2);
        self.cut_by(unit, |_| dice.one_in(odds) == keep_rare)
    }

    fn cut_by(&self, unit: Unit, mut keep: impl FnMut(usize) -> bool) -> Self {
        let world = locked(&self.hub.world);
        let mut order: Vec<(u64, Option<usize>, usize)> = Vec::new();
        for (file, inode) in world.files.iter().enumerate() {
            order.extend(inode.writes.iter().enumerate().map(|(at, write)| (write.0, Some(file), at)));
        }
        order.extend(world.name_changes.iter().enumerate().map(|(at, change)| (change.0, None, at)));
        order.sort_unstable();
        let mut files: Vec<Inode> =
            world.files.iter().map(|inode| Inode { writes: Vec::new(), ..inode.clone() }).collect();
        for inode in &mut files {
            inode.visible = Arc::clone(&inode.durable);
        }
        let mut names = world.durable_names.clone();
        let mut running: BTreeMap<FileNumber, Vec<u8>> = BTreeMap::new();
        let mut index = 0;
        for (_, file, at) in order {
            let Some(file) = file else {
                if keep(index) {
                    world.name_changes[at].1.apply(&mut names);
                }
                index += 1;
                continue;
            };
            let inode = &world.files[file];
            let (_, offset, bytes) = &inode.writes[at];
            let current = running.entry(file).or_insert_with(|| inode.durable.to_vec());
            put(current, *offset, bytes);
            for start in units_of(unit, *offset, bytes.len()) {
                if keep(index) {
                    let end = (start + unit.bytes()).min(current.len());
                    put(Arc::make_mut(&mut files[file].visible), start, &current[start..end]);
                }
                index += 1;
            }
        }
        for inode in &mut files {
            inode.durable = Arc::clone(&inode.visible);
        }
        let durable_names = names.clone();
        Self::with(World { files, names, durable_names, ..World::default() })
    }

    /// Does one changing operation, then shows the disk to the observer.
    fn change<T>(&self, operation: impl FnOnce(&mut World, Option<Fault>) -> io::Result<T>) -> io::Result<T> {
        let result = {
            let mut world = locked(&self.hub.world);
            let number = world.operations;
            world.operations += 1;
            if world.owner != self.handle {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "a newer owner has taken over"));
            }
            let fault = world.faults.remove(&number);
            operation(&mut world, fault)
        };
        // Taken out while it runs, so that it may use the disk.
        let observer = locked(&self.hub.observer).take();
        if let Some(mut observer) = observer {
            observer(self);
            locked(&self.hub.observer).get_or_insert(observer);
        }
        result
    }
}

fn units_of(unit: Unit, offset: usize, length: usize) -> impl Iterator<Item = usize> {
    let size = unit.bytes();
    (offset / size..(offset + length).div_ceil(size)).map(move |number| number * size)
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(nix::libc::ENOSPC)
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(nix::libc::EIO)
}

impl World {
    fn event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    fn used(&self) -> u64 {
        self.names.values().map(|file| self.files[*file].visible.len() as u64).sum()
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.dice.get_or_insert_with(|| Dice::new(0)).below(bound.max(1))
    }

    fn find(&self, name: &str) -> io::Result<FileNumber> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change_name(&mut self, change: NameChange, fault: Option<Fault>) -> io::Result<()> {
        if fault == Some(Fault::Eio) {
            return Err(eio());
        }
        change.apply(&mut self.names);
        let event = self.event();
        self.name_changes.push((event, change));
        Ok(())
    }

    fn write(
        &mut self,
        file: FileNumber,
        offset: usize,
        bytes: &[u8],
        fault: Option<Fault>,
    ) -> io::Result<usize> {
        let mut length = bytes.len();
        if fault.is_some() {
            length = self.below(bytes.len() as u64) as usize;
        }
        if fault == Some(Fault::Short) {
            length = length.max(1).min(bytes.len());
        }
        let mut full = fault == Some(Fault::NoSpace);
        if let Some(capacity) = self.capacity {
            let grown = (offset + length).saturating_sub(self.files[file].visible.len()) as u64;
            let free = capacity.saturating_sub(self.used());
            if grown > free {
                length -= (grown - free) as usize;
                full = length == 0;
            }
        }
        if length > 0 {
            let event = self.event();
            let inode = &mut self.files[file];
            put(Arc::make_mut(&mut inode.visible), offset, &bytes[..length]);
            inode.writes.push((event, offset, bytes[..length].to_vec()));
        }
        match fault {
            Some(Fault::Eio) => Err(eio()),
            _ if full => Err(no_space()),
            _ => Ok(length),
        }
    }

    fn sync(&mut self, file: FileNumber, fault: Option<Fault>) -> io::Result<()> {
        if fault != Some(Fault::Eio) {
            let inode = &mut self.files[file];
            // Not simply what is visible: what an earlier, failed sync has lost stays lost.
            for (_, offset, bytes) in std::mem::take(&mut inode.writes) {
                put(Arc::make_mut(&mut inode.durable), offset, &bytes);
            }
            return Ok(());
        }
        for (_, offset, bytes) in std::mem::take(&mut self.files[file].writes) {
            for start in units_of(Unit::Sector, offset, bytes.len()) {
                if self.below(2) == 0 {
                    let from = start.max(offset) - offset;
                    let to = (start + 512 - offset).min(bytes.len());
                    put(Arc::make_mut(&mut self.files[file].durable), offset + from, &bytes[from..to]);
                }
            }
        }
        Err(eio())
    }

    fn sync_names(&mut self, fault: Option<Fault>) -> io::Result<()> {
        for (_, change) in std::mem::take(&mut self.name_changes) {
            if fault != Some(Fault::Eio) || self.below(2) == 0 {
                change.apply(&mut self.durable_names);
            }
        }
        if fault == Some(Fault::Eio) { Err(eio()) } else { Ok(()) }
    }
}

impl Disk for MemoryDisk {
    fn lock(&self) -> Result<Box<dyn Ownership>, LockError> {
        locked(&self.hub.world).owner = self.handle;
        Ok(Box::new(Owner { hub: Arc::clone(&self.hub), handle: self.handle }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(locked(&self.hub.world).names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.change(|world, fault| {
            if fault == Some(Fault::NoSpace) {
                return Err(no_space());
            }
            if world.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let file = world.files.len();
            world.change_name(NameChange::Set(name.to_owned(), file), fault)?;
            world.files.push(Inode { visible: Arc::default(), durable: Arc::default(), writes: Vec::new() });
            Ok(file)
        })?;
        Ok(Arc::new(MemoryFile { disk: self.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = locked(&self.hub.world).find(name)?;
        Ok(Arc::new(MemoryFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|world, fault| {
            let file = world.find(from)?;
            world.change_name(NameChange::Move(from.to_owned(), to.to_owned(), file), fault)
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|world, fault| {
            world.find(name)?;
            world.change_name(NameChange::Unset(name.to_owned()), fault)
        })
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.change(World::sync_names)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let world = locked(&self.hub.world);
        Ok(world.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(world.used())))
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    file: FileNumber,
}

impl DiskFile for MemoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let world = locked(&self.disk.hub.world);
        let content = &world.files[self.file].visible;
        let rest = content.get(offset as usize..).unwrap_or(&[]);
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.disk.change(|world, fault| world.write(self.file, offset as usize, bytes, fault))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.change(|world, fault| world.sync(self.file, fault))
    }

    fn size(&self) -> io::Result<u64> {
        Ok(locked(&self.disk.hub.world).files[self.file].visible.len() as u64)
    }
}

struct Owner {
    hub: Arc<Hub>,
    handle: u64,
}

impl Ownership for Owner {
    fn is_current(&self) -> io::Result<bool> {
        Ok(locked(&self.hub.world).owner == self.handle)
    }
}
