//! The `cmsgpack` library: MessagePack as lua-cmsgpack 0.4 writes and reads it.

use crate::ffi;
use crate::shared::Shared;
use crate::state::{Lua, Raise, Returns, lua_function};
use std::ffi::CStr;

/// Tables nested deeper are written as nil, which also ends circles.
const MAX_NESTING: u32 = 16;

lua_function!(pack = pack_body);
lua_function!(unpack = unpack_body);
lua_function!(unpack_one = unpack_one_body);
lua_function!(unpack_limit = unpack_limit_body);

/// Pushes the library's table.
pub(crate) fn push_module(lua: Lua) {
    lua.new_table(0, 8);
    let functions: [(&CStr, ffi::Function); 4] = [
        (c"pack", pack),
        (c"unpack", unpack),
        (c"unpack_one", unpack_one),
        (c"unpack_limit", unpack_limit),
    ];
    for (name, function) in functions {
        lua.push_function(function);
        lua.set_field(-2, name);
    }
    let texts: [(&CStr, &str); 4] = [
        (c"_NAME", "cmsgpack"),
        (c"_VERSION", "lua-cmsgpack 0.4.0"),
        (c"_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"),
        (c"_DESCRIPTION", "MessagePack C implementation for Lua"),
    ];
    for (name, text) in texts {
        lua.push_bytes(text.as_bytes());
        lua.set_field(-2, name);
    }
}

fn pack_body(lua: Lua) -> Returns {
    let count = lua.top();
    if count == 0 {
        return Err(Raise::Argument(
            0,
            "MessagePack pack needs input.".to_string(),
        ));
    }
    // Few tables that hold each other often can stand for any number of bytes.
    let mut out = Writer {
        max: Shared::room(lua),
        bytes: Vec::new(),
    };
    for i in 1..=count {
        room(lua, 4, "Too many arguments for MessagePack pack.")?;
        lua.push_value(i);
        write(lua, &mut out, 0)?;
    }
    lua.push_bytes(&out.bytes);
    Ok(1)
}

struct Writer {
    bytes: Vec<u8>,
    /// How many there may be.
    max: usize,
}

fn room(lua: Lua, slots: i32, what: &str) -> Result<(), Raise> {
    if lua.room(slots) {
        Ok(())
    } else {
        Err(Raise::Text(format!("stack overflow ({what})")))
    }
}

/// Writes the value on top and pops it.
fn write(lua: Lua, to: &mut Writer, level: u32) -> Result<(), Raise> {
    if to.bytes.len() > to.max {
        return Err(Raise::Memory);
    }
    let out = &mut to.bytes;
    match lua.kind(-1) {
        ffi::TSTRING => {
            let bytes = lua.bytes(-1).unwrap_or_default();
            write_head(out, bytes.len(), (0xa0, 32), Some(0xd9), 0xda);
            out.extend_from_slice(bytes);
        }
        ffi::TBOOLEAN => out.push(if lua.boolean(-1) { 0xc3 } else { 0xc2 }),
        ffi::TNUMBER => write_number(out, lua.number(-1)),
        ffi::TTABLE if level < MAX_NESTING => write_table(lua, to, level)?,
        _ => out.push(0xc0),
    }
    lua.pop(1);
    Ok(())
}

