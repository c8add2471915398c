//! A disk in memory that loses, at a crash, what a real one may lose: see [`SimDisk::crash`].
//!
//! It knows two states of everything: as processes see it, and as it is on disk for certain, with the changes in between. A file's bytes are
//! certain after a sync, a name (a creation, a rename, a removal) after a sync of its folder; a file whose name is lost is lost.
//!
//! A sync that fails behaves like Linux's: what it did not bring to the disk counts as written from then on, and the next sync says nothing of it.

use crate::io::sim::Chance;
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// What goes wrong, from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Bytes that still fit.
    pub room: Option<u64>,
    /// Syncs fail.
    pub sync_fails: bool,
    /// Writes take only a part of what they are given, now and then.
    pub short_writes: bool,
}

/// What a crash does to what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The end of every file is lost from some point on, in the middle of a write perhaps.
    Torn,
    /// Any writes are lost, and leave zeros where later ones are there.
    Reordered,
}

#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    nodes: Vec<Node>,
    names: Names,
    /// As they are on disk for certain.
    certain: Names,
    changes: Vec<NameChange>,
    chance: Chance,
    faults: Faults,
    /// Of the machine: files that a life before opened are not to be used any more.
    life: u32,
    /// How often it has failed.
    boots: u32,
    uniques: u64,
    /// Changes until the machine fails.
    until_off: Option<u64>,
}

type Names = BTreeMap<PathBuf, usize>;

impl Default for Inner {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            names: Names::new(),
            certain: Names::new(),
            changes: Vec::new(),
            chance: Chance::new(0),
            faults: Faults::default(),
            life: 0,
            boots: 0,
            uniques: 0,
            until_off: None,
        }
    }
}

/// A file.
#[derive(Debug, Default)]
struct Node {
    bytes: Vec<u8>,
    certain: Vec<u8>,
    changes: Vec<Change>,
    /// Changes that a failed sync has left behind: no later sync brings them.
    stranded: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// Names that get another file or none, together: a rename has two.
#[derive(Clone, Debug)]
struct NameChange(Vec<(PathBuf, Option<usize>)>);

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(at, new) => {
            let end = at + new.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*at..end].copy_from_slice(new);
        }
        Change::Length(len) => bytes.resize(*len, 0),
    }
}

