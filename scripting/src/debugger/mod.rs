//! The debugger of `SCRIPT DEBUG`: stops a script at its lines and lets its user look around.
//!
//! A [`Session`] is a script's run under it ([`crate::Vm::debug`]). Lua calls [`on_hook`] before each new line, and every so many
//! instructions; there the session decides whether to stop ([`Session::stops_at`]), and if so it carries out the user's commands
//! (`commands.rs`) until one lets the script go on. What is to be told gathers in a log, which goes to the [`Console`] as one
//! reply: an array of status lines. The words and their order are Redis's, to the byte; `show.rs` writes values.
//!
//! Invariant: nothing of the session is borrowed while Lua runs, since what runs may log.

mod commands;
mod show;

use crate::ffi;
use crate::shared::Shared;
use crate::state::{Lua, Raise, Returns};
use std::cell::RefCell;
use std::ffi::CStr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Who debugs.
pub trait Console {
    /// Sends a reply.
    fn send(&mut self, reply: Vec<u8>);
    /// Waits for the next command.
    fn command(&mut self) -> Command;
    /// Looked at now and then while the script runs.
    fn is_gone(&mut self) -> bool;
}

/// What came from the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// At least one.
    Words(Vec<Vec<u8>>),
    /// No command of Redis's protocol.
    Malformed,
    /// The user is gone.
    Gone,
}

/// How a script is debugged.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// A script that runs for so long without a stop is stopped.
    pub patience: Duration,
    /// Nobody keeps what the script does when the user is gone, so it need not run to its end.
    pub ends_with_user: bool,
}

/// Values and replies are cut at so many bytes, unless `maxlen` says otherwise.
const SHOWN_BYTES: usize = 256;
/// How many instructions run between two looks at the clock.
const INSTRUCTIONS: i32 = 100_000;

struct State {
    console: Box<dyn Console>,
    rules: Rules,
    /// The script's text by lines.
    lines: Vec<Vec<u8>>,
    breakpoints: Vec<usize>,
    /// Stop at the next line. While it is so, commands and their replies are logged.
    step: bool,
    /// It has run for too long: to be told at the next line.
    impatient: bool,
    /// `redis.breakpoint` was called.
    called: bool,
    user_is_gone: bool,
    log: Vec<Vec<u8>>,
    shown_bytes: Option<usize>,
    /// The user was told about `shown_bytes`.
    hinted: bool,
    line: usize,
    /// Since the script's beginning or its last stop.
    since: Instant,
    seen: Seen,
}

/// The last line that was seen of each frame of a Lua thread. LuaJIT reports the rest of a line again when a call on it has returned.
#[derive(Default)]
struct Seen {
    thread: usize,
    lines: Vec<i32>,
}

impl Seen {
    /// True if a line is really entered, by a frame `depth` levels deep.
    fn enters(&mut self, thread: usize, depth: usize, line: i32) -> bool {
        if self.thread != thread {
            self.thread = thread;
            self.lines.clear();
        }
        let returned = self.lines.len() > depth && self.lines[depth - 1] == line;
        self.lines.resize(depth, 0);
        self.lines[depth - 1] = line;
        !returned
    }
}

/// A script's run under the debugger.
#[derive(Clone)]
pub(crate) struct Session(Rc<RefCell<State>>);

impl Session {
    pub(crate) fn new(text: &[u8], console: Box<dyn Console>, rules: Rules) -> Self {
        let end = text.iter().rposition(|b| !matches!(b, b'\r' | b'\n'));
        let text = &text[..end.map_or(0, |last| last + 1)];
        let lines = match text {
            [] => Vec::new(),
            text => text.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect(),
        };
        Self(Rc::new(RefCell::new(State {
            console,
            rules,
            lines,
            breakpoints: Vec::new(),
            step: true,
            impatient: false,
            called: false,
            user_is_gone: false,
            log: Vec::new(),
            shown_bytes: Some(SHOWN_BYTES),
            hinted: false,
            line: 0,
            since: Instant::now(),
            seen: Seen::default(),
        })))
    }

    /// The session of the running script, if it is debugged.
    #[inline]
    pub(crate) fn of(lua: Lua) -> Option<Self> {
        // SAFETY: the Vm's shared state; the session is cloned, no reference stays.
        unsafe { (*Shared::of(lua)).debugger.clone() }
    }

    pub(crate) fn attach(&self, lua: Lua) {
        // SAFETY: a live state, which runs nothing. Compiled code calls no hooks, so there shall be none.
        unsafe {
            ffi::luaJIT_setmode(lua.0, 0, ffi::MODE_FLUSH);
            ffi::luaJIT_setmode(lua.0, 0, ffi::MODE_ENGINE_OFF);
            (*Shared::of(lua)).debugger = Some(self.clone());
            let mask = ffi::MASK_LINE | ffi::MASK_COUNT;
            ffi::lua_sethook(lua.0, Some(on_hook), mask, INSTRUCTIONS);
        }
    }

