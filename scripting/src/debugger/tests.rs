//! Sessions with a user whose commands are known beforehand.

use super::{Command, Console, Rules};
use crate::{Host, LogLevel, Replication, Script, Versions, Vm};
use ringwood_protocol::reply::{Reply, Version};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

struct User {
    commands: std::vec::IntoIter<String>,
    told: Rc<RefCell<Vec<u8>>>,
}

impl Console for User {
    fn send(&mut self, reply: Vec<u8>) {
        self.told.borrow_mut().extend_from_slice(&reply);
    }
    fn command(&mut self) -> Command {
        match self.commands.next() {
            Some(line) => {
                let words = line.split(' ').map(|word| word.as_bytes().to_vec());
                Command::Words(words.collect())
            }
            None => Command::Gone,
        }
    }
    fn is_gone(&mut self) -> bool {
        false
    }
}

struct Server;

impl Host for Server {
    fn call(&mut self, args: &[&[u8]], version: Version, reply: &mut Vec<u8>) {
        Reply::new(reply, version).bulk(args[args.len() - 1]);
    }
    fn log(&mut self, _: LogLevel, _: &[u8]) {}
    fn set_repl(&mut self, _: Replication) {}
    fn acl_check(&mut self, _: &[&[u8]]) -> Option<bool> {
        None
    }
}

/// What the user was told, and the script's reply.
fn session(vm: &mut Vm, body: &str, commands: &[&str], ends_with_user: bool) -> (String, String) {
    let told = Rc::new(RefCell::new(Vec::new()));
    let commands: Vec<String> = commands.iter().map(|c| c.to_string()).collect();
    let user = User {
        commands: commands.into_iter(),
        told: told.clone(),
    };
    let rules = Rules {
        patience: Duration::from_secs(3600),
        ends_with_user,
    };
    let script = Script::parse(body.as_bytes()).unwrap();
    let (mut out, none): (Vec<u8>, [&[u8]; 0]) = (Vec::new(), []);
    // The outcome is in the reply.
    let _ = vm.debug(
        &script,
        &none,
        &none,
        Version::Resp2,
        &mut Server,
        Box::new(user),
        rules,
        &mut out,
    );
    let told = String::from_utf8_lossy(&told.borrow()).into_owned();
    (told, String::from_utf8_lossy(&out).into_owned())
}

fn vm() -> Vm {
    let versions = Versions {
        major: 8,
        minor: 2,
        patch: 3,
    };
    Vm::new(&versions, 1).unwrap()
}

#[test]
fn a_line_is_entered_once_though_it_calls() {
    let body = "local function f(x)\n  return x\nend\nlocal a = f(1) + f(f(2))\nfor i = 1, 2 do\n  a = a + f(i)\nend\nreturn a";
    let (told, reply) = session(&mut vm(), body, &["s"; 40], true);
    let stops: Vec<&str> = told
        .split("+* Stopped at ")
        .skip(1)
        .filter_map(|rest| rest.split(',').next())
        .collect();
    assert_eq!(stops.join(" "), "3 4 2 2 2 5 6 2 5 6 2 5 8");
    assert_eq!(reply, ":6\r\n");
}

#[test]
fn an_end_of_the_user_ends_the_script_or_not() {
    let mut vm = vm();
    let body = "local a = redis.call('ECHO', 'x')\nreturn a";
    let (_, reply) = session(&mut vm, body, &["s"], true);
    assert!(reply.starts_with("-ERR the client closed"), "{reply}");
    let (_, reply) = session(&mut vm, body, &["s"], false);
    assert_eq!(reply, "$1\r\nx\r\n");
    // A script cannot go on by catching it.
    let body = "pcall(function()\n  local b = 1\n  return b\nend)\nreturn 'went on'";
    let (_, reply) = session(&mut vm, body, &["s", "s"], true);
    assert!(reply.starts_with("-ERR the client closed"), "{reply}");
}

#[test]
fn nothing_is_left_of_a_session() {
    let mut vm = vm();
    let body = "local t = {}\nlocal u = {t, t}\nredis.breakpoint()\nreturn 1";
    let commands = ["b 2", "e string.rep('x', 100000)", "p", "r ECHO x", "c"];
    let before = vm.used_memory();
    for _ in 0..10 {
        let (told, _) = session(&mut vm, body, &commands, true);
        assert!(told.contains("+<hint> "), "{told}");
    }
    vm.flush();
    assert!(
        vm.used_memory() < before + (1 << 20),
        "{}",
        vm.used_memory()
    );
    // An ordinary script is not stopped, and tells nobody.
    let script = Script::parse(b"redis.debug(1) return tostring(redis.breakpoint())").unwrap();
    let (mut out, none): (Vec<u8>, [&[u8]; 0]) = (Vec::new(), []);
    vm.run(&script, &none, &none, Version::Resp2, &mut Server, &mut out)
        .unwrap();
    assert_eq!(out, b"$5\r\nfalse\r\n");
}

#[test]
fn hostile_values_are_shown() {
    let body = "local t = {}\nfor i = 1, 14 do t = {t, t, t, t, t, t} end\nlocal n = {1e308 * 10, -0.5, 2^53}\n\
                local s = setmetatable({}, {__index = function() error('no') end, __tostring = 5})\nreturn 1";
    let (told, reply) = session(
        &mut vm(),
        body,
        &["b 5", "c", "p t", "p n", "p s", "m", "c"],
        true,
    );
    assert!(
        told.contains("+<value> {inf; -0.5; 9.0072e+15}\r\n"),
        "{told}"
    );
    assert!(told.contains("+<value> {}\r\n"), "{told}");
    assert_eq!(reply, ":1\r\n");
}