fn failed(errno: i32) -> Error {
    Error::from_raw_os_error(errno)
}

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        let disk = Self::default();
        disk.inner().chance = Chance::new(seed);
        disk
    }
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
    pub fn set_faults(&self, faults: Faults) {
        self.inner().faults = faults;
    }

    /// The machine fails after so many changes: nothing works from then on, until [`SimDisk::crash`].
    pub fn fail_after(&self, changes: u64) {
        self.inner().until_off = Some(changes);
    }
    pub fn is_off(&self) -> bool {
        self.inner().until_off == Some(0)
    }

    fn file(&self, inner: &Inner, node: usize) -> SimFile {
        SimFile {
            disk: self.clone(),
            node,
            life: inner.life,
            at: Mutex::new(0),
        }
    }
    pub fn create(&self, path: &Path) -> Result<SimFile> {
        let mut inner = self.inner();
        inner.tick()?;
        if let Some(&node) = inner.names.get(path) {
            let file = &mut inner.nodes[node];
            file.bytes.clear();
            file.changes.push(Change::Length(0));
            return Ok(self.file(&inner, node));
        }
        if inner.faults.room == Some(0) {
            return Err(failed(libc::ENOSPC));
        }
        inner.nodes.push(Node::default());
        let node = inner.nodes.len() - 1;
        inner.rename(vec![(path.to_path_buf(), Some(node))]);
        Ok(self.file(&inner, node))
    }
    pub fn open(&self, path: &Path) -> Result<SimFile> {
        let inner = self.inner();
        let node = inner.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(self.file(&inner, *node))
    }
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut inner = self.inner();
        inner.tick()?;
        let node = *inner.names.get(from).ok_or(ErrorKind::NotFound)?;
        let names = vec![(from.to_path_buf(), None), (to.to_path_buf(), Some(node))];
        inner.rename(names);
        Ok(())
    }
    pub fn remove(&self, path: &Path) -> Result<()> {
        let mut inner = self.inner();
        inner.tick()?;
        if !inner.names.contains_key(path) {
            return Err(ErrorKind::NotFound.into());
        }
        inner.rename(vec![(path.to_path_buf(), None)]);
        Ok(())
    }
    pub fn sync_folder(&self, folder: &Path) -> Result<()> {
        let mut inner = self.inner();
        inner.tick()?;
        if inner.faults.sync_fails {
            return Err(failed(libc::EIO));
        }
        let is_here = |change: &NameChange| {
            let mut paths = change.0.iter().map(|(path, _)| path);
            paths.any(|path| path.parent() == Some(folder))
        };
        let (here, elsewhere) = std::mem::take(&mut inner.changes)
            .into_iter()
            .partition::<Vec<_>, _>(is_here);
        inner.changes = elsewhere;
        for change in here {
            change.carry_out(&mut inner.certain);
        }
        Ok(())
    }

    /// The machine fails and starts again. What was not synced is there or not: each name that changed by itself, the bytes of each file as
    /// `loss` says. Files that are open are so no more.
    pub fn crash(&self, loss: Loss) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        inner.life += 1;
        inner.boots += 1;
        (inner.faults, inner.until_off) = (Faults::default(), None);
        for change in std::mem::take(&mut inner.changes) {
            if inner.chance.one_in(2) {
                change.carry_out(&mut inner.certain);
            }
        }
        inner.names = inner.certain.clone();
        for node in &mut inner.nodes {
            node.crash(loss, &mut inner.chance);
        }
    }
    /// The process ends and nothing else: all that it has written is there, and nothing goes wrong any more.
    pub fn kill(&self) {
        let mut inner = self.inner();
        inner.life += 1;
        (inner.faults, inner.until_off) = (Faults::default(), None);
    }

    pub fn boots(&self) -> u32 {
        self.inner().boots
    }
    pub fn unique(&self) -> u64 {
        let mut inner = self.inner();
        inner.uniques += 1;
        inner.uniques
    }
    /// The paths of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.inner().names.keys().cloned().collect()
    }
    /// Changes bytes of a file behind everybody's back.
    pub fn corrupt(&self, path: &Path) {
        let mut inner = self.inner();
        let Inner {
            nodes,
            names,
            chance,
            ..
        } = &mut *inner;
        let Some(&node) = names.get(path) else { return };
        let node = &mut nodes[node];
        if node.bytes.is_empty() {
            return;
        }
        let (at, count) = (chance.below(node.bytes.len()), 1 + chance.below(8));
        let end = (at + count).min(node.bytes.len());
        for byte in &mut node.bytes[at..end] {
            *byte = chance.draw() as u8;
        }
        node.certain.clone_from(&node.bytes);
    }
}

impl NameChange {
    fn carry_out(self, names: &mut Names) {
        for (path, node) in self.0 {
            match node {
                Some(node) => names.insert(path, node),
                None => names.remove(&path),
            };
        }
    }
}