    pub(crate) fn detach(&self, lua: Lua) {
        // SAFETY: as above.
        unsafe {
            ffi::lua_sethook(lua.0, None, 0, 0);
            (*Shared::of(lua)).debugger = None;
            ffi::luaJIT_setmode(lua.0, 0, ffi::MODE_ENGINE_ON);
        }
    }

    /// The script has ended: tells the rest, and that it was all.
    pub(crate) fn end(&self) {
        self.log(b"<endsession>".to_vec());
        self.flush();
    }

    // ---- what the script does ----

    /// `redis.breakpoint`
    pub(crate) fn stop_at_next_line(&self) {
        self.0.borrow_mut().called = true;
    }
    /// `redis.debug`, with its arguments on the stack.
    pub(crate) fn print(&self, lua: Lua) {
        let line = self.0.borrow().line;
        let mut text = format!("<debug> line {line}: ").into_bytes();
        for i in 1..=lua.top() {
            if i > 1 {
                text.extend_from_slice(b", ");
            }
            lua.push_value(i);
            show::value(lua, &mut text);
            lua.pop(1);
        }
        self.log(text);
    }
    /// `redis.call` is about to run a command.
    pub(crate) fn calls(&self, args: &[&[u8]]) {
        if !self.0.borrow().step {
            return;
        }
        const SHOWN: usize = 10;
        let mut text = b"<redis>".to_vec();
        for arg in &args[..args.len().min(SHOWN)] {
            text.push(b' ');
            text.extend_from_slice(arg);
        }
        if args.len() > SHOWN {
            text.extend_from_slice(format!(" ... ({} more)", args.len() - SHOWN - 1).as_bytes());
        }
        self.log(text);
    }
    /// It has run. `refused`: it has not.
    pub(crate) fn called(&self, reply: &[u8], refused: bool) {
        if !self.0.borrow().step {
            return;
        }
        if reply.first() == Some(&b'-') {
            let text = reply.strip_suffix(b"\r\n").unwrap_or(reply);
            match refused {
                true => self.failed(&text[1..]),
                false => self.log([b"<error> ", text].concat()),
            }
        }
        if !refused {
            let mut text = b"<reply> ".to_vec();
            show::reply(reply, &mut text);
            self.log_cut(text);
        }
    }
    /// A function of `redis` fails with this text.
    pub(crate) fn failed(&self, text: &[u8]) {
        if self.0.borrow().step {
            let text = text.strip_prefix(b"ERR ").unwrap_or(text);
            self.log([b"<error> ", text].concat());
        }
    }
    /// A script makes an error of its own.
    pub(crate) fn made_error(&self, text: &[u8]) {
        if self.0.borrow().step {
            let text = text.strip_prefix(b"-").unwrap_or(text);
            self.log([b"<error> -", text].concat());
        }
    }

    // ---- the log ----

    fn log(&self, line: Vec<u8>) {
        self.0.borrow_mut().log.push(line);
    }
    fn say(&self, text: &str) {
        self.log(text.as_bytes().to_vec());
    }
    /// Logs what may be long.
    fn log_cut(&self, mut line: Vec<u8>) {
        let mut state = self.0.borrow_mut();
        let cut = state.shown_bytes.filter(|max| line.len() > *max);
        if let Some(max) = cut {
            line.truncate(max);
            line.extend_from_slice(b" ...");
        }
        state.log.push(line);
        if cut.is_some() && !state.hinted {
            state.hinted = true;
            let hint = "<hint> The above reply was trimmed. Use 'maxlen 0' to disable trimming.";
            state.log.push(hint.into());
        }
    }
    /// Sends the log.
    fn flush(&self) {
        let mut state = self.0.borrow_mut();
        let log = std::mem::take(&mut state.log);
        let mut reply = format!("*{}\r\n", log.len()).into_bytes();
        for line in log {
            reply.push(b'+');
            reply.extend(crate::error::one_line(&line));
            reply.extend_from_slice(b"\r\n");
        }
        state.console.send(reply);
    }

    // ---- stopping ----

    /// Decides at a line, or, where `counted`, amid one. Says why it stops.
    fn stops_at(&self, line: usize, counted: bool) -> Option<&'static str> {
        let mut state = self.0.borrow_mut();
        state.line = line;
        let pending = std::mem::take(&mut state.impatient);
        let code = state.has_code(line);
        if counted && state.since.elapsed() >= state.rules.patience || pending {
            // Where there is no code in Redis's Lua, the next line is as good.
            state.impatient = !code;
            return code.then_some("timeout reached, infinite loop?");
        }
        if counted || !code {
            return None;
        }
        let at_breakpoint = state.breakpoints.contains(&line);
        let why = match (state.called, at_breakpoint, state.step) {
            (true, ..) => "redis.breakpoint() called",
            (_, true, _) => "break point",
            (_, _, true) => "step over",
            _ => return None,
        };
        Some(why)
    }
}

