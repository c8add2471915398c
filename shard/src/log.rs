//! What changed, in the form in which it goes into the append-only file: commands, as Redis writes them.
//!
//! A change by itself is written down at once. Those of a transaction are kept one by one until its end, each with the core whose
//! file it belongs into: a transaction may change keys that other cores have lent.
//!
//! The shard only gathers; who owns it takes the bytes at the end of every turn and writes them.

use crate::watch::Name;
use std::sync::Arc;

/// Appends a command as a client would send it.
pub fn write_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    let mut number = itoa::Buffer::new();
    out.push(b'*');
    out.extend_from_slice(number.format(words.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    for word in words {
        out.push(b'$');
        out.extend_from_slice(number.format(word.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends a command for a database, and SELECT before it if another one is selected.
fn write_in(out: &mut Vec<u8>, selected: &mut Option<usize>, db: usize, words: &[&[u8]]) {
    if *selected != Some(db) {
        *selected = Some(db);
        write_command(out, &[b"SELECT", itoa::Buffer::new().format(db).as_bytes()]);
    }
    write_command(out, words);
}

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub db: usize,
    pub words: Vec<Box<[u8]>>,
    pub owner: Owner,
    /// A key or field whose time was over: that stays so when the transaction's own changes are undone.
    pub lapsed: bool,
}

/// Whose file a change belongs into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Core(u16),
    /// It concerns all keys of a database: see [`Log::mark`].
    All,
}

/// The commands of records, which are carried out wholly or not at all.
pub fn group<'r>(records: impl IntoIterator<Item = &'r Record>) -> Vec<u8> {
    let (mut out, mut selected, mut count) = (Vec::new(), None, 0);
    for record in records {
        let words: Vec<&[u8]> = record.words.iter().map(|w| &**w).collect();
        write_in(&mut out, &mut selected, record.db, &words);
        count += 1;
    }
    if count > 1 {
        let mut whole = Vec::with_capacity(out.len() + 32);
        write_command(&mut whole, &[b"MULTI"]);
        whole.append(&mut out);
        write_command(&mut whole, &[b"EXEC"]);
        return whole;
    }
    out
}

/// What changed since the log was written last.
#[derive(Debug, Default)]
pub struct Log {
    bytes: Vec<u8>,
    /// The database that is selected where `bytes` ends.
    selected: Option<usize>,
    /// Where in `bytes` the keys of other files change too: see [`Log::mark`].
    marks: Vec<(usize, Vec<u8>)>,
    scope: Option<Scope>,
    /// Slot to core. Empty: this one has all.
    pub owners: Arc<[u16]>,
}

/// A transaction under way.
#[derive(Debug, Default)]
struct Scope {
    records: Vec<Record>,
    /// Keys that changed since the last record.
    changed: Vec<Name>,
}

/// What [`Log::take`] gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub bytes: Vec<u8>,
    pub marks: Vec<(usize, Vec<u8>)>,
}

impl Log {
    /// A change by one command, of keys of one core.
    #[inline]
    pub fn append(&mut self, db: usize, words: &[&[u8]], owner: Owner) {
        match &mut self.scope {
            None => write_in(&mut self.bytes, &mut self.selected, db, words),
            Some(scope) => scope.push(db, words, owner, false),
        }
    }
    /// Keys or fields are gone because their time was over, or to make room.
    #[cold]
    pub fn lapsed(&mut self, db: usize, words: &[&[u8]]) {
        let owner = words.get(1).map_or(Owner::All, |key| self.owner_of(key));
        match &mut self.scope {
            None => write_in(&mut self.bytes, &mut self.selected, db, words),
            Some(scope) => scope.push(db, words, owner, true),
        }
    }
    /// Several commands that are carried out wholly or not at all, as [`group`] writes them.
    pub fn append_group(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.selected = None;
    }
    /// A command that changes keys in the files of all cores (FLUSHALL, SWAPDB). Since the files are read one after the other,
    /// every core goes on in a new file from here on, and the command stands once, before all of them.
    pub fn mark(&mut self, db: usize, words: &[&[u8]]) {
        if let Some(scope) = &mut self.scope {
            return scope.push(db, words, Owner::All, false);
        }
        let mut command = Vec::new();
        write_in(&mut command, &mut None, db, words);
        self.mark_group(command);
    }
    /// The same for several commands that are carried out wholly or not at all, as [`group`] writes them.
    pub fn mark_group(&mut self, bytes: Vec<u8>) {
        self.marks.push((self.bytes.len(), bytes));
        self.selected = None;
    }

    /// Every core goes on in a new file from here on, though no command says so.
    pub fn mark_cut(&mut self) {
        self.mark_group(Vec::new());
    }
    /// How many new files are to be begun.
    pub fn marks(&self) -> usize {
        self.marks.len()
    }

    /// Whose a key is.
    pub fn owner_of(&self, key: &[u8]) -> Owner {
        let slot = ringwood_protocol::slot::key_slot(key) as usize;
        Owner::Core(self.owners.get(slot).copied().unwrap_or(0))
    }

    /// A transaction begins. False when one is under way: this is a part of it.
    pub fn begin(&mut self) -> bool {
        let begins = self.scope.is_none();
        self.scope.get_or_insert_default();
        begins
    }
    /// The transaction's changes so far; it ends.
    pub fn end(&mut self) -> Vec<Record> {
        self.scope.take().unwrap_or_default().records
    }
    /// Goes on with a transaction that has made these changes.
    pub fn resume(&mut self, records: Vec<Record>) {
        self.scope.get_or_insert_default().records = records;
    }
    /// What another core has noted of its own keys for the transaction that holds it. That it was told to begin a new file is known here.
    pub fn add(&mut self, records: Vec<Record>) {
        if let Some(scope) = &mut self.scope {
            let ours = |record: &Record| record.owner != Owner::All;
            scope.records.extend(records.into_iter().filter(ours));
        }
    }
    /// How many changes the transaction has made, for [`Log::undo`].
    pub fn position(&self) -> usize {
        self.scope.as_ref().map_or(0, |scope| scope.records.len())
    }
    /// What was written down since is undone; but what has lapsed stays so.
    pub fn undo(&mut self, position: usize) {
        if let Some(scope) = &mut self.scope {
            let after = scope.records.split_off(position);
            scope.records.extend(after.into_iter().filter(|r| r.lapsed));
        }
    }
    pub fn in_transaction(&self) -> bool {
        self.scope.is_some()
    }
    /// A key changed; of interest in transactions only.
    #[inline]
    pub(crate) fn changed(&mut self, db: usize, key: &[u8]) {
        if let Some(scope) = &mut self.scope
            && !scope.changed.iter().any(|(d, k)| *d == db && **k == *key)
        {
            scope.changed.push((db, key.into()));
        }
    }
    /// The keys that changed since this was last asked.
    pub fn take_changed(&mut self) -> Vec<Name> {
        let scope = self.scope.as_mut();
        scope.map_or_else(Vec::new, |scope| std::mem::take(&mut scope.changed))
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.marks.is_empty()
    }
    /// Bytes that wait to be written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
    /// What is to be written, in exchange for an empty buffer.
    pub fn take(&mut self, spare: Vec<u8>) -> Taken {
        debug_assert!(spare.is_empty());
        Taken {
            bytes: std::mem::replace(&mut self.bytes, spare),
            marks: std::mem::take(&mut self.marks),
        }
    }
    /// What is written next comes into another file, where no database is selected.
    pub fn forget_selection(&mut self) {
        self.selected = None;
    }
}

impl Scope {
    fn push(&mut self, db: usize, words: &[&[u8]], owner: Owner, lapsed: bool) {
        let words = words.iter().map(|w| Box::from(*w)).collect();
        self.records.push(Record {
            db,
            words,
            owner,
            lapsed,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).replace("\r\n", " ")
    }

    #[test]
    fn a_database_is_selected_when_it_changes() {
        let mut log = Log::default();
        log.append(0, &[b"SET", b"a", b"1"], Owner::Core(0));
        log.append(0, &[b"DEL", b"a"], Owner::Core(0));
        log.append(3, &[b"DEL", b"b"], Owner::Core(0));
        let taken = log.take(Vec::new());
        assert_eq!(
            text(&taken.bytes),
            "*2 $6 SELECT $1 0 *3 $3 SET $1 a $1 1 *2 $3 DEL $1 a *2 $6 SELECT $1 3 *2 $3 DEL $1 b "
        );
        log.append(3, &[b"DEL", b"b"], Owner::Core(0));
        assert_eq!(text(&log.take(Vec::new()).bytes), "*2 $3 DEL $1 b ");
    }

    #[test]
    fn a_group_is_a_transaction_if_it_is_more_than_one() {
        let mut log = Log::default();
        assert!(log.begin());
        assert!(!log.begin());
        log.append(1, &[b"INCR", b"a"], Owner::Core(0));
        let one = log.end();
        assert_eq!(text(&group(&one)), "*2 $6 SELECT $1 1 *2 $4 INCR $1 a ");
        let two = [one[0].clone(), one[0].clone()];
        assert_eq!(
            text(&group(&two)),
            "*1 $5 MULTI *2 $6 SELECT $1 1 *2 $4 INCR $1 a *2 $4 INCR $1 a *1 $4 EXEC "
        );
        assert!(log.is_empty());
    }

    #[test]
    fn what_lapsed_outlives_what_is_undone() {
        let mut log = Log::default();
        log.begin();
        log.append(0, &[b"INCR", b"a"], Owner::Core(0));
        let before = log.position();
        log.append(0, &[b"INCR", b"b"], Owner::Core(0));
        log.lapsed(0, &[b"DEL", b"c"]);
        log.undo(before);
        let left = log.end();
        let names: Vec<String> = left.iter().map(|r| text(&r.words[1])).collect();
        assert_eq!(names, ["a", "c"]);
    }

    #[test]
    fn a_mark_stands_where_all_keys_change() {
        let mut log = Log::default();
        log.append(2, &[b"DEL", b"a"], Owner::Core(0));
        let at = log.len();
        log.mark(2, &[b"FLUSHDB"]);
        log.append(2, &[b"DEL", b"b"], Owner::Core(0));
        let taken = log.take(Vec::new());
        let [(mark, command)] = &taken.marks[..] else {
            panic!("one mark")
        };
        assert_eq!(
            (*mark, text(command).as_str()),
            (at, "*2 $6 SELECT $1 2 *1 $7 FLUSHDB ")
        );
        assert_eq!(
            text(&taken.bytes[at..]),
            "*2 $6 SELECT $1 2 *2 $3 DEL $1 b "
        );
    }
}
