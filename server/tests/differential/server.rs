//! Starting the servers: Ringwood under test and the real ones beside it, each in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io};

use crate::resp::Client;

/// A running server, killed by its process id when dropped.
pub struct Server {
    pub name: String,
    pub port: u16,
    binary: PathBuf,
    shards: Option<usize>,
    options: Vec<String>,
    dir: PathBuf,
    child: Child,
}

impl Server {
    /// Starts `binary` with Redis's directives. `shards` is for Ringwood only.
    pub fn start(binary: &Path, shards: Option<usize>) -> io::Result<Self> {
        Self::start_with(binary, shards, &[])
    }
    pub fn start_with(binary: &Path, shards: Option<usize>, options: &[&str]) -> io::Result<Self> {
        let options: Vec<String> = options.iter().map(|o| o.to_string()).collect();
        let port = crate::ports::free_ports(1);
        let dir = env::temp_dir().join(format!("ringwood-diff-{}-{port}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let child = spawn(binary, shards, port, &dir, &options)?;
        let file = binary
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let name = shards.map_or(file.clone(), |shards| {
            format!("{file} with {shards} shards")
        });
        let mut server = Self {
            name,
            port,
            binary: binary.to_path_buf(),
            shards,
            options,
            dir,
            child,
        };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> io::Result<()> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok(mut client) = Client::connect(self.port)
                && client
                    .call(&["PING"])
                    .is_ok_and(|reply| !reply.raw.starts_with(b"-LOADING"))
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!(
                    "{} ended with {status}:\n{}",
                    self.name,
                    self.log_tail()
                )));
            }
            if Instant::now() > end {
                return Err(io::Error::other(format!(
                    "{} does not answer:\n{}",
                    self.name,
                    self.log_tail()
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What became of the process, if it is gone.
    pub fn death(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(format!(
            "{} ended with {status}:\n{}",
            self.name,
            self.log_tail()
        ))
    }

    /// A fresh process in place of one that died or hangs.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop();
        self.child = spawn(
            &self.binary,
            self.shards,
            self.port,
            &self.dir,
            &self.options,
        )?;
        self.wait()
    }
    /// The same with another number of shards.
    #[allow(dead_code, reason = "the snapshots' test has no need of it")]
    pub fn restart_with(&mut self, shards: Option<usize>) -> io::Result<()> {
        self.shards = shards;
        self.restart()
    }

    /// Its folder, with its files.
    #[allow(
        dead_code,
        reason = "the snapshots' test, which this file is also part of, copies them"
    )]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn stop(&mut self) {
        // Already gone is fine: there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn log_tail(&self) -> String {
        let log = fs::read(self.dir.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.len().saturating_sub(40);
        // Why a real server died stands at the beginning of its long report.
        let report = lines
            .iter()
            .position(|line| line.contains("BUG REPORT START"));
        let from = report.map_or(tail, |at| at.min(tail));
        lines[from..(from + 40).min(lines.len())].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        // What a failed test leaves can be kept to be looked at.
        if !std::thread::panicking() || env::var_os("RINGWOOD_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn spawn(
    binary: &Path,
    shards: Option<usize>,
    port: u16,
    dir: &Path,
    options: &[String],
) -> io::Result<Child> {
    let log = fs::File::create(dir.join("log"))?;
    let mut command = Command::new(binary);
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(dir)
        // A real server looks after blocked clients' timeouts hz times a second: with 10 a stream would mostly wait.
        .args(["--enable-debug-command", "yes", "--save", "", "--hz", "500"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    if let Some(shards) = shards {
        command.args(["--shards", &shards.to_string()]);
        // Most collections of the streams are small.
        command.args(["--aside-elements-min", "8"]);
    }
    command.args(options).spawn()
}

/// Where the peers are: RINGWOOD_PEERS, else `peers/` of the checkout.
pub fn peers() -> PathBuf {
    env::var_os("RINGWOOD_PEERS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../peers"),
        PathBuf::from,
    )
}
