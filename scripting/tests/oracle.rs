//! Every script of `tests/scripts/` runs here and on a real Redis; the replies must be the same bytes.
//!
//! A line is a script (`⏎` stands for a line end), with its circumstances before it: `[resp3]`, `[keys a,b]`,
//! `[args x,y]`. `[known]` marks LuaJIT's differences from Lua 5.1 (the crate's head names them): there the replies must
//! differ, so that the mark goes when the difference does. Both runs start from an empty database of that Redis: our scripts' commands go to it too.
//! Without `peers/` the test says so and does nothing.

#[path = "../../server/tests/ports/mod.rs"]
mod ports;

use ringwood_protocol::reply::{Version, value_len};
use ringwood_scripting::{Functions, Host, LogLevel, Replication, Script, Versions, Vm};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Oracle {
    process: Child,
    port: u16,
}

impl Oracle {
    fn start() -> Option<Self> {
        let peers = PathBuf::from(
            std::env::var("RINGWOOD_PEERS")
                .unwrap_or_else(|_| format!("{}/../peers", env!("CARGO_MANIFEST_DIR"))),
        );
        let server = peers.join("bin/redis-server-8.2");
        if !server.exists() {
            return None;
        }
        let port = ports::free_ports(1);
        let process = Command::new(server)
            .env("LD_LIBRARY_PATH", peers.join("lib"))
            .args([
                "--port",
                &port.to_string(),
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args(["--bind", "127.0.0.1"])
            .current_dir(std::env::temp_dir())
            .stdout(Stdio::null())
            .spawn()
            .expect("the oracle starts");
        let oracle = Self { process, port };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(oracle);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the oracle does not answer");
    }

    fn connect(&self, version: Version) -> Connection {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the oracle answers");
        // A script that blocks or a reply that is never whole must not stop the tests for good.
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        let mut connection = Connection {
            stream,
            buffer: Vec::new(),
        };
        if version == Version::Resp3 {
            connection.command(&[b"HELLO", b"3"]);
        }
        connection
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn command(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.write_all(&request).expect("the oracle reads");
        loop {
            if let Some(len) = (!self.buffer.is_empty())
                .then(|| value_len(&self.buffer))
                .flatten()
            {
                return self.buffer.drain(..len).collect();
            }
            let mut chunk = [0; 65536];
            let n = self.stream.read(&mut chunk).expect("the oracle writes");
            assert!(n > 0, "the oracle hung up");
            self.buffer.extend_from_slice(&chunk[..n]);
        }
    }
}

/// Commands of our scripts run on the oracle.
struct Forward {
    resp2: Connection,
    resp3: Connection,
}

impl Host for Forward {
    fn call(&mut self, args: &[&[u8]], version: Version, reply: &mut Vec<u8>) {
        if args[0].eq_ignore_ascii_case(b"eval") {
            reply.extend_from_slice(b"-ERR This Redis command is not allowed from script\r\n");
            return;
        }
        let connection = match version {
            Version::Resp2 => &mut self.resp2,
            Version::Resp3 => &mut self.resp3,
        };
        let got = connection.command(args);
        // The server has other words for a script's mistakes.
        let got: &[u8] = if got.starts_with(b"-ERR unknown command") {
            b"-ERR Unknown Redis command called from script\r\n"
        } else if got.starts_with(b"-ERR wrong number of arguments for") {
            b"-ERR Wrong number of args calling Redis command from script\r\n"
        } else {
            &got
        };
        reply.extend_from_slice(got);
    }
    fn log(&mut self, _: LogLevel, _: &[u8]) {}
    fn set_repl(&mut self, _: Replication) {}
    fn acl_check(&mut self, args: &[&[u8]]) -> Option<bool> {
        (args[0] != b"foo").then_some(true)
    }
}

struct Case {
    place: String,
    script: Vec<u8>,
    version: Version,
    known: bool,
    keys: Vec<Vec<u8>>,
    args: Vec<Vec<u8>>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the scripts")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a text file");
        for (n, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with("# ") {
                continue;
            }
            let mut case = Case {
                place: format!("{}:{}", file.file_name().unwrap().display(), n + 1),
                script: Vec::new(),
                version: Version::Resp2,
                known: false,
                keys: Vec::new(),
                args: Vec::new(),
            };
            let mut rest = line;
            while let Some((note, after)) = rest.strip_prefix('[').and_then(|r| r.split_once("] "))
            {
                let list = |text: &str| text.split(',').map(|s| s.as_bytes().to_vec()).collect();
                match note.split_once(' ') {
                    None if note == "known" => case.known = true,
                    None if note == "resp3" => case.version = Version::Resp3,
                    Some(("keys", names)) => case.keys = list(names),
                    Some(("args", values)) => case.args = list(values),
                    _ => panic!("{}: [{note}]", case.place),
                }
                rest = after;
            }
            case.script = rest.replace('⏎', "\n").into_bytes();
            cases.push(case);
        }
    }
    cases
}

#[test]
fn replies_equal_those_of_redis() {
    let Some(oracle) = Oracle::start() else {
        eprintln!("no peers: nothing compared");
        return;
    };
    let mut clients = [
        oracle.connect(Version::Resp2),
        oracle.connect(Version::Resp3),
    ];
    let mut host = Forward {
        resp2: oracle.connect(Version::Resp2),
        resp3: oracle.connect(Version::Resp3),
    };
    let versions = Versions {
        major: 8,
        minor: 2,
        patch: 3,
    };
    let mut vm = Vm::new(&versions, 1).expect("a Vm");
    let verbose = std::env::var_os("RINGWOOD_ORACLE_VERBOSE").is_some();
    let (mut count, mut wrong) = (0, 0);
    for case in cases() {
        count += 1;
        if verbose {
            println!("{}", case.place);
        }
        let client = &mut clients[usize::from(case.version == Version::Resp3)];
        client.command(&[b"FLUSHALL"]);
        // Settings of cjson would stay.
        client.command(&[b"SCRIPT", b"FLUSH"]);
        let number = case.keys.len().to_string();
        let mut args: Vec<&[u8]> = vec![b"EVAL", &case.script, number.as_bytes()];
        args.extend(case.keys.iter().chain(&case.args).map(Vec::as_slice));
        let expected = client.command(&args);
        client.command(&[b"FLUSHALL"]);

        let mut got = Vec::new();
        match Script::parse(&case.script) {
            Ok(script) => {
                // What the error was is compared in the reply.
                let _ = vm.run(
                    &script,
                    &case.keys,
                    &case.args,
                    case.version,
                    &mut host,
                    &mut got,
                );
            }
            Err(text) => got.extend_from_slice(format!("-{text}\r\n").as_bytes()),
        }
        if (got != expected) != case.known {
            wrong += 1;
            println!(
                "{}: {}\n  redis: {}\n  here:  {}",
                case.place,
                String::from_utf8_lossy(&case.script),
                expected.escape_ascii(),
                got.escape_ascii()
            );
        }
    }
    println!("{count} scripts, {wrong} differ");
    assert!(count > 300, "only {count} scripts");
    assert_eq!(wrong, 0, "of {count}");
}

/// `tests/functions.txt`: one step a line, here and there. A library that Redis has loaded stays for the next steps.
#[test]
fn functions_equal_those_of_redis() {
    let Some(oracle) = Oracle::start() else {
        eprintln!("no peers: nothing compared");
        return;
    };
    let mut client = oracle.connect(Version::Resp2);
    let mut host = Forward {
        resp2: oracle.connect(Version::Resp2),
        resp3: oracle.connect(Version::Resp3),
    };
    let versions = Versions {
        major: 8,
        minor: 2,
        patch: 3,
    };
    let mut vm = Vm::new(&versions, 1).expect("a Vm");
    let mut functions = Functions::new();
    let mut wrong = 0;
    for (n, line) in include_str!("functions.txt").lines().enumerate() {
        let (step, rest) = line.split_once(' ').unwrap_or((line, ""));
        let text = rest.replace('⏎', "\n");
        let mut got = Vec::new();
        let expected = match step {
            "load" | "replace" => {
                let replace = step == "replace";
                match functions.load(&mut vm, &mut host, text.as_bytes(), replace) {
                    Ok(library) => {
                        let name = &library.name;
                        got = format!("${}\r\n{name}\r\n", name.len()).into_bytes();
                    }
                    Err(text) => got = format!("-{text}\r\n").into_bytes(),
                }
                let mut args: Vec<&[u8]> = vec![b"FUNCTION", b"LOAD"];
                if replace {
                    args.push(b"REPLACE");
                }
                args.push(text.as_bytes());
                client.command(&args)
            }
            "fcall" => {
                let mut words = text.split(' ');
                let name = words.next().expect("a name");
                let list = |words: Option<&str>| -> Vec<Vec<u8>> {
                    let items = words.into_iter().flat_map(|w| w.split(','));
                    items.map(|item| item.as_bytes().to_vec()).collect()
                };
                let (keys, args) = (list(words.next()), list(words.next()));
                match functions.get(name.as_bytes()) {
                    // What the error was is compared in the reply.
                    Some(f) => {
                        drop(vm.call_function(f, &keys, &args, Version::Resp2, &mut host, &mut got))
                    }
                    None => got.extend_from_slice(b"-ERR Function not found\r\n"),
                }
                let number = keys.len().to_string();
                let mut command: Vec<&[u8]> = vec![b"FCALL", name.as_bytes(), number.as_bytes()];
                command.extend(keys.iter().chain(&args).map(Vec::as_slice));
                client.command(&command)
            }
            "delete" => {
                got.extend_from_slice(if functions.delete(&mut vm, &text) {
                    b"+OK\r\n"
                } else {
                    b"-ERR Library not found\r\n"
                });
                client.command(&[b"FUNCTION", b"DELETE", text.as_bytes()])
            }
            "flush" => {
                functions.flush(&mut vm);
                got.extend_from_slice(b"+OK\r\n");
                client.command(&[b"FUNCTION", b"FLUSH"])
            }
            _ => panic!("line {}: {step}", n + 1),
        };
        if got != expected {
            wrong += 1;
            println!(
                "functions.txt:{}: {line}\n  redis: {}\n  here:  {}",
                n + 1,
                expected.escape_ascii(),
                got.escape_ascii()
            );
        }
    }
    assert_eq!(wrong, 0);
}
