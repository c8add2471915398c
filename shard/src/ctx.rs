//! What a command sees while it runs on its owner.

use crate::keyspace::{EntryMut, EntryRef, Key};
use crate::object::Type;
use crate::shard::{Expiry, Shard};
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::Reply;

/// A command's words, its name first.
pub type Args<'a> = &'a [&'a [u8]];

/// Written to `ctx.reply` and `Ok`, or an error, which replaces whatever was written.
pub type CommandResult = Result<(), CommandError>;

/// A data command: runs to completion on the owner of its keys.
pub type Handler = fn(&mut Ctx<'_>, Args<'_>) -> CommandResult;

/// A command's surroundings.
pub struct Ctx<'a> {
    pub shard: &'a mut Shard,
    pub db: usize,
    pub reply: Reply<'a>,
    /// The request's first key, or all of its keys in order, as far as they were hashed before.
    pub keys: &'a [Key<'a>],
    /// Set by commands that are logged as something other than their own words: see [`Ctx::log_as`].
    pub log: Log,
    /// The command runs again for a client that it blocked. One of its keys may have changed, or was only with another core.
    pub serving: bool,
    /// The command may ask to be done beside its core: see [`Ctx::is_long`].
    pub aside: bool,
    /// Set by [`Ctx::block`], [`Ctx::widen`] and [`Ctx::is_long`].
    pub wants: Option<Box<Wants>>,
}

/// What a command wants before it can do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wants {
    /// A change of some keys.
    Change(Block),
    /// To reach these keys too.
    Keys(Vec<Box<[u8]>>),
    /// To be done where nobody waits for it: see [`Ctx::is_long`].
    Aside,
}

/// What a client waits for whose command found nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub db: usize,
    /// The command runs again when one of these changes; a subset of the command's keys.
    pub keys: Vec<Box<[u8]>>,
    pub wake: Wake,
    /// `None`: it waits for ever.
    pub timeout_ms: Option<u64>,
    /// What a timeout answers.
    pub null: Null,
    /// The command as it runs again, where that is not what the client sent (XREAD's `$` is an ID from now on).
    pub words: Option<Vec<Vec<u8>>>,
}

/// Which changes of a key a blocked client is served for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Those after which the key is there with this type.
    Type(Type),
    /// All, also when it is deleted or gets another type (XREADGROUP then answers an error).
    Any,
}

/// The two forms of nothing in RESP2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Null {
    Bulk,
    Array,
}

impl Null {
    pub fn write(self, reply: &mut Reply<'_>) {
        match self {
            Self::Bulk => reply.null(),
            Self::Array => reply.null_array(),
        }
    }
}

/// A blocking command's timeout in seconds, with fractions: milliseconds, or `None` for 0, which is no timeout.
pub fn timeout_ms(word: &[u8]) -> Result<Option<u64>, CommandError> {
    let seconds =
        ringwood_protocol::number::parse_f64(word).ok_or(CommandError::TimeoutNotFloat)?;
    let ms = (seconds * 1000.0).ceil();
    if ms < 0.0 {
        return Err(CommandError::NegativeTimeout);
    }
    // Redis adds it to the time of day in milliseconds, which must not overflow.
    if ms.is_nan() || ms >= i64::MAX as f64 / 2.0 {
        return Err(CommandError::TimeoutOutOfRange);
    }
    Ok((ms > 0.0).then_some(ms as u64))
}

/// How a change goes into the log and to replicas.
#[derive(Debug, Default)]
pub enum Log {
    /// As the client sent it, if it changed anything.
    #[default]
    Verbatim,
    /// As these commands: for effects that depend on time or chance.
    As(Vec<Vec<Vec<u8>>>),
    /// Not at all.
    Nothing,
}