impl Inner {
    /// A change is about to happen.
    fn tick(&mut self) -> Result<()> {
        match &mut self.until_off {
            Some(0) => return Err(failed(libc::EIO)),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }
    fn rename(&mut self, names: Vec<(PathBuf, Option<usize>)>) {
        let change = NameChange(names);
        self.changes.push(change.clone());
        change.carry_out(&mut self.names);
    }
}

impl Node {
    fn make_certain(&mut self, change: &Change) {
        apply(&mut self.certain, change);
        if matches!(change, Change::Length(0)) {
            // The pages are no longer the file's, so what comes into their place is not overwritten by them.
            self.stranded.clear();
        }
    }
    fn crash(&mut self, loss: Loss, chance: &mut Chance) {
        let stranded = std::mem::take(&mut self.stranded);
        let changes = std::mem::take(&mut self.changes);
        let whole = match loss {
            Loss::Torn => chance.below(changes.len() + 1),
            Loss::Reordered => changes.len(),
        };
        // What a failed sync left behind may be there by chance; what came later does not depend on it.
        for change in &stranded {
            if chance.one_in(2) {
                apply(&mut self.certain, change);
            }
        }
        for (n, change) in changes.into_iter().enumerate() {
            match (loss, change) {
                (Loss::Torn, change) if n < whole => apply(&mut self.certain, &change),
                (Loss::Torn, Change::Write(at, mut bytes)) if n == whole => {
                    bytes.truncate(chance.below(bytes.len() + 1));
                    apply(&mut self.certain, &Change::Write(at, bytes));
                }
                (Loss::Reordered, change) if chance.one_in(2) => apply(&mut self.certain, &change),
                _ => {}
            }
        }
        self.bytes.clone_from(&self.certain);
    }
}

/// An open file.
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    node: usize,
    life: u32,
    at: Mutex<usize>,
}

