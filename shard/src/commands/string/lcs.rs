//! LCS: the longest common subsequence of two strings.
//!
//! Row by row, 64 columns a step (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004). With L(i, j) the length for the
//! first i bytes of `a` and the first j of `b`, row i is kept as bits: bit j-1 is 0 where L(i, j) = L(i, j-1) + 1. The number of
//! zeros is the length, and going back over the kept rows needs nothing else: where the bytes differ, a zero means that the
//! length without `b`'s byte is smaller, so the way leads up. That is Redis's choice among equally long subsequences, at one
//! bit a cell where Redis keeps 32 and takes 64 steps.

use super::parse_integer;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::Reply;

pub const LCS: Command<Handler> = command("LCS", at_least(3), lcs as Handler)
    .flags(READONLY)
    .acl(acl::STRING)
    .keys(&[at(1).range(1, 1, 0).flags(RO | ACCESS)])
    .doc(
        "Finds the longest common subsequence of two strings.",
        "O(N*M) where N and M are the lengths of s1 and s2, respectively",
        "7.0.0",
        "string",
    )
    .args(&[
        key("key1", 0),
        key("key2", 0),
        word("len", "LEN").optional(),
        word("idx", "IDX").optional(),
        integer("min-match-len").token("MINMATCHLEN").optional(),
        word("withmatchlen", "WITHMATCHLEN").optional(),
    ]);

/// A common part: where it begins in each string, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

