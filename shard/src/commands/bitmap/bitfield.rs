//! BITFIELD and BITFIELD_RO: integers of 1 to 64 bits at any bit of a string.

use super::{BAD_OFFSET, bit_offset, grow};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::{Encoding, Type};
use crate::shard::{Settings, notify};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number;
use ringwood_protocol::reply::Reply;

pub const BITFIELD: Command<Handler> = command("BITFIELD", at_least(2), bitfield as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::BITMAP)
    .keys(&[at(1)
        .flags(RW | ACCESS | UPDATE | VARIABLE_FLAGS)
        .notes("This command allows both access and modification of the key")])
    .doc(
        "Reads, sets and adds to integers of any width inside a string.",
        "O(1) for each subcommand specified",
        "3.2.0",
        "bitmap",
    )
    .args(&[
        key("key", 0),
        one_of(
            "operation",
            &[
                block("get-block", &[string("encoding"), integer("offset")]).token("GET"),
                block(
                    "write",
                    &[
                        one_of(
                            "overflow-block",
                            &[
                                word("wrap", "WRAP"),
                                word("sat", "SAT"),
                                word("fail", "FAIL"),
                            ],
                        )
                        .token("OVERFLOW")
                        .optional(),
                        one_of(
                            "write-operation",
                            &[
                                block(
                                    "set-block",
                                    &[string("encoding"), integer("offset"), integer("value")],
                                )
                                .token("SET"),
                                block(
                                    "incrby-block",
                                    &[string("encoding"), integer("offset"), integer("increment")],
                                )
                                .token("INCRBY"),
                            ],
                        ),
                    ],
                ),
            ],
        )
        .optional()
        .multiple(),
    ]);

pub const BITFIELD_RO: Command<Handler> =
    command("BITFIELD_RO", at_least(2), bitfield_ro as Handler)
        .flags(READONLY | FAST)
        .acl(acl::BITMAP)
        .keys(&[at(1).flags(RO | ACCESS)])
        .doc(
            "Reads integers of any width out of a string.",
            "O(1) for each subcommand specified",
            "6.0.0",
            "bitmap",
        )
        .args(&[
            key("key", 0),
            block("get-block", &[string("encoding"), integer("offset")])
                .token("GET")
                .optional()
                .multiple()
                .multiple_token(),
        ]);

/// `i5`, `u8`: how wide an integer is, and whether it has a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Width {
    signed: bool,
    bits: u32,
}

impl Width {
    fn parse(text: &[u8]) -> Option<Self> {
        let (signed, bits) = match text {
            [b'i', bits @ ..] => (true, bits),
            [b'u', bits @ ..] => (false, bits),
            _ => return None,
        };
        let bits = u32::try_from(number::parse_i64(bits)?).ok()?;
        // An unsigned one of 64 bits would not fit a reply.
        let most = if signed { 64 } else { 63 };
        (1..=most).contains(&bits).then_some(Self { signed, bits })
    }
    fn max(self) -> i64 {
        ((1_u128 << (self.bits - u32::from(self.signed))) - 1) as i64
    }
    fn min(self) -> i64 {
        if self.signed { -self.max() - 1 } else { 0 }
    }
    /// The integer that the lowest bits of `value` are.
    fn wrap(self, value: i64) -> i64 {
        let unused = 64 - self.bits;
        if self.signed {
            value << unused >> unused
        } else {
            ((value as u64) << unused >> unused) as i64
        }
    }

