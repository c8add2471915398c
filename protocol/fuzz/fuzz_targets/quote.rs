//! Any line is split or refused, and words that are shown with `append_repr` are read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwood_protocol::quote::{append_repr, split_words};

fuzz_target!(|line: &[u8]| {
    let Some(words) = split_words(line) else {
        return;
    };
    let mut shown = Vec::new();
    for word in &words {
        append_repr(&mut shown, word);
        shown.push(b' ');
    }
    assert!(shown.iter().all(|byte| matches!(byte, b' '..=b'~')));
    assert_eq!(split_words(&shown), Some(words));
});
