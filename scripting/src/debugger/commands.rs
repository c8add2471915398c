//! What the user of a stopped script can ask for.

use super::{Command, Frame, Session, State, error, show};
use crate::ffi;
use crate::redis;
use crate::state::{Lua, Raise};

const HELP: &[&str] = &[
    "Redis Lua debugger help:",
    "[h]elp               Show this help.",
    "[s]tep               Run current line and stop again.",
    "[n]ext               Alias for step.",
    "[c]ontinue           Run till next breakpoint.",
    "[l]ist               List source code around current line.",
    "[l]ist [line]        List source code around [line].",
    "                     line = 0 means: current position.",
    "[l]ist [line] [ctx]  In this form [ctx] specifies how many lines",
    "                     to show before/after [line].",
    "[w]hole              List all source code. Alias for 'list 1 1000000'.",
    "[p]rint              Show all the local variables.",
    "[p]rint <var>        Show the value of the specified variable.",
    "                     Can also show global vars KEYS and ARGV.",
    "[b]reak              Show all breakpoints.",
    "[b]reak <line>       Add a breakpoint to the specified line.",
    "[b]reak -<line>      Remove breakpoint from the specified line.",
    "[b]reak 0            Remove all breakpoints.",
    "[t]race              Show a backtrace.",
    "[e]val <code>        Execute some Lua code (in a different callframe).",
    "[r]edis <cmd>        Execute a Redis command.",
    "[m]axlen [len]       Trim logged Redis replies and Lua var dumps to len.",
    "                     Specifying zero as <len> means unlimited.",
    "[a]bort              Stop the execution of the script. In sync",
    "                     mode dataset changes will be retained.",
    "",
    "Debugger functions you can call from Lua scripts:",
    "redis.debug()        Produce logs in the debugger console.",
    "redis.breakpoint()   Stop execution like if there was a breakpoint in the",
    "                     next line of code.",
];

/// As many as Redis has.
const BREAKPOINTS_MAX: usize = 64;
/// Lines shown before and behind the current one.
const CONTEXT: i64 = 5;
const SHOWN_BYTES_MIN: usize = 60;

impl Session {
    /// Carries out the user's commands until one lets the script go on, or ends it.
    pub(super) fn converse(&self, lua: Lua) -> Result<(), Raise> {
        loop {
            let command = self.0.borrow_mut().console.command();
            let words = match command {
                Command::Words(words) => words,
                Command::Malformed => return error("ERR protocol error"),
                Command::Gone => {
                    self.0.borrow_mut().user_is_gone = true;
                    return self.end_if_alone(lua, false).map(|_| ());
                }
            };
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let is = |short: &str, long: &str| {
                let word = words[0];
                word.eq_ignore_ascii_case(short.as_bytes())
                    || word.eq_ignore_ascii_case(long.as_bytes())
            };
            if is("h", "help") {
                HELP.iter().for_each(|line| self.say(line));
            } else if is("s", "step") || is("n", "next") {
                self.0.borrow_mut().step = true;
                return Ok(());
            } else if is("c", "continue") {
                return Ok(());
            } else if is("t", "trace") {
                self.trace(lua);
            } else if is("m", "maxlen") {
                self.max_len(words.get(1).copied());
            } else if is("b", "break") {
                self.break_at(&words[1..]);
            } else if is("e", "eval") {
                self.eval(lua, &words[1..].join(&b' '));
            } else if is("a", "abort") {
                return error("ERR script aborted for user request");
            } else if words.len() > 1 && is("r", "redis") {
                self.redis(lua, &words[1..]);
            } else if is("p", "print") {
                match words[1..] {
                    [name] => self.print_one(lua, name),
                    _ => self.print_all(lua),
                }
            } else if is("l", "list") {
                let number = |n: usize| words.get(n).map(|word| leading_number(word));
                let around = number(1).unwrap_or(0);
                self.list(around, number(2).unwrap_or(CONTEXT));
            } else if is("w", "whole") {
                self.list(1, 1_000_000);
            } else {
                self.say(
                    "<error> Unknown Redis Lua debugger command or wrong number of arguments.",
                );
            }
            self.flush();
        }
    }

    // ---- source ----

    /// Logs a line of the source as lists show it.
    pub(super) fn log_source(&self, line: usize) {
        let text = self.0.borrow().source(line);
        self.log(text);
    }

    fn list(&self, around: i64, context: i64) {
        let around = match around {
            1.. => around,
            _ => self.0.borrow().line as i64,
        };
        let count = self.0.borrow().lines.len();
        let first = around.saturating_sub(context).max(1);
        let last = around.saturating_add(context).min(count as i64);
        (first..=last).for_each(|line| self.log_source(line as usize));
    }

    fn break_at(&self, words: &[&[u8]]) {
        if words.is_empty() {
            let breakpoints = self.0.borrow().breakpoints.clone();
            if breakpoints.is_empty() {
                return self.say("No breakpoints set. Use 'b <line>' to add one.");
            }
            self.say(&format!("{} breakpoints set:", breakpoints.len()));
            return breakpoints.iter().for_each(|&line| self.log_source(line));
        }
        for word in words {
            let text = String::from_utf8_lossy(word);
            let Some(line) = ringwood_protocol::number::parse_i64(word) else {
                self.say(&format!("Invalid argument:'{text}'"));
                continue;
            };
            let answer = self.0.borrow_mut().set_breakpoint(line);
            match answer {
                Some(text) => self.say(text),
                None => self.list(line, 1),
            }
        }
    }

    // ---- values ----