    /// The sum as it is stored; `None` where the field cannot hold it and that shall change nothing.
    fn add(self, value: i64, more: i64, overflow: Overflow) -> Option<i64> {
        let exact = i128::from(value) + i128::from(more);
        // The value that SET gives may lie outside the field.
        let (min, max) = (i128::from(self.min()), i128::from(self.max()));
        let limit = if exact > max || self.wraps_up(value, more) {
            self.max()
        } else if exact < min {
            self.min()
        } else {
            return Some(exact as i64);
        };
        match overflow {
            Overflow::Wrap => Some(self.wrap(value.wrapping_add(more))),
            Overflow::Saturate => Some(limit),
            Overflow::Fail => None,
        }
    }
    /// Redis takes some values too small for the field for ones too large: those whose distance from the largest does not fit its
    /// integers (a signed field), and negative ones in a field without sign, which it reads as large. Kept as it is.
    fn wraps_up(self, value: i64, more: i64) -> bool {
        if self.signed {
            self.bits < 64 && self.max().wrapping_sub(value) < more && value < self.min()
        } else {
            value < 0
        }
    }

    fn read(self, bytes: &[u8], offset: u64) -> i64 {
        let (window, _) = window(bytes, offset);
        self.wrap((window >> self.low_bits(offset)) as i64)
    }
    /// The value's bytes have room for the whole field.
    fn write(self, bytes: &mut [u8], offset: u64, value: i64) {
        let (old, len) = window(bytes, offset);
        let low = self.low_bits(offset);
        let mask = (u128::MAX >> (128 - self.bits)) << low;
        let new = (old & !mask) | ((value as u64 as u128) << low & mask);
        let at = (offset / 8) as usize;
        bytes[at..at + len].copy_from_slice(&new.to_be_bytes()[..len]);
    }
    /// How many bits of the window follow the field.
    fn low_bits(self, offset: u64) -> u32 {
        128 - (offset % 8) as u32 - self.bits
    }
}

/// Up to 9 bytes from the one that the bit lies in, as the highest of an integer, and how many there are; zeros follow.
fn window(bytes: &[u8], offset: u64) -> (u128, usize) {
    let rest = bytes.get((offset / 8) as usize..).unwrap_or_default();
    let len = rest.len().min(9);
    let mut window = [0; 16];
    window[..len].copy_from_slice(&rest[..len]);
    (u128::from_be_bytes(window), len)
}

/// What becomes of a sum that the field cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Get,
    Set(i64),
    Increment(i64),
}

/// One field and what is done with it.
#[derive(Clone, Copy, Debug)]
struct Operation {
    action: Action,
    width: Width,
    offset: u64,
    overflow: Overflow,
}

impl Operation {
    /// Does it, and writes the reply. True when the value changed.
    fn run(&self, bytes: &mut [u8], reply: &mut Reply<'_>) -> bool {
        let old = self.width.read(bytes, self.offset);
        let (value, more, answers_old) = match self.action {
            Action::Get => {
                reply.integer(old);
                return false;
            }
            Action::Set(value) => (value, 0, true),
            Action::Increment(by) => (old, by, false),
        };
        let Some(new) = self.width.add(value, more, self.overflow) else {
            reply.null();
            return false;
        };
        self.width.write(bytes, self.offset, new);
        reply.integer(if answers_old { old } else { new });
        true
    }
    /// How long the string has to be for it.
    fn len(&self) -> usize {
        ((self.offset + u64::from(self.width.bits) - 1) / 8 + 1) as usize
    }
}

/// Where a field begins: a bit, or `#` and how many fields of its width lie before it.
fn field_offset(text: &[u8], width: Width, settings: &Settings) -> Result<u64, CommandError> {
    let Some(index) = text.strip_prefix(b"#") else {
        return bit_offset(text, settings);
    };
    number::parse_i64(index)
        .and_then(|index| index.checked_mul(width.bits.into()))
        .filter(|bit| *bit >= 0 && (*bit as u64 / 8) < settings.string_len_max as u64)
        .map(|bit| bit as u64)
        .ok_or(BAD_OFFSET)
}

