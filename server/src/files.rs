//! Small files that are replaced as a whole: configuration, users, the log's manifest.

use std::fs::{self, File, OpenOptions};
use std::io::{Result, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Puts `text` in the place of a file, so that after a crash either the old or the new one is there.
pub fn replace(path: &Path, text: &[u8]) -> Result<()> {
    // A link stays a link, and a file that only its owner may read (passwords) stays so.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let mode = fs::metadata(&path).map_or(0o644, |metadata| metadata.permissions().mode() & 0o7777);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.rewrite", std::process::id()));
    let draft = path.with_file_name(name);
    let written = write_synced(&draft, text, mode).and_then(|()| fs::rename(&draft, &path));
    if let Err(error) = written {
        // The first error is the one to report; a draft that stays behind does no harm.
        let _ = fs::remove_file(&draft);
        return Err(error);
    }
    sync_folder_of(&path)
}

fn write_synced(path: &Path, text: &[u8], mode: u32) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    // The umask has narrowed the mode of a new file; the old file's mode is what its owner chose.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text)?;
    file.sync_all()
}

/// A file's new name is on disk when its folder is.
pub fn sync_folder_of(path: &Path) -> Result<()> {
    match path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        Some(dir) => File::open(dir)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}
