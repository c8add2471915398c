//! The process as the system sees it: its title, its supervisor, how dear it is, and how it ends.

use crate::persistence::TemporaryFolder;
use crate::server::{Client, Server};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

fn title(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).expect("a running process");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.trim_end_matches('\0').to_owned()
}
fn set(c: &mut Client, name: &str, value: &str) -> String {
    c.ask(&["CONFIG", "SET", name, value]);
    c.reply().expect("an answer")
}

/// As redis-server 8.2.3 shows it.
#[test]
fn the_title_follows_its_template() {
    let server = Server::start(1, &[]);
    let program = env!("CARGO_BIN_EXE_ringwood");
    let address = format!("127.0.0.1:{}", server.port);
    assert_eq!(title(server.pid()), format!("{program} {address}"));
    let mut c = server.client();
    let template = "T {title}|{listen-addr}|{server-mode}|{tls-port}|{unixsocket}|{config-file}.";
    assert_eq!(set(&mut c, "proc-title-template", template), "+OK\r\n");
    let shown = format!("T {program}|{address}||0||-.");
    assert_eq!(title(server.pid()), shown);
    assert!(set(&mut c, "proc-title-template", "{nope}").starts_with("-ERR"));
    assert_eq!(title(server.pid()), shown);
    assert_eq!(set(&mut c, "proc-title-template", " short "), "+OK\r\n");
    assert_eq!(title(server.pid()), "short");
    // Longer than the command line was: the environment's room is used too, of which the server has a copy.
    let long = "x".repeat(program.len() + 120);
    assert_eq!(set(&mut c, "proc-title-template", &long), "+OK\r\n");
    assert_eq!(title(server.pid()), long);
    let options = ["--set-proc-title", "no"];
    let server = Server::start(1, &options);
    assert!(title(server.pid()).ends_with("--set-proc-title\0no"));
    assert_eq!(
        set(&mut server.client(), "proc-title-template", "x"),
        "+OK\r\n"
    );
    assert!(title(server.pid()).ends_with("--set-proc-title\0no"));
}

#[test]
fn the_kernel_is_told_how_dear_the_process_is() {
    let server = Server::start(1, &["--oom-score-adj", "yes"]);
    let file = format!("/proc/{}/oom_score_adj", server.pid());
    let score = || -> i32 {
        let text = fs::read_to_string(&file).expect("a running process");
        text.trim().parse().expect("a number")
    };
    let text = fs::read_to_string("/proc/self/oom_score_adj").expect("our own");
    let base: i32 = text.trim().parse().expect("a number");
    let mut c = server.client();
    assert_eq!(score(), base);
    assert_eq!(set(&mut c, "oom-score-adj-values", "10 20 30"), "+OK\r\n");
    assert_eq!(score(), (base + 10).min(1000));
    assert_eq!(set(&mut c, "oom-score-adj", "absolute"), "+OK\r\n");
    if base <= 10 {
        assert_eq!(score(), 10);
    }
    assert_eq!(set(&mut c, "oom-score-adj", "no"), "+OK\r\n");
    assert_eq!(score(), base);
    // Switched off, it touches nothing.
    assert_eq!(set(&mut c, "oom-score-adj-values", "40 40 40"), "+OK\r\n");
    assert_eq!(score(), base);
}

#[test]
fn systemd_hears_of_the_start_and_the_end() {
    let folder = TemporaryFolder::new("supervised");
    let path = folder.join("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket");
    systemd
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    let hears = |wanted: &str| {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let mut bytes = [0; 200];
            let length = systemd.recv(&mut bytes).expect("a message");
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text.contains(wanted) {
                return;
            }
            assert!(Instant::now() < end, "never heard {wanted}");
        }
    };
    let variable = format!("NOTIFY_SOCKET={}", path.display());
    // With a supervisor nothing goes to the background.
    let options = ["--supervised", "auto", "--daemonize", "yes"];
    let server = Server::start_through(&["env", &variable], 2, &options);
    hears("READY=1\n");
    let mut c = server.client();
    assert!(c.call("INFO server").contains("process_supervised:systemd"));
    c.ask(&["SHUTDOWN"]);
    hears("STOPPING=1\n");
}

