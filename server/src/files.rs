//! Small files that are replaced as a whole: configuration, users, the log's manifest.

use crate::disk::Disk;
use std::io::{Result, Write};
use std::path::Path;

/// Puts `text` in the place of a file, so that after a crash either the old or the new one is there.
pub fn replace(path: &Path, text: &[u8]) -> Result<()> {
    replace_on(&Disk::Real, path, text)
}

/// The same on any disk.
pub fn replace_on(disk: &Disk, path: &Path, text: &[u8]) -> Result<()> {
    // A link stays a link, and a file that only its owner may read (passwords) stays so.
    let path = disk.real_path(path);
    let mode = disk.mode(&path).unwrap_or(0o644);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.rewrite", std::process::id()));
    let draft = path.with_file_name(name);
    let written = write_synced(disk, &draft, text, mode).and_then(|()| disk.rename(&draft, &path));
    if let Err(error) = written {
        // The first error is the one to report; a draft that stays behind does no harm.
        let _ = disk.remove(&draft);
        return Err(error);
    }
    disk.sync_folder_of(&path)
}

fn write_synced(disk: &Disk, path: &Path, text: &[u8], mode: u32) -> Result<()> {
    let mut file = disk.create_with(path, mode)?;
    // The umask has narrowed the mode of a new file; the old file's mode is what its owner chose.
    file.set_mode(mode)?;
    file.write_all(text)?;
    file.sync_all()
}
