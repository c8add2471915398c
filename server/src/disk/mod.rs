//! The disk as the log and the snapshots see it: the real one, or one in memory that loses what was not synced ([`sim`]).
//!
//! All that recovery depends on goes through here: files, their names, and when either is on disk. The simulated disk has the same
//! calls, so that tests drive the code that runs in production through crashes, full disks and failing syncs.

pub mod sim;

use crate::commands::lock;
use ringwood_shard::memory::{count_mapped, thread_used};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Result, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

#[derive(Clone, Debug, Default)]
pub enum Disk {
    #[default]
    Real,
    Simulated(sim::SimDisk),
}

/// An open file.
#[derive(Debug)]
pub enum DiskFile {
    Real(File),
    Simulated(sim::SimFile),
}

/// The mode of new files, before the umask.
const MODE: u32 = 0o666;
/// So much is done at a time.
const AT_ONCE: usize = 32;

impl Disk {
    /// A new file in the place of whatever is there, to be written and read.
    pub fn create(&self, path: &Path) -> Result<DiskFile> {
        self.create_with(path, MODE)
    }
    pub fn create_with(&self, path: &Path, mode: u32) -> Result<DiskFile> {
        match self {
            Self::Real => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(true);
                options.mode(mode).open(path).map(DiskFile::Real)
            }
            Self::Simulated(disk) => disk.create(path).map(DiskFile::Simulated),
        }
    }
    /// A file that is there, to be read.
    pub fn open(&self, path: &Path) -> Result<DiskFile> {
        match self {
            Self::Real => File::open(path).map(DiskFile::Real),
            Self::Simulated(disk) => disk.open(path).map(DiskFile::Simulated),
        }
    }
    /// A file that is there, to be changed.
    pub fn open_to_change(&self, path: &Path) -> Result<DiskFile> {
        match self {
            Self::Real => {
                let mut options = OpenOptions::new();
                options.write(true).open(path).map(DiskFile::Real)
            }
            Self::Simulated(disk) => disk.open(path).map(DiskFile::Simulated),
        }
    }
    /// All of a file.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
    pub fn size(&self, path: &Path) -> Result<u64> {
        match self {
            Self::Real => Ok(fs::metadata(path)?.len()),
            Self::Simulated(disk) => disk.open(path)?.size(),
        }
    }
    pub fn is_file(&self, path: &Path) -> bool {
        match self {
            Self::Real => path.is_file(),
            Self::Simulated(disk) => disk.open(path).is_ok(),
        }
    }
    /// The names of files in a folder that others may have put there: in the simulation there are no others.
    pub fn foreign_names(&self, folder: &Path) -> Result<Vec<String>> {
        match self {
            Self::Real => fs::read_dir(folder)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect(),
            Self::Simulated(_) => Ok(Vec::new()),
        }
    }
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        match self {
            Self::Real => fs::rename(from, to),
            Self::Simulated(disk) => disk.rename(from, to),
        }
    }
    pub fn remove(&self, path: &Path) -> Result<()> {
        match self {
            Self::Real => fs::remove_file(path),
            Self::Simulated(disk) => disk.remove(path),
        }
    }
    /// Makes a folder, if it is not there, so that it is there after a crash.
    pub fn make_folder(&self, path: &Path) -> Result<()> {
        match self {
            Self::Real if path.is_dir() => Ok(()),
            Self::Real => {
                fs::create_dir_all(path)?;
                self.sync_folder_of(path)
            }
            // Its folders are there as soon as a file in them is.
            Self::Simulated(_) => Ok(()),
        }
    }
    /// A file's new name is on disk when its folder is.
    pub fn sync_folder_of(&self, path: &Path) -> Result<()> {
        let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        self.sync_folder(folder)
    }
    /// The names in a folder are on disk.
    pub fn sync_folder(&self, folder: &Path) -> Result<()> {
        match self {
            Self::Real => File::open(folder)?.sync_all(),
            Self::Simulated(disk) => disk.sync_folder(folder),
        }
    }
    /// Does work for each of so many files, such as syncing them, for many at a time: most of it is waiting, and the file system puts into one
    /// commit what comes together. All of it is done, also where some fails.
    pub fn at_once(&self, count: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let run = || {
            loop {
                let at = next.fetch_add(1, Relaxed);
                if at >= count {
                    return;
                }
                if let Err(error) = work(at) {
                    lock(&failure).get_or_insert(error);
                }
            }
        };
        let helpers = match self {
            Self::Real => count.clamp(1, AT_ONCE) - 1,
            // One after the other, so that a seed says it all.
            Self::Simulated(_) => 0,
        };
        let used = thread_used();
        thread::scope(|scope| {
            for _ in 0..helpers {
                let helper = thread::Builder::new().name("sync".into());
                if helper.spawn_scoped(scope, run).is_err() {
                    break;
                }
            }
            run();
        });
        // What was made for the threads here they have freed.
        if helpers > 0 {
            count_mapped(used - thread_used());
        }
        let failure = failure.into_inner().unwrap_or_else(|e| e.into_inner());
        failure.map_or(Ok(()), Err)
    }
    /// Names the time since the machine started: as long as it is the same, what processes have written is there, synced or not.
    pub fn boot(&self) -> Option<String> {
        match self {
            Self::Real => {
                let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
                let id = id.trim();
                let is_word = !id.is_empty() && id.bytes().all(|b| b.is_ascii_graphic());
                is_word.then(|| id.to_owned())
            }
            Self::Simulated(disk) => Some(disk.boots().to_string()),
        }
    }
    /// A number that nobody else gets.
    pub fn unique(&self) -> u64 {
        match self {
            Self::Real => RandomState::new().build_hasher().finish(),
            Self::Simulated(disk) => disk.unique(),
        }
    }
    /// Where a link leads to.
    pub fn real_path(&self, path: &Path) -> PathBuf {
        match self {
            Self::Real => fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf()),
            Self::Simulated(_) => path.to_path_buf(),
        }
    }
    /// Who may do what with a file that is there.
    pub fn mode(&self, path: &Path) -> Option<u32> {
        match self {
            Self::Real => {
                let metadata = fs::metadata(path).ok()?;
                Some(metadata.permissions().mode() & 0o7777)
            }
            Self::Simulated(_) => None,
        }
    }
}

