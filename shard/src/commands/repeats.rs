//! Members by chance that may come up again (a negative count of SRANDMEMBER, HRANDFIELD, ZRANDMEMBER): how many at most.
//!
//! Redis takes any number down to about -2^63 and then fills its memory with the reply. Here such a count is answered with the error that
//! Redis gives a little later, before anything is made.

use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::{Mark, Reply};

/// Members of one reply. The smallest takes 7 bytes: this many are half a gigabyte, the most that an element may be long.
const REPEATS_MAX: u64 = 1 << 26;
/// Bytes of one reply, where members are longer.
const BYTES_MAX: usize = 1 << 30;

/// How many members a negative `count` asks for.
pub fn number(count: i64) -> Result<usize, CommandError> {
    match count.unsigned_abs() {
        n @ ..=REPEATS_MAX => Ok(n as usize),
        _ => Err(CommandError::OutOfRange),
    }
}

/// Calls `f` `number` times, and stops with an error when it has written too much since `mark`.
pub fn write(
    reply: &mut Reply<'_>,
    mark: Mark,
    number: usize,
    mut f: impl FnMut(&mut Reply<'_>),
) -> Result<(), CommandError> {
    let mut left = number;
    while left > 0 {
        let piece = left.min(1000);
        (0..piece).for_each(|_| f(reply));
        check(reply, mark)?;
        left -= piece;
    }
    Ok(())
}

/// An error when too much was written since `mark`.
pub fn check(reply: &Reply<'_>, mark: Mark) -> Result<(), CommandError> {
    match reply.written_since(mark).len() {
        ..=BYTES_MAX => Ok(()),
        _ => Err(CommandError::OutOfRange),
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn counts_that_no_memory_holds_are_refused() {
        let mut t = Tester::new();
        t.run("SADD s member");
        t.run("HSET h field value");
        t.run("ZADD z 1 member");
        for (command, key, with) in [
            ("SRANDMEMBER", "s", ""),
            ("HRANDFIELD", "h", "WITHVALUES"),
            ("ZRANDMEMBER", "z", "WITHSCORES"),
        ] {
            for count in ["-9223372036854775807", "-67108865", "-4611686018427387903"] {
                let line = format!("{command} {key} {count}");
                t.check(&line, "-ERR value is out of range");
                if !with.is_empty() {
                    t.check(&format!("{line} {with}"), "-ERR value is out of range");
                }
            }
            t.check(&format!("{command} none -9223372036854775807"), "*0");
            let many = t.run(&format!("{command} {key} -5000"));
            assert!(many.starts_with(b"*5000\r\n"), "{command}");
        }
    }

    #[test]
    fn long_members_are_not_repeated_without_end() {
        let mut t = Tester::new();
        let long = "x".repeat(1 << 20);
        t.run(&format!("SADD s {long}"));
        t.check("SRANDMEMBER s -100000", "-ERR value is out of range");
    }
}