impl<'a> Ctx<'a> {
    pub fn new(shard: &'a mut Shard, db: usize, reply: Reply<'a>, keys: &'a [Key<'a>]) -> Self {
        Self {
            shard,
            db,
            reply,
            keys,
            log: Log::default(),
            serving: false,
            aside: false,
            wants: None,
        }
    }

    /// Nothing to do yet: the client waits for a change of these keys, and the command runs again. The command must have
    /// changed nothing and written no reply. Where waiting is not allowed (MULTI, scripts) the null reply is given.
    pub fn block(&mut self, block: Block) -> CommandResult {
        self.wants = Some(Box::new(Wants::Change(block)));
        Ok(())
    }

    /// True for a command that runs again although none of its keys is there with this type: what it was to be served from is
    /// gone again, and it goes on waiting, whatever type the keys have. (Redis does not run it again at all then.)
    pub fn served_in_vain(&mut self, keys: &[&[u8]], kind: Type) -> bool {
        let is_there =
            |ctx: &mut Self, key: &[u8]| ctx.write(key).is_some_and(|e| e.kind() == kind);
        self.serving && !keys.iter().any(|key| is_there(self, key))
    }

    /// True for a key that this command may use now: one of this core, if nobody holds any, or one that is held for it. False for the
    /// others; a command that finds it needs such keys calls [`Ctx::widen`].
    pub fn reaches(&self, key: &[u8]) -> bool {
        self.shard.reaches(self.db, key)
    }
    /// The command needs these keys too, which it could not know before it ran (SORT's patterns). It must have changed
    /// nothing, and returns at once; it runs again when it can reach them.
    pub fn widen(&mut self, keys: Vec<Box<[u8]>>) -> CommandResult {
        self.wants = Some(Box::new(Wants::Keys(keys)));
        Ok(())
    }

    /// The command is done where nobody waits for it: it has changed nothing and returns this.
    #[cold]
    pub fn step_aside(&mut self) -> CommandResult {
        self.wants = Some(Box::new(Wants::Aside));
        Ok(())
    }
    /// So many elements a command may look up, add or remove while others wait: about a millisecond's work.
    #[inline]
    pub fn elements_max(&self) -> usize {
        match self.aside {
            true => self.shard.settings.aside_elements_min,
            false => usize::MAX,
        }
    }
    /// The same of elements that are only read one after the other.
    #[inline]
    pub fn reads_max(&self) -> usize {
        self.elements_max().saturating_mul(16)
    }
    /// True for work over so many elements that others should not wait for it: the command has changed nothing, returns at once, and
    /// runs again where nobody waits ([`Ctx::step_aside`]).
    #[inline]
    pub fn is_long(&mut self, elements: usize) -> bool {
        let long = elements > self.elements_max();
        long && self.step_aside().is_ok()
    }
    /// As [`Ctx::is_long`], for `count` elements of a collection or all that it has, where `speed` take as long as one elsewhere.
    #[inline]
    pub fn is_long_at(&mut self, key: &[u8], count: usize, speed: usize) -> bool {
        let most = self.elements_max().saturating_mul(speed);
        count > most && self.size_of(key) > most && self.step_aside().is_ok()
    }
    /// As [`Ctx::is_long_at`], for members by chance; with a negative count the same may come more than once.
    pub fn is_long_by_chance(&mut self, key: &[u8], count: i64) -> bool {
        let most = self.elements_max();
        let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        if wanted <= most {
            return false;
        }
        let size = self.size_of(key);
        let looks = match count < 0 && size > 0 {
            true => wanted,
            false => wanted.min(size),
        };
        looks > most && self.step_aside().is_ok()
    }
    /// As [`Ctx::is_long`], for all of a string, if it is one, of which so many bytes take as long as an element.
    pub fn is_long_string(&mut self, key: &[u8], bytes_each: usize) -> bool {
        let entry = self.shard.keyspace.get(self.db, self.shard.key(key));
        let string = entry.filter(|entry| entry.kind() == Type::String);
        self.is_long(string.map_or(0, |entry| entry.bytes().len()) / bytes_each)
    }
    /// The elements of a collection in whatever encoding, for [`Ctx::is_long`]: 0 for a key that is missing. Counts nothing as read.
    pub fn size_of(&self, key: &[u8]) -> usize {
        let entry = self.shard.keyspace.get(self.db, self.shard.key(key));
        entry.map_or(0, crate::elements::count)
    }

    /// A key with slot and hash; those of the request's first key are at hand already.
    #[inline]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        if let Some(first) = self.keys.first()
            && std::ptr::eq(first.bytes, bytes)
        {
            return Key {
                bytes,
                hash: first.hash,
                slot: first.slot,
            };
        }
        self.shard.key(bytes)
    }

    /// Calls `f` with the index of each of the command's `count` keys, in order, and the key. The keys' entries are on their way into the cache
    /// when it is called: the loads of up to 16 keys overlap, where a look-up after the other would wait for each.
    #[inline]
    pub fn each_key<'k>(
        &mut self,
        count: usize,
        at: impl Fn(usize) -> &'k [u8],
        mut f: impl FnMut(&mut Self, usize, Key<'k>),
    ) {
        const BATCH: usize = 16;
        let mut keys = [Key {
            bytes: b"",
            hash: 0,
            slot: 0,
        }; BATCH];
        let mut first = 0;
        while first < count {
            let batch = &mut keys[..(count - first).min(BATCH)];
            let (keyspace, db) = (&self.shard.keyspace, self.db);
            for (i, key) in batch.iter_mut().enumerate() {
                let bytes = at(first + i);
                *key = match self.keys.get(first + i) {
                    Some(&Key { hash, slot, .. }) => Key { bytes, hash, slot },
                    None => self.key(bytes),
                };
                debug_assert_eq!(key.slot, ringwood_protocol::slot::key_slot(bytes));
                keyspace.prefetch_table(db, key.slot);
            }
            for key in batch.iter() {
                keyspace.prefetch_bucket(db, key.slot, key.hash);
            }
            for key in batch.iter() {
                keyspace.prefetch_entry(db, key.slot, key.hash);
            }
            for (i, key) in batch.iter().enumerate() {
                f(self, first + i, *key);
            }
            first += batch.len();
        }
    }

    /// The entry for reading.
    #[inline]
    pub fn read(&mut self, key: &[u8]) -> Option<EntryRef<'_>> {
        let key = self.key(key);
        self.shard.read(self.db, key)
    }
    /// The entry for reading, if it is of this type; an error for another type.
    #[inline]
    pub fn read_typed(
        &mut self,
        key: &[u8],
        kind: Type,
    ) -> Result<Option<EntryRef<'_>>, CommandError> {
        match self.read(key) {
            Some(entry) if entry.kind() != kind => Err(CommandError::WrongType),
            found => Ok(found),
        }
    }
    /// The entry for changing.
    #[inline]
    pub fn write(&mut self, key: &[u8]) -> Option<EntryMut<'_>> {
        let key = self.key(key);
        self.shard.write(self.db, key)
    }
    /// The entry for changing, if it is of this type; an error for another type.
    #[inline]
    pub fn write_typed(
        &mut self,
        key: &[u8],
        kind: Type,
    ) -> Result<Option<EntryMut<'_>>, CommandError> {
        match self.write(key) {
            Some(entry) if entry.kind() != kind => Err(CommandError::WrongType),
            found => Ok(found),
        }
    }
    #[inline]
    pub fn set_string(&mut self, key: &[u8], value: &[u8], expiry: Expiry) {
        let key = self.key(key);
        self.shard.set_string(self.db, key, value, expiry);
    }
    pub fn set_expiry(&mut self, key: &[u8], expiry: Expiry) -> bool {
        let key = self.key(key);
        self.shard.set_expiry(self.db, key, expiry)
    }
    /// Removes a key's expiry. False when it has none, or there is no such key.
    pub fn clear_expiry(&mut self, key: &[u8]) -> bool {
        self.write(key)
            .is_some_and(|mut entry| entry.set_expire_at(None).is_some())
    }
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let key = self.key(key);
        self.shard.remove(self.db, key)
    }
    pub fn now_ms(&self) -> i64 {
        self.shard.due_ms()
    }

    /// Says that a key was changed: once for each key and event, after the change. `class` is one of
    /// [`crate::shard::notify`]'s, `event` Redis's name of it.
    #[inline]
    pub fn modified(&mut self, key: &[u8], class: u32, event: &'static str) {
        self.modified_in(self.db, key, class, event);
    }
    /// As [`Ctx::modified`], for a key of another database.
    #[inline]
    pub fn modified_in(&mut self, db: usize, key: &[u8], class: u32, event: &'static str) {
        self.shard.stats.dirty += 1;
        self.shard.notify(db, key, class, event, true);
    }

    /// True for two keys whose changes go into different files: then each is best logged by a command of its own.
    pub fn are_logged_apart(&self, one: &[u8], other: &[u8]) -> bool {
        let log = &self.shard.log;
        self.shard.logging && log.owner_of(one) != log.owner_of(other)
    }
    /// The command is logged as these words instead of its own. May be called several times: all are logged, in order.
    pub fn log_as(&mut self, words: &[&[u8]]) {
        if !self.shard.logging {
            return;
        }
        let words = words.iter().map(|w| w.to_vec()).collect();
        match &mut self.log {
            Log::As(commands) => commands.push(words),
            other => *other = Log::As(vec![words]),
        }
    }
}