impl DiskFile {
    /// The same file, opened once more: its syncs tell of failures by themselves.
    pub fn again(&self) -> Result<Self> {
        match self {
            Self::Real(file) => {
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                File::open(path).map(Self::Real)
            }
            Self::Simulated(file) => Ok(Self::Simulated(file.again())),
        }
    }
    /// Appends what fits, where it was written last.
    pub fn append(&self, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::Real(file) => (&mut &*file).write(bytes),
            Self::Simulated(file) => file.append(bytes),
        }
    }
    pub fn sync_data(&self) -> Result<()> {
        match self {
            Self::Real(file) => file.sync_data(),
            Self::Simulated(file) => file.sync(),
        }
    }
    pub fn sync_all(&self) -> Result<()> {
        match self {
            Self::Real(file) => file.sync_all(),
            Self::Simulated(file) => file.sync(),
        }
    }
    pub fn set_len(&self, len: u64) -> Result<()> {
        match self {
            Self::Real(file) => file.set_len(len),
            Self::Simulated(file) => file.set_len(len),
        }
    }
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        match self {
            Self::Real(file) => file.set_permissions(fs::Permissions::from_mode(mode)),
            Self::Simulated(_) => Ok(()),
        }
    }
    pub fn size(&self) -> Result<u64> {
        match self {
            Self::Real(file) => Ok(file.metadata()?.len()),
            Self::Simulated(file) => file.size(),
        }
    }
}

impl Read for DiskFile {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        match self {
            Self::Real(file) => file.read(into),
            Self::Simulated(file) => file.read(into),
        }
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.append(bytes)
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Seek for DiskFile {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        match self {
            Self::Real(file) => file.seek(to),
            Self::Simulated(file) => file.seek(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn what_is_done_at_once_is_all_done_and_waits_together() {
        let all = Barrier::new(AT_ONCE);
        let done = AtomicUsize::new(0);
        let before = thread_used();
        let result = Disk::Real.at_once(AT_ONCE, |_| {
            // Nobody gets past it alone.
            all.wait();
            done.fetch_add(1, Relaxed);
            Ok(())
        });
        assert!(result.is_ok() && done.load(Relaxed) == AT_ONCE);
        assert_eq!(thread_used(), before);
        for disk in [Disk::Real, Disk::Simulated(sim::SimDisk::new(1))] {
            let done = AtomicUsize::new(0);
            let result = disk.at_once(100, |at| {
                done.fetch_add(1, Relaxed);
                match at {
                    7 => Err(std::io::Error::other("seven")),
                    _ => Ok(()),
                }
            });
            assert_eq!(result.unwrap_err().to_string(), "seven");
            assert_eq!(done.load(Relaxed), 100);
            disk.at_once(0, |_| unreachable!()).unwrap();
        }
    }
}