fn parse(args: Args<'_>, settings: &Settings) -> Result<Vec<Operation>, CommandError> {
    let mut operations = Vec::with_capacity(args.len() / 3);
    let mut overflow = Overflow::Wrap;
    let mut rest = args;
    while let [word, after @ ..] = rest {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if let [kind, after @ ..] = after
            && is("OVERFLOW")
        {
            overflow = if kind.eq_ignore_ascii_case(b"WRAP") {
                Overflow::Wrap
            } else if kind.eq_ignore_ascii_case(b"SAT") {
                Overflow::Saturate
            } else if kind.eq_ignore_ascii_case(b"FAIL") {
                Overflow::Fail
            } else {
                return Err(CommandError::fixed("ERR Invalid OVERFLOW type specified"));
            };
            rest = after;
            continue;
        }
        let (width, offset, value) = match *after {
            [width, offset, ..] if is("GET") => (width, offset, None),
            [width, offset, value, ..] if is("SET") || is("INCRBY") => (width, offset, Some(value)),
            _ => return Err(CommandError::Syntax),
        };
        let width = Width::parse(width).ok_or(CommandError::fixed(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        ))?;
        let offset = field_offset(offset, width, settings)?;
        let action = match value {
            None => Action::Get,
            Some(value) => {
                let value = number::parse_i64(value).ok_or(CommandError::NotInteger)?;
                if is("SET") {
                    Action::Set(value)
                } else {
                    Action::Increment(value)
                }
            }
        };
        operations.push(Operation {
            action,
            width,
            offset,
            overflow,
        });
        rest = &after[if value.is_some() { 3 } else { 2 }..];
    }
    Ok(operations)
}

fn bitfield(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let operations = parse(&args[2..], &ctx.shard.settings)?;
    let writes = operations
        .iter()
        .filter(|operation| !matches!(operation.action, Action::Get));
    let Some(len) = writes.map(Operation::len).max() else {
        return read_fields(ctx, args[1], &operations);
    };
    let key = ctx.key(args[1]);
    let (mut entry, mut grown) = match ctx.shard.write(ctx.db, key) {
        Some(entry) if entry.kind() != Type::String => return Err(CommandError::WrongType),
        Some(entry) => (entry, false),
        None => {
            let entry = ctx
                .shard
                .insert_bytes(ctx.db, key, Type::String, Encoding::Raw, &[]);
            (entry, true)
        }
    };
    entry.set_encoding(Encoding::Raw);
    grown |= grow(&mut entry, len);
    ctx.reply.array(operations.len());
    let mut changes = 0;
    for operation in &operations {
        let before = operation.width.read(entry.bytes(), operation.offset);
        let done = operation.run(entry.bytes_mut(), &mut ctx.reply);
        let after = operation.width.read(entry.bytes(), operation.offset);
        if done && (grown || before != after) {
            changes += 1;
        }
    }
    if changes > 0 {
        ctx.modified(args[1], notify::STRING, "setbit");
        // Each change counts.
        ctx.shard.stats.dirty += changes - 1;
    } else if grown {
        // As in Redis nobody is told that there are zeros now; but they are not to be lost.
        ctx.log_as(args);
    }
    Ok(())
}

fn bitfield_ro(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let operations = parse(&args[2..], &ctx.shard.settings)?;
    let only_reads = |operation: &Operation| matches!(operation.action, Action::Get);
    if !operations.iter().all(only_reads) {
        return Err(CommandError::fixed(
            "ERR BITFIELD_RO only supports the GET subcommand",
        ));
    }
    read_fields(ctx, args[1], &operations)
}

