//! What `ps` shows of the process: `set-proc-title` and `proc-title-template`.
//!
//! The kernel shows the bytes in which it once handed over the command line, and when they no longer end as they did, those of the environment
//! behind them too. [`claim`] copies the environment away and leaves all of these bytes to the title.

use crate::commands::lock;
use crate::config::Config;
use std::ffi::{CStr, OsString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;

/// The bytes that the kernel shows.
struct Room {
    first: *mut u8,
    len: usize,
    /// The program as it was called.
    program: OsString,
}

// SAFETY: nothing else in the process uses these bytes (see `claim`), and the lock around the one `Room` lets one thread write.
unsafe impl Send for Room {}

static ROOM: Mutex<Option<Room>> = Mutex::new(None);

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// Takes the room. To be called once, when nobody looks at the command line any more, and before there is a second thread.
pub fn claim() {
    let Some([arg_start, arg_end, env_start, env_end]) = bounds() else {
        // Without /proc the process keeps its title.
        return;
    };
    let Some(program) = std::env::args_os().next() else {
        return;
    };
    let mut end = arg_end;
    if env_start == arg_end && env_end > env_start {
        let room = arg_start..env_end;
        // SAFETY: there is only one thread, so nobody else reads or changes the environment. `environ` is a list of C strings that ends with
        // a null pointer, as the C library has it; each entry is replaced by a copy that is never freed.
        unsafe {
            let mut entry = environ;
            while !entry.is_null() && !(*entry).is_null() {
                if room.contains(&(*entry as usize)) {
                    *entry = CStr::from_ptr(*entry).to_owned().into_raw();
                }
                entry = entry.add(1);
            }
        }
        end = env_end;
    }
    let room = Room {
        first: std::ptr::with_exposed_provenance_mut(arg_start),
        len: end - arg_start,
        program,
    };
    *lock(&ROOM) = Some(room).filter(|room| room.len > 1);
}

/// Where the command line and the environment lie.
fn bounds() -> Option<[usize; 4]> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may have spaces in it, comes the third field.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<usize>().ok();
    let bounds = [field(48)?, field(49)?, field(50)?, field(51)?];
    (bounds[0] > 0 && bounds[0] < bounds[1]).then_some(bounds)
}

/// Shows the title that the configuration wants.
pub fn follow(config: &Config, file: Option<&Path>) {
    if !config.set_proc_title {
        return;
    }
    let mut room = lock(&ROOM);
    let Some(room) = &mut *room else {
        return;
    };
    let title = expand(config, room.program.as_bytes(), file);
    let len = title.len().min(room.len - 1);
    // SAFETY: `len` bytes and the zeros behind them fill exactly the room, which is this process's own, writable for all of its life, and used by
    // nobody else: the words of the command line were read before `claim`, and the environment lies elsewhere since then.
    unsafe {
        std::ptr::copy_nonoverlapping(title.as_ptr(), room.first, len);
        std::ptr::write_bytes(room.first.add(len), 0, room.len - len);
    }
}

fn expand(config: &Config, program: &[u8], file: Option<&Path>) -> Vec<u8> {
    let mut title = Vec::new();
    let mut rest: &[u8] = &config.proc_title_template;
    while let [first, tail @ ..] = rest {
        rest = tail;
        // The template was checked: a brace begins a variable that is known and ends.
        match tail.iter().position(|byte| *byte == b'}') {
            Some(end) if *first == b'{' => {
                title.extend_from_slice(&variable(&tail[..end], config, program, file));
                rest = &tail[end + 1..];
            }
            _ => title.push(*first),
        }
    }
    title.trim_ascii().to_vec()
}

fn variable(name: &[u8], config: &Config, program: &[u8], file: Option<&Path>) -> Vec<u8> {
    match name {
        b"title" => program.to_vec(),
        b"listen-addr" if config.port > 0 => {
            let addresses = config.bind.addresses();
            let address = addresses.first().map_or(&b"*"[..], |a| a.as_ref());
            [address, format!(":{}", config.port).as_bytes()].concat()
        }
        b"listen-addr" => [b"unixsocket: ", &config.unixsocket[..]].concat(),
        b"unixsocket" => config.unixsocket.to_vec(),
        b"server-mode" if config.shard_ports => b"[cluster]".to_vec(),
        b"port" => config.port.to_string().into_bytes(),
        b"tls-port" => config.tls_port.to_string().into_bytes(),
        b"config-file" => file
            .map_or(&b"-"[..], |file| file.as_os_str().as_bytes())
            .to_vec(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_becomes_a_title() {
        let mut config = Config::default();
        let mut said = |template: &str, file: Option<&str>| {
            config
                .set(b"proc-title-template", template.as_bytes())
                .unwrap();
            let title = expand(&config, b"/bin/ringwood", file.map(Path::new));
            String::from_utf8(title).unwrap()
        };
        assert_eq!(
            said("{title} {listen-addr} {server-mode}", None),
            "/bin/ringwood *:6379"
        );
        assert_eq!(
            said(
                "T {title}|{port}|{tls-port}|{unixsocket}|{config-file}.",
                Some("/etc/r.conf")
            ),
            "T /bin/ringwood|6379|0||/etc/r.conf."
        );
    }
}
