//! Types, encodings, and the values too large or too changeable to lie packed in their entry.

/// A value's type, with Redis's names.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    String = 0,
    List = 1,
    Set = 2,
    ZSet = 3,
    Hash = 4,
    Stream = 5,
}

impl Type {
    #[inline]
    pub(crate) fn from_bits(bits: u8) -> Self {
        match bits {
            0 => Self::String,
            1 => Self::List,
            2 => Self::Set,
            3 => Self::ZSet,
            4 => Self::Hash,
            5 => Self::Stream,
            _ => panic!("type bits {bits} are not of this program"),
        }
    }
    /// As TYPE and SCAN's TYPE option spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::ZSet => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
        }
    }
    pub const ALL: [Self; 6] = [
        Self::String,
        Self::List,
        Self::Set,
        Self::ZSet,
        Self::Hash,
        Self::Stream,
    ];
}

/// A value's encoding, with the names of OBJECT ENCODING.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Raw = 0,
    Int = 1,
    Embstr = 2,
    Listpack = 3,
    Intset = 4,
    Quicklist = 5,
    Hashtable = 6,
    Skiplist = 7,
    Stream = 8,
    /// A hash with field expiry, packed.
    ListpackEx = 9,
}

impl Encoding {
    #[inline]
    pub(crate) fn from_bits(bits: u8) -> Self {
        match bits {
            0 => Self::Raw,
            1 => Self::Int,
            2 => Self::Embstr,
            3 => Self::Listpack,
            4 => Self::Intset,
            5 => Self::Quicklist,
            6 => Self::Hashtable,
            7 => Self::Skiplist,
            8 => Self::Stream,
            9 => Self::ListpackEx,
            _ => panic!("encoding bits {bits} are not of this program"),
        }
    }
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Int => "int",
            Self::Embstr => "embstr",
            Self::Listpack => "listpack",
            Self::Intset => "intset",
            Self::Quicklist => "quicklist",
            Self::Hashtable => "hashtable",
            Self::Skiplist => "skiplist",
            Self::Stream => "stream",
            Self::ListpackEx => "listpackex",
        }
    }
    /// The encoding of a string value as Redis would choose it for a newly set one.
    #[inline]
    pub fn of_string(value: &[u8]) -> Self {
        match value.len() {
            1..=20 if matches!(value[0], b'0'..=b'9' | b'-') && is_canonical_integer(value) => {
                Self::Int
            }
            0..=44 => Self::Embstr,
            _ => Self::Raw,
        }
    }
}

/// True for the one text form of an i64.
pub fn is_canonical_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', ..] if digits.iter().all(u8::is_ascii_digit) => {
            digits.len() < 19 || std::str::from_utf8(text).is_ok_and(|t| t.parse::<i64>().is_ok())
        }
        _ => false,
    }
}

/// What every large encoding can do.
pub trait Body {
    /// Bytes that the value takes, everything counted. It may walk the structure's nodes, but not its elements.
    fn memory(&self) -> usize;
    /// How many steps freeing it takes, a step being about one block given back.
    fn free_effort(&self) -> usize;
    /// Gives back about `budget` blocks; returns how many. It is freed when this returns less than `budget`; until then nothing
    /// else is done with it. So a large value is freed in slices.
    fn free_some(&mut self, budget: usize) -> usize;
    /// An independent copy (COPY).
    fn duplicate(&self) -> Self;
}

macro_rules! objects {
    ($($(#[$doc:meta])* $name:ident($body:ty),)*) => {
        /// A value that lives outside its entry. Each type adds its large encodings here.
        #[derive(Debug)]
        pub enum Object {
            $($(#[$doc])* $name($body),)*
        }

        impl Object {
            pub fn memory(&self) -> usize {
                match *self {
                    $(Self::$name(ref body) => size_of::<Self>() + Body::memory(body),)*
                }
            }
            pub fn free_effort(&self) -> usize {
                match *self {
                    $(Self::$name(ref body) => Body::free_effort(body),)*
                }
            }
            #[allow(unused_variables)]
            pub fn free_some(&mut self, budget: usize) -> usize {
                match *self {
                    $(Self::$name(ref mut body) => Body::free_some(body, budget),)*
                }
            }
            pub fn duplicate(&self) -> Box<Object> {
                match *self {
                    $(Self::$name(ref body) => Box::new(Self::$name(Body::duplicate(body))),)*
                }
            }
        }
    };
}

objects! {
    List(crate::collections::quicklist::List),
    /// A hash with encoding `hashtable`.
    Hash(crate::collections::field_table::FieldTable),
    /// A set with encoding `hashtable`.
    Set(crate::collections::packed_table::PackedTable<crate::collections::packed_table::Members>),
    SortedSet(crate::collections::sorted_set::SortedSet),
    /// Entries in blocks, and consumer groups.
    Stream(crate::collections::stream::Stream),
}

impl Object {
    /// Asks the CPU for what a look-up of this member or field reads first, in a collection that has a look-up. What
    /// [`Object::prefetch_piece`] takes.
    #[inline]
    pub fn prefetch(&self, element: &[u8]) -> Option<u64> {
        match self {
            Self::Set(table) => Some(table.prefetch_key(element)),
            Self::Hash(table) => Some(table.prefetch_key(element)),
            Self::SortedSet(set) => Some(set.prefetch_key(element)),
            Self::List(_) | Self::Stream(_) => None,
        }
    }
    /// The second stage: what the look-up reads last, or where an element that is not there will be put.
    #[inline]
    pub fn prefetch_piece(&self, hash: u64) {
        match self {
            Self::Set(table) => table.prefetch_piece(hash),
            Self::Hash(table) => table.prefetch_piece(hash),
            Self::SortedSet(set) => set.prefetch_piece(hash),
            Self::List(_) | Self::Stream(_) => {}
        }
    }
}