impl SimFile {
    pub fn again(&self) -> Self {
        Self {
            disk: self.disk.clone(),
            node: self.node,
            life: self.life,
            at: Mutex::new(0),
        }
    }
    fn at(&self) -> MutexGuard<'_, usize> {
        self.at.lock().unwrap_or_else(|e| e.into_inner())
    }
    fn inner(&self) -> Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.inner();
        match inner.life == self.life {
            true => Ok(inner),
            false => Err(failed(libc::EBADF)),
        }
    }
    pub fn append(&self, bytes: &[u8]) -> Result<usize> {
        let (mut inner, mut at) = (self.inner()?, self.at());
        inner.tick()?;
        let mut fits = bytes.len();
        if inner.faults.short_writes && fits > 1 && inner.chance.one_in(2) {
            fits = 1 + inner.chance.below(fits - 1);
        }
        if let Some(room) = &mut inner.faults.room {
            fits = fits.min(usize::try_from(*room).unwrap_or(usize::MAX));
            *room -= fits as u64;
            if fits == 0 && !bytes.is_empty() {
                return Err(failed(libc::ENOSPC));
            }
        }
        let change = Change::Write(*at, bytes[..fits].to_vec());
        let node = &mut inner.nodes[self.node];
        apply(&mut node.bytes, &change);
        node.changes.push(change);
        *at += fits;
        Ok(fits)
    }
    pub fn set_len(&self, len: u64) -> Result<()> {
        let mut inner = self.inner()?;
        inner.tick()?;
        let change = Change::Length(len as usize);
        let node = &mut inner.nodes[self.node];
        apply(&mut node.bytes, &change);
        node.changes.push(change);
        Ok(())
    }
    pub fn sync(&self) -> Result<()> {
        let mut inner = self.inner()?;
        inner.tick()?;
        let fails = inner.faults.sync_fails;
        let node = &mut inner.nodes[self.node];
        let changes = std::mem::take(&mut node.changes);
        if fails {
            // A length is no page that could be lost.
            for change in changes {
                match change {
                    Change::Length(_) => node.make_certain(&change),
                    write => node.stranded.push(write),
                }
            }
            return Err(failed(libc::EIO));
        }
        for change in &changes {
            node.make_certain(change);
        }
        Ok(())
    }
    pub fn size(&self) -> Result<u64> {
        Ok(self.inner()?.nodes[self.node].bytes.len() as u64)
    }
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let (inner, mut at) = (self.inner()?, self.at());
        let bytes = &inner.nodes[self.node].bytes;
        let left = bytes.get(*at..).unwrap_or_default();
        let count = left.len().min(into.len());
        into[..count].copy_from_slice(&left[..count]);
        *at += count;
        Ok(count)
    }
    pub fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let len = self.size()?;
        let mut at = self.at();
        let new = match to {
            SeekFrom::Start(new) => Some(new),
            SeekFrom::End(by) => len.checked_add_signed(by),
            SeekFrom::Current(by) => (*at as u64).checked_add_signed(by),
        };
        let new = new.ok_or(ErrorKind::InvalidInput)?;
        *at = new as usize;
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (SimDisk, PathBuf) {
        (SimDisk::new(1), PathBuf::from("/d/file"))
    }
    fn bytes(disk: &SimDisk, path: &Path) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 100];
        let count = disk.open(path).ok()?.read(&mut bytes).unwrap();
        bytes.truncate(count);
        Some(bytes)
    }

    #[test]
    fn what_is_synced_stays_and_the_rest_is_lost_sooner_or_later() {
        let (mut without_name, mut torn, mut whole) = (0, 0, 0);
        for seed in 0..200 {
            let (_, path) = disk();
            let disk = SimDisk::new(seed);
            let file = disk.create(&path).unwrap();
            if seed % 2 == 0 {
                disk.sync_folder(Path::new("/d")).unwrap();
            }
            file.append(b"one").unwrap();
            file.sync().unwrap();
            file.append(b"two").unwrap();
            disk.crash(Loss::Torn);
            assert!(file.append(b"x").is_err(), "a file of the life before");
            match bytes(&disk, &path) {
                None => without_name += 1,
                Some(bytes) if bytes == b"onetwo" => whole += 1,
                Some(bytes) => {
                    assert!(bytes.len() >= 3 && b"onetwo".starts_with(&bytes));
                    torn += 1;
                }
            }
        }
        assert!(without_name > 10 && without_name < 100, "{without_name}");
        assert!(torn > 10 && whole > 10, "{torn} {whole}");
    }

    /// A file whose sync has failed with "one" in it. The disk is in order again.
    fn after_a_failed_sync(seed: u64) -> (SimDisk, PathBuf, SimFile) {
        let disk = SimDisk::new(seed);
        let path = PathBuf::from("/d/file");
        let file = disk.create(&path).unwrap();
        disk.sync_folder(Path::new("/d")).unwrap();
        file.append(b"one").unwrap();
        disk.set_faults(Faults {
            sync_fails: true,
            ..Faults::default()
        });
        assert!(file.sync().is_err());
        disk.set_faults(Faults::default());
        (disk, path, file)
    }

    #[test]
    fn a_failed_sync_is_not_made_good_by_the_next() {
        let mut lost = 0;
        for seed in 0..20 {
            let (disk, path, file) = after_a_failed_sync(seed);
            file.append(b"two").unwrap();
            file.sync().unwrap();
            disk.crash(Loss::Torn);
            let there = bytes(&disk, &path).unwrap();
            assert!(there.ends_with(b"two"));
            lost += u32::from(there == b"\0\0\0two");
        }
        assert!(lost > 0 && lost < 20, "{lost}");
    }

    #[test]
    fn what_a_failed_sync_left_behind_is_not_in_a_file_made_anew() {
        for seed in 0..20 {
            let (disk, path, _) = after_a_failed_sync(seed);
            let file = disk.create(&path).unwrap();
            file.append(b"two").unwrap();
            file.sync().unwrap();
            disk.crash(Loss::Torn);
            assert_eq!(bytes(&disk, &path).unwrap(), b"two");
        }
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let (disk, path) = disk();
        let file = disk.create(&path).unwrap();
        disk.set_faults(Faults {
            room: Some(4),
            ..Faults::default()
        });
        assert_eq!(file.append(b"abcdef").unwrap(), 4);
        assert_eq!(
            file.append(b"ef").unwrap_err().raw_os_error(),
            Some(libc::ENOSPC)
        );
        disk.set_faults(Faults::default());
        assert_eq!(file.append(b"ef").unwrap(), 2);
        assert_eq!(bytes(&disk, &path).unwrap(), b"abcdef");
    }
}