/// Ends a session whose script did not even begin.
pub fn end_without_script(console: &mut dyn Console) {
    console.send(b"*1\r\n+<endsession>\r\n".to_vec());
}

impl State {
    /// LuaJIT marks the beginnings of loops, for which Lua has no code.
    fn has_code(&self, line: usize) -> bool {
        let text = line.checked_sub(1).and_then(|at| self.lines.get(at));
        let text = text.map_or(b"".as_slice(), |text| text.trim_ascii());
        !matches!(text, b"repeat" | b"while true do" | b"while 1 do")
    }
}

fn error<T>(text: &str) -> Result<T, Raise> {
    Err(Raise::Object(text.to_string()))
}

pub(crate) unsafe extern "C-unwind" fn on_hook(l: *mut ffi::State, ar: *mut ffi::Debug) {
    // SAFETY: Lua describes the event.
    let counted = unsafe { (*ar).event } == ffi::HOOK_COUNT;
    crate::state::call(Lua(l), |lua| hook(lua, counted));
}

fn hook(lua: Lua, counted: bool) -> Returns {
    let Some(session) = Session::of(lua) else {
        return Ok(0);
    };
    let Some(frame) = Frame::at(lua, 0) else {
        return Ok(0);
    };
    if !counted {
        let depth = (1..).find(|&level| !Frame::exists(lua, level));
        let depth = depth.unwrap_or(1) as usize;
        let entered = session
            .0
            .borrow_mut()
            .seen
            .enters(lua.0.addr(), depth, frame.line);
        if !entered {
            return Ok(0);
        }
    }
    // What happens outside of the script is of no interest, but for how long it takes.
    if !frame.is_of_script() {
        return session.end_if_alone(lua, counted);
    }
    session.end_if_alone(lua, counted)?;
    if session.0.borrow().user_is_gone {
        return Ok(0);
    }
    let line = usize::try_from(frame.line).unwrap_or(0);
    let Some(why) = session.stops_at(line, counted) else {
        return Ok(0);
    };
    {
        let mut state = session.0.borrow_mut();
        (state.step, state.called) = (false, false);
    }
    session.say(&format!("* Stopped at {line}, stop reason = {why}"));
    session.log_source(line);
    session.flush();
    let result = session.converse(lua);
    session.0.borrow_mut().since = Instant::now();
    result.map(|()| 0)
}

impl Session {
    /// Ends a script whose user is gone, if nobody wants its end or it runs for too long.
    fn end_if_alone(&self, _: Lua, counted: bool) -> Returns {
        let mut state = self.0.borrow_mut();
        if counted && !state.user_is_gone {
            state.user_is_gone = state.console.is_gone();
        }
        if !state.user_is_gone {
            return Ok(0);
        }
        if state.rules.ends_with_user {
            return error("ERR the client closed the connection");
        }
        if counted && state.since.elapsed() >= state.rules.patience {
            return error("ERR timeout during Lua debugging with client closing connection");
        }
        Ok(0)
    }
}

/// What is known of a level of Lua's stack.
struct Frame {
    ar: ffi::Debug,
    line: i32,
}

impl Frame {
    fn exists(lua: Lua, level: i32) -> bool {
        // SAFETY: all zeros is a valid Debug; a live state.
        unsafe {
            let mut ar: ffi::Debug = std::mem::zeroed();
            ffi::lua_getstack(lua.0, level, &mut ar) != 0
        }
    }
    fn at(lua: Lua, level: i32) -> Option<Self> {
        // SAFETY: as in `error::origin`.
        let ar = unsafe {
            let mut ar: ffi::Debug = std::mem::zeroed();
            let found = ffi::lua_getstack(lua.0, level, &mut ar) != 0
                && ffi::lua_getinfo(lua.0, c"nSl".as_ptr(), &mut ar) != 0;
            found.then_some(ar)
        }?;
        let line = ar.currentline;
        Some(Self { ar, line })
    }
    fn is_of_script(&self) -> bool {
        // SAFETY: filled in by lua_getinfo: terminated, and lives as long as the function on the stack.
        let source = unsafe { CStr::from_ptr(self.ar.source) };
        source == c"@user_script"
    }
    /// The function's name, as its caller has it.
    fn name(&self) -> Option<String> {
        if self.ar.name.is_null() {
            return None;
        }
        // SAFETY: as above.
        let (name, kind) = unsafe {
            (
                CStr::from_ptr(self.ar.name),
                CStr::from_ptr(self.ar.namewhat),
            )
        };
        // In Redis's Lua those have none.
        (kind != c"metamethod").then(|| name.to_string_lossy().into_owned())
    }
    /// Pushes the `n`th local variable (from 1) and returns its name.
    fn push_local(&self, lua: Lua, n: i32) -> Option<Vec<u8>> {
        // SAFETY: a live state; `ar` is of a level that is still there, since nothing has run since.
        unsafe {
            let name = ffi::lua_getlocal(lua.0, &self.ar, n);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_bytes().to_vec())
        }
    }
}

#[cfg(test)]
mod tests;