    fn trace(&self, lua: Lua) {
        let mut level = 0;
        while let Some(frame) = Frame::at(lua, level) {
            if frame.is_of_script() {
                let whence = if level == 0 { "In" } else { "From" };
                let name = frame.name().unwrap_or_else(|| "top level".to_string());
                self.say(&format!("{whence} {name}:"));
                self.log_source(usize::try_from(frame.line).unwrap_or(0));
            }
            level += 1;
        }
        if level == 0 {
            self.say("<error> Can't retrieve Lua stack.");
        }
    }

    /// Logs the value on top of the stack, and pops it.
    fn log_value(&self, lua: Lua, prefix: &[u8]) {
        let mut text = prefix.to_vec();
        show::value(lua, &mut text);
        lua.pop(1);
        self.log_cut(text);
    }

    /// The innermost variable of that name.
    fn print_one(&self, lua: Lua, name: &[u8]) {
        for level in 0.. {
            let Some(frame) = Frame::at(lua, level) else {
                break;
            };
            for n in 1.. {
                match frame.push_local(lua, n) {
                    None => break,
                    Some(found) if found == name => return self.log_value(lua, b"<value> "),
                    Some(_) => lua.pop(1),
                }
            }
        }
        if matches!(name, b"KEYS" | b"ARGV") {
            lua.push_value(ffi::GLOBALS);
            lua.push_bytes(name);
            lua.get_table(-2);
            self.log_value(lua, b"<value> ");
            return lua.pop(1);
        }
        self.say("No such variable.");
    }

    fn print_all(&self, lua: Lua) {
        let Some(frame) = Frame::at(lua, 0) else {
            return;
        };
        let mut any = false;
        for n in 1.. {
            let Some(name) = frame.push_local(lua, n) else {
                break;
            };
            if name == b"(*temporary)" {
                lua.pop(1);
                continue;
            }
            any = true;
            self.log_value(lua, &[b"<value> ", name.as_slice(), b" = "].concat());
        }
        if !any {
            self.say("No local variables in the current context.");
        }
    }

    fn max_len(&self, word: Option<&[u8]>) {
        let mut state = self.0.borrow_mut();
        if let Some(word) = word {
            state.hinted = true;
            state.shown_bytes = match leading_number(word) {
                0 => None,
                len => Some(usize::try_from(len).unwrap_or(0).max(SHOWN_BYTES_MIN)),
            };
        }
        let text = match state.shown_bytes {
            Some(len) => format!("<value> replies are truncated at {len} bytes."),
            None => "<value> replies are unlimited.".to_string(),
        };
        state.log.push(text.into_bytes());
    }

    // ---- doing ----

    /// Runs Lua code: an expression, or else statements.
    fn eval(&self, lua: Lua, code: &[u8]) {
        let top = lua.top();
        let expression = [b"return ", code].concat();
        let mut loaded = lua.load(&expression, c"@ldb_eval");
        if !loaded {
            lua.pop(1);
            loaded = lua.load(code, c"@ldb_eval");
        }
        if !loaded || lua.pcall(0, 1, 0) != 0 {
            let text = crate::error::text(lua);
            self.log([b"<error> ", text.as_slice()].concat());
        } else {
            self.log_value(lua, b"<retval> ");
        }
        lua.set_top(top);
    }

    /// Runs a command as the script would.
    fn redis(&self, lua: Lua, words: &[&[u8]]) {
        let top = lua.top();
        if !lua.room(words.len() as i32 + 1) {
            return self.say("<error> too many arguments");
        }
        lua.push_function(redis::call);
        words.iter().for_each(|word| lua.push_bytes(word));
        // So that it is logged, with its reply.
        self.0.borrow_mut().step = true;
        lua.pcall(words.len() as i32, 1, 0);
        self.0.borrow_mut().step = false;
        lua.set_top(top);
    }
}

impl State {
    fn source(&self, line: usize) -> Vec<u8> {
        let arrow: &[u8] = if line == self.line { b"->" } else { b"  " };
        let mark = if self.breakpoints.contains(&line) {
            b'#'
        } else {
            b' '
        };
        let text = line.checked_sub(1).and_then(|at| self.lines.get(at));
        let text = text.map_or(b"<out of range source code line>".as_slice(), Vec::as_slice);
        let mut out = arrow.to_vec();
        out.push(mark);
        out.extend_from_slice(format!("{line:<3} ").as_bytes());
        out.extend_from_slice(text);
        out
    }

    /// Sets (or, below zero, removes) a breakpoint. Says what is to be said; where nothing, the line is shown.
    fn set_breakpoint(&mut self, line: i64) -> Option<&'static str> {
        if line == 0 {
            self.breakpoints.clear();
            return Some("All breakpoints removed.");
        }
        let at = usize::try_from(line.unsigned_abs()).unwrap_or(usize::MAX);
        if line < 0 {
            let Some(found) = self.breakpoints.iter().position(|&b| b == at) else {
                return Some("No breakpoint in the specified line.");
            };
            self.breakpoints.remove(found);
            return Some("Breakpoint removed.");
        }
        if self.breakpoints.len() == BREAKPOINTS_MAX {
            return Some("Too many breakpoints set.");
        }
        // One that is there already is told the same, as in Redis.
        if at > self.lines.len() || self.breakpoints.contains(&at) {
            return Some("Wrong line number.");
        }
        self.breakpoints.push(at);
        None
    }
}

/// As C's `atoi`: the number that a text begins with, or 0.
fn leading_number(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let digits = digits.iter().take_while(|b| b.is_ascii_digit());
    let number = digits.fold(0i64, |n, b| {
        n.saturating_mul(10).saturating_add(i64::from(b - b'0'))
    });
    if negative { -number } else { number }
}
