//! How one entry's key and value lie in a bucket.
//!
//! ```text
//! members   key
//! scores    value, 8 bytes | key
//! fields    head | [key length u32] | [expiry i64] | key | value
//!           head: key length, 63 if it follows; 64: has an expiry; 128: the value lies outside
//! ```
//! A long value of a field lies outside its bucket, so that changing it, or its neighbours, moves little. A piece with a long key lies
//! outside as a whole.

use super::block::{SPILL, spill, spilled, unspill};
use super::bucket::{PIECE_MAX, SPILLED};

/// What a table holds beside keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Members,
    Scores,
    Fields,
}

/// The longest value of a field that lies in its bucket.
const VALUE_MAX: usize = 96;

const LONG_KEY: u8 = 63;
const EXPIRY: u8 = 64;
const OUTSIDE: u8 = 128;

/// An entry, its value as bytes.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub expire_at: Option<i64>,
}

/// Where a piece's bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plan {
    Inside,
    ValueOutside,
    Outside,
}

fn len_with(form: Form, raw: &Raw<'_>, value_len: usize) -> usize {
    match form {
        Form::Members => raw.key.len(),
        Form::Scores => 8 + raw.key.len(),
        Form::Fields => {
            let long = if raw.key.len() >= LONG_KEY as usize {
                4
            } else {
                0
            };
            let expiry = if raw.expire_at.is_some() { 8 } else { 0 };
            1 + long + expiry + raw.key.len() + value_len
        }
    }
}

fn plan(form: Form, raw: &Raw<'_>) -> (Plan, usize) {
    let len = len_with(form, raw, raw.value.len());
    let short = form != Form::Fields || raw.value.len() <= VALUE_MAX;
    if short && len <= PIECE_MAX {
        return (Plan::Inside, len);
    }
    let len = len_with(form, raw, SPILL);
    if form == Form::Fields && raw.value.len() > SPILL && len <= PIECE_MAX {
        return (Plan::ValueOutside, len);
    }
    (Plan::Outside, SPILL)
}

/// The length under which the entry's piece is noted in its bucket.
#[inline]
pub fn length(form: Form, raw: &Raw<'_>) -> u8 {
    match plan(form, raw) {
        (Plan::Outside, _) => SPILLED,
        (_, len) => len as u8,
    }
}

/// Bytes that the entry takes outside its bucket.
pub fn outside(form: Form, raw: &Raw<'_>) -> usize {
    match plan(form, raw).0 {
        Plan::Inside => 0,
        Plan::ValueOutside => raw.value.len(),
        Plan::Outside => len_with(form, raw, raw.value.len()),
    }
}

/// Writes the entry's piece to `to`, which has its length.
pub fn write(form: Form, raw: &Raw<'_>, to: &mut [u8]) {
    match plan(form, raw).0 {
        Plan::Inside => write_inside(form, raw, raw.value, 0, to),
        Plan::ValueOutside => {
            let value = spill(raw.value.into());
            write_inside(form, raw, &value, OUTSIDE, to);
        }
        Plan::Outside => {
            let mut piece = vec![0; len_with(form, raw, raw.value.len())];
            write_inside(form, raw, raw.value, 0, &mut piece);
            to.copy_from_slice(&spill(piece.into_boxed_slice()));
        }
    }
}

fn write_inside(form: Form, raw: &Raw<'_>, value: &[u8], flags: u8, to: &mut [u8]) {
    match form {
        Form::Members => to.copy_from_slice(raw.key),
        Form::Scores => {
            let (head, key) = to.split_at_mut(8);
            head.copy_from_slice(value);
            key.copy_from_slice(raw.key);
        }
        Form::Fields => {
            let mut at = 1;
            let mut head = flags;
            if raw.key.len() >= LONG_KEY as usize {
                head |= LONG_KEY;
                to[1..5].copy_from_slice(&(raw.key.len() as u32).to_le_bytes());
                at = 5;
            } else {
                head |= raw.key.len() as u8;
            }
            if let Some(expire_at) = raw.expire_at {
                head |= EXPIRY;
                to[at..at + 8].copy_from_slice(&expire_at.to_le_bytes());
                at += 8;
            }
            to[0] = head;
            let (key, rest) = to[at..].split_at_mut(raw.key.len());
            key.copy_from_slice(raw.key);
            rest.copy_from_slice(value);
        }
    }
}

