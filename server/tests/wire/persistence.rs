//! What the tests of snapshots and of the log share: a folder of their own, and what INFO says.

use crate::server::{Client, Server};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// A new folder among temporary files, gone at the end.
pub struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    pub fn new(purpose: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let name = format!("ringwood-{purpose}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Deref for TemporaryFolder {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // It may have been removed by the test; what stays lies among temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A field of INFO's section about persistence.
pub fn info(c: &mut Client, field: &str) -> String {
    let text = c.call("INFO persistence");
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {text}"))
        .to_owned()
}
/// Waits until INFO has this line.
#[track_caller]
pub fn wait_for(c: &mut Client, field: &str, value: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    while info(c, field) != value {
        assert!(Instant::now() < end, "{field} is {}", info(c, field));
        thread::sleep(Duration::from_millis(5));
    }
}

/// Where the file cannot be made, the snapshot has failed before other cores come to its point: they have stood still for good since.
#[test]
fn a_shutdown_that_fails_at_once_ends_nothing() {
    for _ in 0..4 {
        let folder = TemporaryFolder::new("gone");
        let gone = folder.join("dir");
        std::fs::create_dir(&gone).expect("a folder");
        let dir = gone.to_str().expect("a plain name");
        let server = Server::start(4, &["--dir", dir, "--save", "3600 1"]);
        let mut c = server.client();
        assert_eq!(c.call("SET k v"), "+OK\r\n");
        std::fs::remove_dir(&gone).expect("an empty folder");
        for _ in 0..2 {
            let failed = "-ERR Errors trying to SHUTDOWN. Check logs.\r\n";
            assert_eq!(c.call("SHUTDOWN"), failed);
            let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
            for client in &mut clients {
                assert_eq!(client.call("ECHO x"), "$1\r\nx\r\n");
            }
            for n in 0..20 {
                assert_eq!(c.call(&format!("SET k{n} v")), "+OK\r\n");
            }
        }
        std::fs::create_dir(&gone).expect("a folder");
        c.ask(&["SHUTDOWN"]);
        assert_eq!(c.reply(), None);
    }
}