/// The server that is to go to the background, and its process id once it answers.
fn daemon(folder: &TemporaryFolder, port: u16) -> u32 {
    let file = folder.join("pid");
    let status = Command::new(env!("CARGO_BIN_EXE_ringwood"))
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--shards", "2", "--daemonize", "yes", "--logfile", "log"])
        .arg("--pidfile")
        .arg(&file)
        .arg("--dir")
        .arg(&**folder)
        .status()
        .expect("it starts");
    assert!(status.success());
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if let Ok(pid) = text.trim().parse()
            && Client::try_to(port).is_some()
        {
            return pid;
        }
        assert!(Instant::now() < end, "no process id: {text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_daemon_leaves_its_number_and_takes_it_away() {
    let folder = TemporaryFolder::new("daemon");
    let port = crate::ports::free_ports(1);
    let pid = daemon(&folder, port);
    assert_eq!(
        title(pid),
        format!("{} 127.0.0.1:{port}", env!("CARGO_BIN_EXE_ringwood"))
    );
    let mut c = Client::try_to(port).expect("it listens");
    assert!(
        c.call("INFO server")
            .contains(&format!("process_id:{pid}\r\n"))
    );
    c.ask(&["SHUTDOWN", "NOSAVE"]);
    let end = Instant::now() + Duration::from_secs(20);
    while folder.join("pid").exists() {
        assert!(Instant::now() < end, "the file stays");
        std::thread::sleep(Duration::from_millis(10));
    }
    let log = fs::read_to_string(folder.join("log")).expect("its log");
    assert!(log.contains("bye bye"), "{log}");
}

#[test]
fn signals_save_as_they_are_told_to() {
    for (signal, options, saves) in [
        (
            "TERM",
            &["--save", "", "--shutdown-on-sigterm", "save"][..],
            true,
        ),
        (
            "TERM",
            &["--save", "3600 1", "--shutdown-on-sigterm", "nosave"],
            false,
        ),
        (
            "INT",
            &["--save", "", "--shutdown-on-sigint", "save now"],
            true,
        ),
        (
            "INT",
            &["--save", "", "--shutdown-on-sigterm", "save"],
            false,
        ),
        ("TERM", &["--save", "3600 1"], true),
    ] {
        let folder = TemporaryFolder::new("signals");
        let dir = folder.to_str().expect("a plain name");
        let mut server = Server::start(2, &[&["--dir", dir], options].concat());
        assert_eq!(server.client().call("SET k v"), "+OK\r\n");
        let pid = server.pid().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.expect("kill(1) runs").success());
        assert!(server.ended().success());
        assert_eq!(
            folder.join("dump.rdb").exists(),
            saves,
            "SIG{signal} {options:?}"
        );
    }
}

#[test]
fn the_unix_socket_gets_its_group() {
    let folder = TemporaryFolder::new("group");
    let path = folder.join("socket");
    let socket = path.to_str().expect("a plain name");
    let said = |option: &str| {
        let output = Command::new("id").arg(option).output().expect("id(1) runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    // Root may give it to anyone, others only to one of their own.
    let (name, number) = match said("-u").as_str() {
        "0" => ("daemon".to_owned(), None),
        _ => (said("-gn"), said("-g").parse::<u32>().ok()),
    };
    let options = ["--unixsocket", socket, "--unixsocketgroup", &name];
    let server = Server::start(1, &options);
    let gid = fs::metadata(&path).expect("it is there").gid();
    match number {
        Some(number) => assert_eq!(gid, number),
        None => assert_ne!(gid, 0),
    }
    drop(server);
    let options = ["--unixsocket", socket, "--unixsocketgroup", "no such group"];
    let server = Server::start_loading(&[], 1, &options);
    assert!(server.log().contains("there is no group 'no such group'"));
}
