//! A snapshot file of any bytes, given in pieces: what is found does not depend on the pieces, and every entry can be read or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwood_shard::keyspace::KeyHasher;
use ringwood_shard::rdb::Rules;
use ringwood_shard::rdb::scan::{Found, Scanner};
use ringwood_shard::shard::Settings;

/// What was found, entries and other things, and how it ended. A piece's entries are read when the whole piece was looked through, so where they are among
/// the others depends on the pieces.
fn load(file: &[u8], piece: usize) -> ([Vec<String>; 2], String) {
    let (settings, hasher) = (Settings::default(), KeyHasher::new(3));
    let mut scanner = Scanner::new(16);
    scanner.skip_checksum();
    let (mut begin, mut end) = (0, 0);
    let mut seen = [Vec::new(), Vec::new()];
    loop {
        end = (end + piece).min(file.len());
        let bytes = &file[begin..end];
        let mut records = Vec::new();
        let result = scanner.scan(bytes, |found| match found {
            Found::Entry(record, key) => records.push((record, key)),
            other => seen[1].push(format!("{other:?}")),
        });
        let rules = Rules {
            settings: &settings,
            hasher: &hasher,
            dialect: scanner.dialect,
        };
        for (record, key) in records {
            let read = record.read(bytes, &rules).map(|(_, decoded)| decoded.encoding);
            seen[0].push(format!("{} {key:?} {:?} {read:?}", record.db, record.expire_at));
        }
        match result {
            Err(broken) => return (seen, broken.error.to_string()),
            Ok(progress) if progress.done => return (seen, "done".into()),
            Ok(progress) => begin += progress.consumed,
        }
        if end == file.len() {
            return (seen, "cut off".into());
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let file = [b"REDIS0012", data].concat();
    let whole = load(&file, file.len());
    assert_eq!(load(&file, 5), whole);
});