/// A length: in the tag itself below `few.1`, in one byte where that form exists, in two, in four.
fn write_head(out: &mut Vec<u8>, len: usize, few: (u8, usize), one: Option<u8>, two: u8) {
    if len < few.1 {
        out.push(few.0 | len as u8);
    } else if let (Some(one), 0..=0xff) = (one, len) {
        out.extend_from_slice(&[one, len as u8]);
    } else if len <= 0xffff {
        out.push(two);
        out.extend_from_slice(&(len as u16).to_be_bytes());
    } else {
        out.push(two + 1);
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
}

fn write_number(out: &mut Vec<u8>, n: f64) {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if n.trunc() == n && (-LIMIT..LIMIT).contains(&n) {
        write_integer(out, n as i64);
    } else if f64::from(n as f32) == n {
        out.push(0xca);
        out.extend_from_slice(&(n as f32).to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&n.to_be_bytes());
    }
}

fn write_integer(out: &mut Vec<u8>, n: i64) {
    let mut put = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(bytes);
    };
    match n {
        -32..=127 => put(n as u8, &[]),
        128..=0xff => put(0xcc, &[n as u8]),
        0x100..=0xffff => put(0xcd, &(n as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => put(0xce, &(n as u32).to_be_bytes()),
        0x1_0000_0000.. => put(0xcf, &n.to_be_bytes()),
        -0x80..-32 => put(0xd0, &[n as u8]),
        -0x8000..-0x80 => put(0xd1, &(n as i16).to_be_bytes()),
        -0x8000_0000..-0x8000 => put(0xd2, &(n as i32).to_be_bytes()),
        _ => put(0xd3, &n.to_be_bytes()),
    }
}

/// Writes the table on top; it stays.
fn write_table(lua: Lua, to: &mut Writer, level: u32) -> Result<(), Raise> {
    room(lua, 6, "in function mp_encode_lua_table_as_map")?;
    let (mut is_array, mut max, mut pairs) = (true, 0.0, 0usize);
    lua.push_nil();
    while lua.next(-2) {
        lua.pop(1);
        pairs += 1;
        let key = match lua.kind(-1) {
            ffi::TNUMBER => lua.number(-1),
            _ => 0.0,
        };
        is_array &= key > 0.0 && key.trunc() == key && key <= f64::from(i32::MAX);
        if key > max {
            max = key;
        }
    }
    if is_array && max == pairs as f64 {
        let len = lua.len(-1);
        write_head(&mut to.bytes, len, (0x90, 16), None, 0xdc);
        for i in 1..=len {
            lua.raw_get_index(-1, i as i32);
            write(lua, to, level + 1)?;
        }
        return Ok(());
    }
    write_head(&mut to.bytes, pairs, (0x80, 16), None, 0xde);
    lua.push_nil();
    while lua.next(-2) {
        lua.push_value(-2);
        write(lua, to, level + 1)?;
        write(lua, to, level + 1)?;
    }
    Ok(())
}

fn unpack_body(lua: Lua) -> Returns {
    read_all(lua, 0, 0)
}

fn unpack_one_body(lua: Lua) -> Returns {
    let offset = optional_integer(lua, 2);
    read_all(lua, 1, offset)
}

fn unpack_limit_body(lua: Lua) -> Returns {
    let limit = lua.check_int(2);
    let offset = optional_integer(lua, 3);
    read_all(lua, limit, offset)
}

fn optional_integer(lua: Lua, arg: i32) -> i32 {
    match lua.kind(arg) {
        ffi::TNONE | ffi::TNIL => 0,
        _ => lua.check_int(arg),
    }
}

/// Reads up to `limit` values from `offset` on. With both zero all is read; else the first result is where to go on,
/// or -1 at the end.
fn read_all(lua: Lua, limit: i32, offset: i32) -> Returns {
    let all = limit == 0 && offset == 0;
    let bytes = lua.check_bytes(1);
    lua.set_top(1);
    if offset < 0 || limit < 0 {
        return Err(Raise::Text(format!(
            "Invalid request to unpack with offset of {offset} and limit of {}.",
            bytes.len()
        )));
    }
    let Some(rest) = bytes.get(offset as usize..) else {
        return Err(Raise::Text(format!(
            "Start offset {offset} greater than input length {}.",
            bytes.len()
        )));
    };
    let limit = if all { i32::MAX } else { limit };
    let mut reader = Reader { lua, rest };
    let mut count = 0;
    while !reader.rest.is_empty() && count < limit {
        reader.value().map_err(|stop| match stop {
            Stop::Missing => Raise::Text("Missing bytes in input.".to_string()),
            Stop::Bad => Raise::Text("Bad data format in input.".to_string()),
            Stop::Raise(raise) => raise,
        })?;
        count += 1;
    }
    if !all {
        let next = match reader.rest.len() {
            0 => -1.0,
            left => (bytes.len() - left) as f64,
        };
        room(
            lua,
            1,
            "too many return values at once; use unpack_one or unpack_limit instead.",
        )?;
        lua.push_number(next);
        lua.insert(2);
        count += 1;
    }
    Ok(count)
}

enum Stop {
    Missing,
    Bad,
    Raise(Raise),
}

struct Reader<'a> {
    lua: Lua,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Stop> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Stop::Missing)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A big-endian number of `N` bytes.
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    fn len(&mut self, bytes: u32) -> Result<usize, Stop> {
        Ok(match bytes {
            1 => self.fixed::<1>()?[0].into(),
            2 => u16::from_be_bytes(self.fixed()?).into(),
            _ => u32::from_be_bytes(self.fixed()?) as usize,
        })
    }

    /// Reads one value, which may hold others. Not recursive: input can nest deeper than a thread's stack would bear.
    fn value(&mut self) -> Result<(), Stop> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            if let Some(inner) = self.one()? {
                open.push(inner);
            }
            // Put finished values into their tables, until one wants more.
            loop {
                match open.last_mut() {
                    None => return Ok(()),
                    Some(table) if table.fresh => {
                        table.fresh = false;
                    }
                    Some(table) => table.take(self.lua)?,
                }
                match open.last() {
                    Some(table) if table.left > 0 => break,
                    _ => drop(open.pop()),
                }
            }
        }
    }

    /// Reads a value that holds no others, or opens a table.
    fn one(&mut self) -> Result<Option<Open>, Stop> {
        let lua = self.lua;
        room(
            lua,
            1,
            "too many return values at once; use unpack_one or unpack_limit instead.",
        )
        .map_err(Stop::Raise)?;
        let tag = self.fixed::<1>()?[0];
        match tag {
            0x00..=0x7f => lua.push_number(tag.into()),
            0x80..=0x8f => return self.map((tag & 15).into()),
            0x90..=0x9f => return self.array((tag & 15).into()),
            0xa0..=0xbf => self.string((tag & 31).into())?,
            0xc0 => lua.push_nil(),
            0xc2 | 0xc3 => lua.push_boolean(tag == 0xc3),
            0xca => lua.push_number(f32::from_be_bytes(self.fixed()?).into()),
            0xcb => lua.push_number(f64::from_be_bytes(self.fixed()?)),
            0xcc => lua.push_number(self.fixed::<1>()?[0].into()),
            0xcd => lua.push_number(u16::from_be_bytes(self.fixed()?).into()),
            0xce => lua.push_number(u32::from_be_bytes(self.fixed()?).into()),
            // Taken as signed, as the original does.
            0xcf | 0xd3 => lua.push_number(i64::from_be_bytes(self.fixed()?) as f64),
            0xd0 => lua.push_number(i8::from_be_bytes(self.fixed()?).into()),
            0xd1 => lua.push_number(i16::from_be_bytes(self.fixed()?).into()),
            0xd2 => lua.push_number(i32::from_be_bytes(self.fixed()?).into()),
            0xd9..=0xdb => {
                let len = self.len(1 << (tag - 0xd9))?;
                self.string(len)?;
            }
            0xdc | 0xdd => {
                let len = self.len(2 << (tag - 0xdc))?;
                return self.array(len);
            }
            0xde | 0xdf => {
                let len = self.len(2 << (tag - 0xde))?;
                return self.map(len);
            }
            0xe0..=0xff => lua.push_number((tag as i8).into()),
            _ => return Err(Stop::Bad),
        }
        Ok(None)
    }

    fn string(&mut self, len: usize) -> Result<(), Stop> {
        let bytes = self.take(len)?;
        self.lua.push_bytes(bytes);
        Ok(())
    }

    fn array(&mut self, len: usize) -> Result<Option<Open>, Stop> {
        room(self.lua, 3, "in function mp_decode_to_lua_array").map_err(Stop::Raise)?;
        // The hint trusts no more than the bytes that are there.
        self.lua.new_table(len.min(self.rest.len()), 0);
        Ok(Some(Open {
            map: false,
            fresh: true,
            index: 0,
            left: len,
        }))
    }

    fn map(&mut self, len: usize) -> Result<Option<Open>, Stop> {
        room(self.lua, 3, "in function mp_decode_to_lua_hash").map_err(Stop::Raise)?;
        self.lua.new_table(0, len.min(self.rest.len() / 2));
        Ok(Some(Open {
            map: true,
            fresh: true,
            index: 0,
            left: 2 * len,
        }))
    }
}

/// A table that is being read; it is on Lua's stack.
struct Open {
    map: bool,
    /// Nothing was read for it yet.
    fresh: bool,
    /// Values taken.
    index: i32,
    /// Values to come; keys count.
    left: usize,
}

impl Open {
    /// Takes the value on top.
    fn take(&mut self, lua: Lua) -> Result<(), Stop> {
        self.left -= 1;
        self.index = self.index.wrapping_add(1);
        if !self.map {
            lua.raw_set_index(-2, self.index);
        } else if self.left.is_multiple_of(2) {
            let wrong = match lua.kind(-2) {
                ffi::TNIL => "nil",
                ffi::TNUMBER if lua.number(-2).is_nan() => "NaN",
                _ => {
                    lua.raw_set(-3);
                    return Ok(());
                }
            };
            return Err(Stop::Raise(Raise::Plain(format!("table index is {wrong}"))));
        }
        Ok(())
    }
}