fn read_fields(ctx: &mut Ctx<'_>, key: &[u8], operations: &[Operation]) -> CommandResult {
    let key = ctx.key(key);
    let bytes = match ctx.shard.read(ctx.db, key) {
        Some(entry) if entry.kind() != Type::String => return Err(CommandError::WrongType),
        Some(entry) => entry.bytes(),
        None => &[],
    };
    ctx.reply.array(operations.len());
    for operation in operations {
        ctx.reply
            .integer(operation.width.read(bytes, operation.offset));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::Tester;
    use proptest::prelude::*;

    #[test]
    fn reads_and_writes() {
        let mut t = Tester::new();
        t.check(
            "BITFIELD f SET u8 0 200 GET i8 0 INCRBY i5 100 1 OVERFLOW FAIL INCRBY u2 102 3 OVERFLOW SAT INCRBY u2 102 9",
            "*5 :0 :-56 :1 :3 :3",
        );
        t.check("BITFIELD_RO f GET u8 0 GET i8 0", "*2 :200 :-56");
        t.check("BITFIELD f", "*0").check("BITFIELD_RO f", "*0");
        t.check("BITFIELD f OVERFLOW WRAP", "*0");
        t.check("BITFIELD f GET u8 4294967289", "*1 :0");
        t.check("BITFIELD f get U8 0", "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.");
        t.check("BITFIELD n GET u8 0", "*1 :0")
            .check("EXISTS n", ":0");
        t.check("SET s 1", "+OK");
        t.check("BITFIELD s SET u8 300 1 GET u8 #0", "*2 :0 :49");
        t.check("STRLEN s", ":39").check_encoding("s", "raw");
        t.check("BITFIELD s SET i4 #3 -3 GET u4 12", "*2 :0 :13");
    }

    #[test]
    fn events_and_changes() {
        let mut t = Tester::new();
        t.listen();
        t.check("BITFIELD n GET u8 0", "*1 :0");
        t.check_new_events("keymiss n");
        t.check("BITFIELD n OVERFLOW FAIL SET u4 100 16", "*1 $-1");
        t.check_new_events("new n");
        t.check("STRLEN n", ":13");
        let dirty = t.shard.stats.dirty;
        t.check("BITFIELD n SET u4 300 0", "*1 :0");
        t.check_new_events("setbit n");
        assert_eq!(t.shard.stats.dirty, dirty + 1);
        t.check("BITFIELD n SET u8 0 0 SET u8 8 0", "*2 :0 :0");
        t.check_new_events("");
        t.check(
            "BITFIELD n SET u8 0 1 SET u8 8 2 INCRBY u8 8 0",
            "*3 :0 :0 :2",
        );
        t.check_new_events("setbit n");
        assert_eq!(t.shard.stats.dirty, dirty + 3);
        t.check("SET i 12", "+OK")
            .check("BITFIELD i GET u8 0", "*1 :49");
        t.check_encoding("i", "int");
    }

    #[test]
    fn overflow() {
        let mut t = Tester::new();
        for (words, reply) in [
            ("SET i8 0 300 GET i8 0", "*2 :0 :44"),
            ("OVERFLOW SAT SET i8 0 300 GET i8 0", "*2 :0 :127"),
            ("OVERFLOW SAT SET u8 0 -1 GET u8 0", "*2 :0 :255"),
            ("OVERFLOW FAIL SET u8 0 -1 GET u8 0", "*2 $-1 :0"),
            ("SET u63 0 -5 GET u63 0", "*2 :0 :9223372036854775803"),
            (
                "OVERFLOW SAT SET u63 0 -5 INCRBY u63 0 -9223372036854775808",
                "*2 :0 :0",
            ),
            (
                "SET i64 1 9223372036854775807 INCRBY i64 1 1",
                "*2 :0 :-9223372036854775808",
            ),
            (
                "SET i64 1 -9223372036854775808 OVERFLOW SAT INCRBY i64 1 -9 OVERFLOW FAIL INCRBY i64 1 -9",
                "*3 :0 :-9223372036854775808 $-1",
            ),
            (
                "OVERFLOW SAT SET i8 0 -100 INCRBY i8 0 -9223372036854775808",
                "*2 :0 :-128",
            ),
            (
                "OVERFLOW SAT SET i8 0 -100 INCRBY i8 0 9223372036854775807",
                "*2 :0 :127",
            ),
            // As in Redis: so far below that it counts as above.
            (
                "OVERFLOW SAT SET i8 0 -9223372036854775808 GET i8 0",
                "*2 :0 :127",
            ),
            (
                "OVERFLOW SAT SET i8 0 -9223372036854775600 GET i8 0",
                "*2 :0 :-128",
            ),
            (
                "OVERFLOW SAT SET u3 0 7 INCRBY u3 0 1 OVERFLOW WRAP INCRBY u3 0 3",
                "*3 :0 :7 :2",
            ),
            (
                "OVERFLOW FAIL INCRBY i1 0 0 INCRBY i1 0 -1 INCRBY i1 0 -1",
                "*3 :0 :-1 $-1",
            ),
            ("INCRBY u3 0 -1 OVERFLOW FAIL INCRBY u3 0 -8", "*2 :7 $-1"),
        ] {
            t.check(&format!("BITFIELD k {words}"), reply);
            t.check("DEL k", ":1");
        }
        t.version = ringwood_protocol::reply::Version::Resp3;
        t.check("BITFIELD k OVERFLOW FAIL SET u1 0 2", "*1 _");
    }

    #[test]
    fn errors() {
        let mut t = Tester::new();
        let width = "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
        let offset = "-ERR bit offset is not an integer or out of range";
        let syntax = "-ERR syntax error";
        for (words, reply) in [
            ("GET u64 0", width),
            ("GET i65 0", width),
            ("GET i0 0", width),
            ("GET x8 0", width),
            ("GET u 0", width),
            ("GET u08 0", width),
            ("GET u-1 0", width),
            ("GET u8 #-1", offset),
            ("GET u8 -1", offset),
            ("GET u8 #", offset),
            ("GET u8 #536870912", offset),
            ("GET u8 #9223372036854775807", offset),
            ("SET u4 99999999999 16", offset),
            ("SET u8 0 x", "-ERR value is not an integer or out of range"),
            ("SET u8 0", syntax),
            ("GET u8", syntax),
            ("OVERFLOW", syntax),
            ("NOSUCH u8 0", syntax),
            ("GET u8 0 x", syntax),
            (
                "OVERFLOW FOO GET u8 0",
                "-ERR Invalid OVERFLOW type specified",
            ),
        ] {
            t.check(&format!("BITFIELD f {words}"), reply);
            t.check(&format!("BITFIELD_RO f {words}"), reply);
        }
        t.check(
            "BITFIELD_RO f SET u8 0 1",
            "-ERR BITFIELD_RO only supports the GET subcommand",
        );
        t.check("BITFIELD_RO f OVERFLOW FAIL", "*0")
            .check("EXISTS f", ":0");
    }

    proptest! {
        #[test]
        fn a_field_is_its_bits_and_no_others(
            bytes in prop::collection::vec(any::<u8>(), 0..20),
            at in 0..200_u64,
            signed in any::<bool>(),
            bits in 1..=64_u32,
            value in any::<i64>(),
        ) {
            let width = Width { signed, bits: if signed { bits } else { bits.min(63) } };
            let bit = |bytes: &[u8], at: u64| bytes.get((at / 8) as usize).is_some_and(|b| b << (at % 8) & 0x80 != 0);
            let mut expected = if signed && bit(&bytes, at) { -1 } else { 0_i64 };
            for i in 0..u64::from(width.bits) {
                expected = expected << 1 | i64::from(bit(&bytes, at + i));
            }
            prop_assert_eq!(width.read(&bytes, at), expected);
            let mut changed = bytes.clone();
            changed.resize(changed.len().max((at as usize + width.bits as usize).div_ceil(8)), 0);
            let before = changed.clone();
            width.write(&mut changed, at, value);
            prop_assert_eq!(width.read(&changed, at), width.wrap(value));
            for i in (0..changed.len() as u64 * 8).filter(|i| !(at..at + u64::from(width.bits)).contains(i)) {
                prop_assert_eq!(bit(&changed, i), bit(&before, i));
            }
        }
    }
}