/// The parts of a field's piece: where its key begins and ends, and its expiry.
#[inline]
fn field_parts(piece: &[u8]) -> (usize, usize, Option<i64>) {
    let head = piece[0];
    let (mut at, len) = if head & LONG_KEY == LONG_KEY {
        let len = u32::from_le_bytes([piece[1], piece[2], piece[3], piece[4]]);
        (5, len as usize)
    } else {
        (1, (head & LONG_KEY) as usize)
    };
    let mut expire_at = None;
    if head & EXPIRY != 0 {
        let bytes = piece[at..at + 8].try_into().expect("eight bytes were cut");
        expire_at = Some(i64::from_le_bytes(bytes));
        at += 8;
    }
    (at, at + len, expire_at)
}

/// The length of a field's piece with another expiry, if it then still lies as it does; `None` if it must be written anew.
pub fn length_with_expiry(raw: &Raw<'_>, expire_at: Option<i64>) -> Option<u8> {
    let (before, _) = plan(Form::Fields, raw);
    let (after, len) = plan(Form::Fields, &Raw { expire_at, ..*raw });
    (before == after && after != Plan::Outside).then_some(len as u8)
}

/// Writes a field's piece, which lies in its bucket, with another expiry to `to`, which has its length. What it owns outside stays.
pub fn write_expiry(piece: &[u8], expire_at: Option<i64>, to: &mut [u8]) {
    let head = piece[0];
    let at = if head & LONG_KEY == LONG_KEY { 5 } else { 1 };
    let rest = &piece[if head & EXPIRY != 0 { at + 8 } else { at }..];
    to[..at].copy_from_slice(&piece[..at]);
    match expire_at {
        Some(time) => {
            to[0] |= EXPIRY;
            to[at..at + 8].copy_from_slice(&time.to_le_bytes());
            to[at + 8..].copy_from_slice(rest);
        }
        None => {
            to[0] &= !EXPIRY;
            to[at..].copy_from_slice(rest);
        }
    }
}

/// `is_outside`: its bucket notes it as [`SPILLED`].
#[inline]
pub fn read<'a>(form: Form, piece: &'a [u8], is_outside: bool) -> Raw<'a> {
    let piece = if is_outside { spilled(piece) } else { piece };
    match form {
        Form::Members => Raw {
            key: piece,
            value: &[],
            expire_at: None,
        },
        Form::Scores => Raw {
            value: &piece[..8],
            key: &piece[8..],
            expire_at: None,
        },
        Form::Fields => {
            let (key_at, key_end, expire_at) = field_parts(piece);
            let value = &piece[key_end..];
            Raw {
                key: &piece[key_at..key_end],
                value: if piece[0] & OUTSIDE != 0 {
                    spilled(value)
                } else {
                    value
                },
                expire_at,
            }
        }
    }
}

/// Frees what a piece owns outside its bucket; returns its bytes, or `None` for one that owns nothing.
pub fn free_outside(form: Form, piece: &[u8], is_outside: bool) -> Option<usize> {
    if is_outside {
        return Some(unspill(piece).len());
    }
    if form == Form::Fields && piece[0] & OUTSIDE != 0 {
        let (_, key_end, _) = field_parts(piece);
        return Some(unspill(&piece[key_end..]).len());
    }
    None
}

/// Makes a copied piece own copies of what it owns outside.
pub fn copy_outside(form: Form, piece: &mut [u8], is_outside: bool) {
    if is_outside {
        let copy = spill(spilled(piece).into());
        piece.copy_from_slice(&copy);
    } else if form == Form::Fields && piece[0] & OUTSIDE != 0 {
        let (_, key_end, _) = field_parts(piece);
        let copy = spill(spilled(&piece[key_end..]).into());
        piece[key_end..].copy_from_slice(&copy);
    }
}
