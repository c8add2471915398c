//! Scripts and functions: small random programs around the commands of the other families.
//!
//! A program makes a few calls, with keys that are declared, handed over as arguments, written out or put together inside, and returns what came, bare or
//! nested, or something of its own. What Lua leaves open (the order of a table's fields) is kept out.

use crate::compare::Check;
use crate::grammar::Arg::{Program, Raw, Script};
use crate::grammar::{From, Generator, Spec, spec};
use crate::random::Random;
use sha1::{Digest, Sha1};

/// What is sent of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The text, the keys and the arguments.
    Whole,
    /// The text alone.
    Text,
    /// The digest of one that was sent before, keys and arguments.
    Digest,
    /// A library with one function.
    Library,
    /// The name of a function, keys and arguments.
    Function,
}

pub const SPECS: &[Spec] = &[
    spec("EVAL", &[Program(Form::Whole)])
        .from(From::Redis82)
        .weight(60),
    spec("EVAL_RO", &[Program(Form::Whole)])
        .from(From::Redis82)
        .weight(8),
    spec("SCRIPT LOAD", &[Program(Form::Text)])
        .from(From::Redis82)
        .weight(4),
    spec("EVALSHA", &[Program(Form::Digest)])
        .from(From::Redis82)
        .weight(12),
    spec("EVALSHA_RO", &[Program(Form::Digest)])
        .from(From::Redis82)
        .weight(3),
    spec("SCRIPT EXISTS", &[Script, Script])
        .from(From::Redis82)
        .weight(1),
    spec("SCRIPT FLUSH", &[]).from(From::Redis82).weight(1),
    spec("FUNCTION LOAD", &[Raw("REPLACE"), Program(Form::Library)])
        .from(From::Redis82)
        .weight(8),
    spec("FCALL", &[Program(Form::Function)])
        .from(From::Redis82)
        .weight(16),
    spec("FCALL_RO", &[Program(Form::Function)])
        .from(From::Redis82)
        .weight(4),
    spec("FUNCTION DELETE", &[Raw("lib1")])
        .from(From::Redis82)
        .weight(1),
];

/// Commands whose replies a script cannot pass on in a certain order, or that other reasons keep out.
const KEPT_OUT: &[&str] = &[
    "SORT",
    "SORT_RO",
    "DEBUG",
    "CONFIG SET",
    "SWAPDB",
    "OBJECT HELP",
    "MEMORY HELP",
    "XGROUP HELP",
    "XINFO HELP",
];
/// Those whose replies are maps or sets in RESP3.
const MAPS: &[&str] = &[
    "HGETALL",
    "XREAD",
    "XREADGROUP",
    "XINFO STREAM",
    "XINFO GROUPS",
    "XINFO CONSUMERS",
    "LCS",
    "SMEMBERS",
    "SINTER",
    "SUNION",
    "SDIFF",
    "ZINTER",
    "ZUNION",
    "ZDIFF",
];

/// True for a command that programs may call.
pub fn is_called(spec: &Spec) -> bool {
    let whole = spec.check == Check::Exact && !spec.ask_encoding && !spec.discard;
    whole && spec.pause == 0 && !KEPT_OUT.contains(&spec.name) && !spec.name.starts_with("DEBUG")
}

/// A program that was sent, to be called again.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its digest, or a function's name.
    pub name: String,
    pub keys: Vec<Vec<u8>>,
    pub args: Vec<Vec<u8>>,
}

/// A program as it grows.
#[derive(Default)]
struct Draft {
    text: String,
    keys: Vec<Vec<u8>>,
    args: Vec<Vec<u8>>,
    values: usize,
    /// Replies come as RESP3 has them.
    resp3: bool,
}

/// The words behind the command's name.
pub fn words(generator: &mut Generator<'_>, form: Form) -> Vec<Vec<u8>> {
    match form {
        Form::Whole | Form::Text => {
            let draft = Draft::draw(generator, true);
            let known = draft.known(digest(&draft.text));
            let mut words = vec![draft.text.into_bytes()];
            if form == Form::Whole {
                words.extend(known.parameters());
            }
            generator.programs.push(known);
            words
        }
        Form::Digest => {
            let known = some(&generator.programs, &mut generator.random);
            [vec![known.name.clone().into_bytes()], known.parameters()].concat()
        }
        Form::Library => {
            let draft = Draft::draw(generator, false);
            let number = generator.random.below(4);
            let flags = *generator.random.pick(&[
                "",
                "",
                "",
                ", flags={'no-writes'}",
                ", flags={'allow-oom'}",
            ]);
            generator.functions.push(draft.known(format!("f{number}")));
            let text = format!(
                "#!lua name=lib{number}\nredis.register_function{{function_name='f{number}', callback=function(KEYS, ARGV)\n{}end{flags}}}",
                draft.text
            );
            vec![text.into_bytes()]
        }
        Form::Function => {
            let known = some(&generator.functions, &mut generator.random);
            [vec![known.name.clone().into_bytes()], known.parameters()].concat()
        }
    }
}