fn lcs(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let a = value(ctx, args[1])?;
    let b = value(ctx, args[2])?;
    let memory_max = ctx.shard.settings.string_len_max;
    let (mut only_len, mut ranges, mut with_len, mut len_min) = (false, false, false, 0);
    let mut words = args[3..].iter();
    while let Some(word) = words.next() {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("IDX") {
            ranges = true;
        } else if is("LEN") {
            only_len = true;
        } else if is("WITHMATCHLEN") {
            with_len = true;
        } else if is("MINMATCHLEN")
            && let Some(text) = words.next()
        {
            len_min = usize::try_from(parse_integer(text)?).unwrap_or(0);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if ranges && only_len {
        return Err(CommandError::fixed(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    let cells = a.len().saturating_mul(b.len());
    if cells / 256 > ctx.elements_max() {
        return ctx.step_aside();
    }
    // Redis's bound, 4 bytes a cell: far above the memory that is needed here, but it bounds the time as well.
    if 4 * (a.len() as u128 + 1) * (b.len() as u128 + 1) > memory_max as u128 {
        return Err(CommandError::fixed(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    if only_len {
        let len = Rows::compute(&a, &b, false)?.len;
        ctx.reply.integer(len as i64);
        return Ok(());
    }
    let rows = Rows::compute(&a, &b, true)?;
    let matches = rows.matches(&a, &b);
    if ranges {
        write_ranges(&mut ctx.reply, &matches, rows.len, len_min, with_len);
    } else {
        let parts: Vec<&[u8]> = matches.iter().rev().map(|m| &a[m.a..m.a + m.len]).collect();
        ctx.reply.bulk(&parts.concat());
    }
    Ok(())
}

/// A key's value; that of a missing key is empty.
fn value(ctx: &mut Ctx<'_>, key: &[u8]) -> Result<Vec<u8>, CommandError> {
    match ctx.read(key) {
        Some(entry) if entry.kind() == Type::String => Ok(entry.bytes().to_vec()),
        Some(_) => Err(CommandError::fixed(
            "ERR The specified keys must contain string values",
        )),
        None => Ok(Vec::new()),
    }
}

fn write_ranges(
    reply: &mut Reply<'_>,
    matches: &[Match],
    len: usize,
    len_min: usize,
    with_len: bool,
) {
    let shown = || matches.iter().filter(|m| m.len >= len_min);
    reply.map(2);
    reply.bulk_str("matches");
    reply.array(shown().count());
    for m in shown() {
        reply.array(2 + with_len as usize);
        for start in [m.a, m.b] {
            reply.array(2);
            reply.integer(start as i64);
            reply.integer((start + m.len - 1) as i64);
        }
        if with_len {
            reply.integer(m.len as i64);
        }
    }
    reply.bulk_str("len");
    reply.integer(len as i64);
}

/// The rows of the computation.
struct Rows {
    /// Words in a row.
    width: usize,
    /// All rows, one after the other; empty when only the length is wanted.
    bits: Vec<u64>,
    len: usize,
}

impl Rows {
    fn compute(a: &[u8], b: &[u8], keep: bool) -> Result<Self, CommandError> {
        let width = b.len().div_ceil(64);
        let positions = Positions::new(a, b, width)?;
        let mut rows = Self {
            width,
            bits: Vec::new(),
            len: 0,
        };
        let kept = if keep { a.len() } else { 0 };
        let words = width.checked_mul(kept).ok_or(NO_MEMORY)?;
        rows.bits.try_reserve_exact(words).map_err(|_| NO_MEMORY)?;
        let mut row = try_vec(width, u64::MAX)?;
        for byte in a {
            // Row by row: V = (V + (V & M)) | (V & !M), the sum over all words with carries; M has the byte's positions.
            let mut carry = false;
            for (v, &m) in row.iter_mut().zip(positions.of(*byte)) {
                let (sum, over) = v.overflowing_add(*v & m);
                let (sum, over_again) = sum.overflowing_add(carry as u64);
                carry = over | over_again;
                *v = sum | (*v & !m);
            }
            if keep {
                rows.bits.extend_from_slice(&row);
            }
        }
        rows.len = row
            .iter()
            .enumerate()
            .map(|(i, v)| {
                let columns = (b.len() - 64 * i).min(64);
                (!v << (64 - columns)).count_ones() as usize
            })
            .sum();
        Ok(rows)
    }

    /// The matches on the way back, from the last to the first.
    fn matches(&self, a: &[u8], b: &[u8]) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                match matches.last_mut() {
                    Some(m) if m.a == i && m.b == j => {
                        *m = Match {
                            a: i - 1,
                            b: j - 1,
                            len: m.len + 1,
                        }
                    }
                    _ => matches.push(Match {
                        a: i - 1,
                        b: j - 1,
                        len: 1,
                    }),
                }
                i -= 1;
                j -= 1;
            } else if self.bits[(i - 1) * self.width + (j - 1) / 64] >> ((j - 1) % 64) & 1 == 0 {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        matches
    }
}

/// Where each byte value of one string stands in another, as bits.
struct Positions {
    width: usize,
    /// By byte value: the index of its words in `bits`. That of bytes not asked for is 0.
    index: [usize; 256],
    bits: Vec<u64>,
}

impl Positions {
    /// Only for the bytes of `wanted`: that keeps the size below that of the rows.
    fn new(wanted: &[u8], text: &[u8], width: usize) -> Result<Self, CommandError> {
        let mut index = [0; 256];
        let mut used = 1;
        for &byte in wanted {
            if index[byte as usize] == 0 {
                index[byte as usize] = used;
                used += 1;
            }
        }
        // The words of index 0 take the marks of all other bytes, and are never read.
        let mut bits = try_vec(used * width, 0_u64)?;
        for (at, &byte) in text.iter().enumerate() {
            bits[index[byte as usize] * width + at / 64] |= 1 << (at % 64);
        }
        Ok(Self { width, index, bits })
    }
    fn of(&self, byte: u8) -> &[u64] {
        &self.bits[self.index[byte as usize] * self.width..][..self.width]
    }
}

const NO_MEMORY: CommandError =
    CommandError::fixed("ERR Insufficient memory, failed allocating transient memory for LCS");

fn try_vec(len: usize, word: u64) -> Result<Vec<u64>, CommandError> {
    let mut words = Vec::new();
    words.try_reserve_exact(len).map_err(|_| NO_MEMORY)?;
    words.resize(len, word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::Tester;
    use ringwood_protocol::reply::Version;

    #[test]
    fn length_and_text() {
        let mut t = Tester::new();
        t.check("MSET a ohmytext b mynewtext", "+OK");
        t.check("LCS a b", "$6 mytext").check("LCS a b LEN", ":6");
        t.check("LCS a nokey", "$0").check("LCS nokey b LEN", ":0");
        t.check("LCS a a", "$8 ohmytext")
            .check("LCS n m IDX", "*4 $7 matches *0 $3 len :0");
    }

    #[test]
    fn ranges() {
        let mut t = Tester::new();
        t.check("MSET a ohmytext b mynewtext", "+OK");
        t.check(
            "LCS a b IDX",
            "*4 $7 matches *2 *2 *2 :4 :7 *2 :5 :8 *2 *2 :2 :3 *2 :0 :1 $3 len :6",
        );
        t.check(
            "LCS a b IDX WITHMATCHLEN minmatchlen 4",
            "*4 $7 matches *1 *3 *2 :4 :7 *2 :5 :8 :4 $3 len :6",
        );
        t.check("LCS a b MINMATCHLEN 4", "$6 mytext");
        t.version = Version::Resp3;
        t.check("LCS a b IDX MINMATCHLEN 9", "%2 $7 matches *0 $3 len :6");
        t.check(
            "LCS a b IDX MINMATCHLEN -9",
            "%2 $7 matches *2 *2 *2 :4 :7 *2 :5 :8 *2 *2 :2 :3 *2 :0 :1 $3 len :6",
        );
    }

    #[test]
    fn refused_words() {
        let mut t = Tester::new();
        t.check("LCS a b foo", "-ERR syntax error")
            .check("LCS a b MINMATCHLEN", "-ERR syntax error");
        t.check(
            "LCS a b MINMATCHLEN x",
            "-ERR value is not an integer or out of range",
        );
        t.check(
            "LCS a b LEN IDX",
            "-ERR If you want both the length and indexes, please just use IDX.",
        );
    }

    #[test]
    fn the_work_is_bounded() {
        let mut t = Tester::with(crate::shard::Settings {
            string_len_max: 4 * 101 * 101,
            ..Default::default()
        });
        let long = "x".repeat(100);
        t.check(&format!("MSET a {long} b {long} c {long}x"), "+OK");
        t.check("LCS a b LEN", ":100");
        let refused =
            "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
        t.check("LCS a c LEN", refused).check("LCS a c", refused);
    }

    /// The textbook table, and the way back as Redis goes it.
    fn by_table(a: &[u8], b: &[u8]) -> (usize, Vec<(usize, usize)>) {
        let mut table = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i][j] = if a[i - 1] == b[j - 1] {
                    table[i - 1][j - 1] + 1
                } else {
                    table[i - 1][j].max(table[i][j - 1])
                };
            }
        }
        let (mut i, mut j, mut way) = (a.len(), b.len(), Vec::new());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                way.push((i - 1, j - 1));
                i -= 1;
                j -= 1;
            } else if table[i - 1][j] > table[i][j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        (table[a.len()][b.len()], way)
    }

    #[test]
    fn bits_find_what_the_table_finds() {
        let mut seed = 7_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize % below
        };
        for round in 0..400 {
            let letters = 1 + round % 6;
            let (len_a, len_b) = (random(200), random(200));
            let a: Vec<u8> = (0..len_a).map(|_| b'a' + random(letters) as u8).collect();
            let b: Vec<u8> = (0..len_b).map(|_| b'a' + random(letters) as u8).collect();
            let rows = Rows::compute(&a, &b, true).unwrap();
            let way: Vec<(usize, usize)> = rows
                .matches(&a, &b)
                .iter()
                .flat_map(|m| (0..m.len).rev().map(|k| (m.a + k, m.b + k)))
                .collect();
            assert_eq!((rows.len, way), by_table(&a, &b), "{a:?} {b:?}");
            assert_eq!(Rows::compute(&a, &b, false).unwrap().len, rows.len);
        }
    }
}
