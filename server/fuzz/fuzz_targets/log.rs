//! A file of the log of any bytes, and a manifest: nothing panics, a survey's end is a place where the file was whole (cut there it is found whole, with
//! the same transactions), and a manifest that is read is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwood::aof::manifest::Manifest;
use ringwood::aof::scan::{Scanner, survey};

fuzz_target!(|data: &[u8]| {
    let found = survey(&mut Scanner::new(data));
    let end = found.end as usize;
    assert!(end <= data.len());
    let again = survey(&mut Scanner::new(&data[..end]));
    assert!(again.stop.is_none(), "{:?}", again.stop);
    assert_eq!(again.end as usize, end);
    assert_eq!(again.transactions, found.transactions);
    if let Ok(manifest) = Manifest::parse(data) {
        let text = manifest.to_text();
        if !text.is_empty() {
            assert_eq!(Manifest::parse(text.as_bytes()), Ok(manifest));
        }
    }
});