/// The digest of a program that was sent.
pub fn a_digest(generator: &mut Generator<'_>) -> Vec<u8> {
    some(&generator.programs, &mut generator.random)
        .name
        .into_bytes()
}

fn some(known: &[Known], random: &mut Random) -> Known {
    match known {
        [] => Known {
            name: "0".repeat(40),
            ..Known::default()
        },
        known => known[random.below(known.len())].clone(),
    }
}

fn digest(text: &str) -> String {
    let digest = Sha1::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Known {
    fn parameters(&self) -> Vec<Vec<u8>> {
        let count = self.keys.len().to_string().into_bytes();
        [vec![count], self.keys.clone(), self.args.clone()].concat()
    }
}

impl Draft {
    fn draw(generator: &mut Generator<'_>, alone: bool) -> Self {
        let mut draft = Self::default();
        if alone && generator.random.chance(12) {
            let flags = *generator.random.pick(&[
                "",
                "",
                " flags=no-writes",
                " flags=allow-oom,no-cluster",
                " flags=allow-cross-slot-keys",
                " flags=nosuch",
                " name=x",
            ]);
            draft.line(&format!("#!lua{flags}"));
        }
        if generator.random.chance(25) {
            draft.resp3 = true;
            draft.line("redis.setresp(3)");
        }
        for _ in 0..generator.random.range(1, 4) {
            draft.statement(generator);
        }
        let last = draft.result(&mut generator.random);
        draft.line(&last);
        draft
    }

    fn known(&self, name: String) -> Known {
        Known {
            name,
            keys: self.keys.clone(),
            args: self.args.clone(),
        }
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn statement(&mut self, generator: &mut Generator<'_>) {
        if generator.random.chance(8) {
            let line = *generator.random.pick(&[
                "for i = 1, #ARGV do redis.call('RPUSH', 'list:' .. (i % 3), ARGV[i]) end",
                "for i, key in ipairs(KEYS) do redis.call('EXISTS', key) end",
                "redis.call('SET', 'str:' .. #KEYS, 1 / 3)",
                "redis.call('SET', '{a}str:1', 100000000000000000000)",
                "redis.pcall('INCRBYFLOAT', 'str:0', 0.1)",
                "redis.call('APPEND', 'str:2', #ARGV .. '|' .. 2 / 3 .. '|' .. 1e15 .. '|' .. 3.0)",
                "redis.set_repl(redis.REPL_ALL)",
                "if #KEYS > 1 then redis.pcall('COPY', KEYS[1], KEYS[2]) end",
            ]);
            return self.line(line);
        }
        let mut call = None;
        for _ in 0..20 {
            let command = generator.inner_command();
            let Some((name, command)) = command else {
                return;
            };
            // Where a call is too complex for the compiler, Lua and LuaJIT name different words.
            if command.len() < 40 && !(self.resp3 && MAPS.contains(&name)) {
                call = Some(command);
                break;
            }
        }
        let Some(command) = call else {
            return;
        };
        let random = &mut generator.random;
        let words: Vec<String> = command.iter().map(|w| self.word(w, random)).collect();
        let how = if random.chance(60) { "pcall" } else { "call" };
        self.values += 1;
        let line = format!("local v{} = redis.{how}({})", self.values, words.join(", "));
        self.line(&line);
    }

    /// A word of a call, in one of the ways to write it.
    fn word(&mut self, word: &[u8], random: &mut Random) -> String {
        let is_key = word.contains(&b':') && word.len() < 20;
        let text = std::str::from_utf8(word).unwrap_or_default();
        match random.below(10) {
            0..=4 if is_key => {
                self.keys.push(word.to_vec());
                format!("KEYS[{}]", self.keys.len())
            }
            5 | 6 if is_key => {
                let at = word.iter().position(|b| *b == b':').expect("looked for");
                let (head, tail) = (quoted(&word[..at]), quoted(&word[at + 1..]));
                format!("{head} .. ':' .. {tail}")
            }
            7 | 8 => {
                self.args.push(word.to_vec());
                format!("ARGV[{}]", self.args.len())
            }
            0..=3
                if text.len() < 15 && text.parse::<i64>().is_ok_and(|n| n.to_string() == text) =>
            {
                text.to_owned()
            }
            4 if !is_key && self.values > 0 => {
                let value = 1 + random.below(self.values);
                format!(
                    "(type(v{value}) == 'string' and v{value} or {})",
                    quoted(word)
                )
            }
            _ => quoted(word),
        }
    }

    fn result(&self, random: &mut Random) -> String {
        const FIXED: &[&str] = &[
            "return",
            "return nil",
            "return true",
            "return false",
            "return 3.99",
            "return -3.99",
            "return 2^53",
            "return '\\0\\255'",
            "return redis.status_reply('FINE')",
            "return redis.error_reply('MY error')",
            "return redis.error_reply('-MY error')",
            "return redis.error_reply('one')",
            "return redis.error_reply('')",
            "return {ok='yes'}",
            "return {ok='two\\nlines'}",
            "return {err='no such luck'}",
            "return {err='ERR no\\r\\nsuch'}",
            "return {ok={}}",
            "return {err=1}",
            "return {double=3.25}",
            "return {double=1e300}",
            "return {double=-0.1}",
            "return {map={a={1, 2}}}",
            "return {set={a=true}}",
            "return {big_number='12345678901234567890'}",
            "return {verbatim_string={format='txt', string='a b'}}",
            "return {{map={a=1}}, {set={b=true}}, {double=1.5}, {ok='x'}, {err='ERR y'}}",
            "return {1, 2, nil, 4}",
            "return {1, 1.9, -1.9, 'x', true, false, {}, {{}}}",
            "return {a=1}",
            "return {1, 2, a=3}",
            "error('boom')",
            "error('MY boom', 0)",
            "error({err='MY boom'})",
            "error({err='boom'})",
            "error({})",
            "error()",
            "return nosuchglobal",
            "newglobal = 1",
            "return 1 + {}",
            "return #nil",
            "return redis.call()",
            "return redis.call('NOSUCH', 'a')",
            "return redis.pcall('NOSUCH').err",
            "return redis.call({})",
            "return redis.call('GET', {})",
            "return redis.call('GET', nil)",
            "return redis.call('GET', true)",
            "return redis.call('GET')",
            "return redis.pcall('GET')",
            "return redis.call('MULTI')",
            "return redis.call('SUBSCRIBE', 'c')",
            "return redis.pcall('EVAL', 'return 1', 0)",
            "return redis.setresp(4)",
            "return redis.setresp('x')",
            "redis.setresp(2) return 1",
            "return tostring(1 / 3) .. '|' .. tostring(1e15) .. '|' .. tostring(-0.0 + 1)",
            "return string.format('%.14g|%5d|%s|%q', 0.1, 42, 'x', 'a\\nb')",
            "return redis.sha1hex('abc')",
            "return {#KEYS, #ARGV, KEYS, ARGV}",
            "return cjson.encode({KEYS, ARGV, {1.5, true, cjson.null}})",
            "return cjson.decode('[1, 2.5, \"x\", [null, true], 1e3]')",
            "return cmsgpack.unpack(cmsgpack.pack({KEYS, 1.5, -3, 'x', true}))",
            "return {bit.band(0xff0f, 0x0ff0), bit.tohex(255), bit.lshift(1, 31)}",
            "return {struct.unpack('>I2<i4s', struct.pack('>I2<i4s', 258, -2, 'abc'))}",
            "return {math.floor(2.7), math.max(1, 5, 3), 7 % 3, -7 % 3, 2^10}",
            "return {string.byte('abc', 1, 3)}",
            "return {('a,b,c'):find(',', 1, true), ('abc'):rep(2), ('abc'):upper()}",
            "return {tonumber('0x10'), tonumber('1e2'), tonumber('x') == nil}",
            "return {pcall(function() return redis.call('INCR', 'list:0') end)}",
            "return redis.log(redis.LOG_DEBUG, 'said')",
            "return {redis.LOG_WARNING, redis.REPL_ALL}",
            "return select('#', redis.breakpoint)",
            "return next({}) == nil",
            "local t = {} for i = 1, 20 do t[i] = i * i end return t",
            "local t = {} for word in ('a b c'):gmatch('%a') do table.insert(t, word) end return table.concat(t, '-')",
            "local t = {3, 1, 2} table.sort(t) return t",
            "return redis.acl_check_cmd('GET', 'str:1')",
            "if #ARGV > 1 then return ARGV[#ARGV] end return {err='TOOFEW arguments'}",
        ];
        if self.values == 0 || random.chance(35) {
            return (*random.pick(FIXED)).to_owned();
        }
        let all: Vec<String> = (1..=self.values).map(|n| format!("v{n}")).collect();
        let one = &all[random.below(all.len())];
        let error = format!("type({one}) == 'table' and {one}.err");
        match random.below(9) {
            0..=2 => format!("return {one}"),
            3 | 4 => format!("return {{{}}}", all.join(", ")),
            5 => format!(
                "return {{{{{}}}, {{{one}}}, {one} == false, {one} == nil}}",
                all.join(", ")
            ),
            // Nulls are holes in RESP3's tables, whose length may be said in several ways.
            6 if !self.resp3 => {
                format!("return {{type({one}), type({one}) == 'table' and #{one} or {one}}}")
            }
            7 if !self.resp3 => format!("return {error} or cjson.encode({one})"),
            8 if !self.resp3 => format!("return {error} or cmsgpack.unpack(cmsgpack.pack({one}))"),
            _ => format!(
                "if {one} then return {{1, {one}}} else return redis.status_reply('NONE') end"
            ),
        }
    }
}

/// As Lua reads it.
fn quoted(word: &[u8]) -> String {
    let mut out = String::from("'");
    for &byte in word {
        match byte {
            b'\'' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\{byte:03}")),
        }
    }
    out.push('\'');
    out
}
