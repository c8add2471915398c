//! However a stream of requests is cut into pieces, the same commands and the same error come out.
//!
//! Three readers are compared: all bytes at once; pieces through `parse` alone; pieces through `parse` and, once a command is cut off,
//! through `Progress`, as a connection does it. And `need` is checked: with fewer bytes the command must not be complete. A command that begins as an
//! earlier one did is read by its `Opening` too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwood_protocol::resp::{Limits, Opening, Parsed, Progress, parse};

/// A command's words, or an inline line as its only "word", or the end of the stream.
#[derive(Debug, PartialEq)]
enum Seen {
    Command(Vec<Vec<u8>>),
    Inline(Vec<u8>),
    Failed(String),
}

fn owned<'a>(words: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    Seen::Command(words.into_iter().map(<[u8]>::to_vec).collect())
}

/// Takes everything whole off `buffer`; true if the stream goes on.
fn take(
    buffer: &mut Vec<u8>,
    limits: &Limits,
    mut progress: Option<&mut Progress>,
    seen: &mut Vec<Seen>,
) -> bool {
    let mut opening: Option<Opening> = None;
    while !buffer.is_empty() {
        let mut words = Vec::new();
        let parsed = match &mut progress {
            Some(progress) if buffer[0] == b'*' => progress.resume(buffer, limits),
            _ => parse(buffer, limits, &mut words),
        };
        if let (Some(opening), true) = (opening, progress.is_none() && limits.authenticated) {
            let mut same = Vec::new();
            if let Some(again) = opening.parse(buffer, limits, &mut same) {
                assert_eq!((&again, &same), (&parsed, &words), "by what it begins with");
            }
        }
        opening = Opening::of(buffer, &words).or(opening);
        let consumed = match parsed {
            Parsed::Command { consumed } => {
                seen.push(match &mut progress {
                    Some(progress) if buffer[0] == b'*' => {
                        let command = owned(progress.words(buffer));
                        **progress = Progress::default();
                        command
                    }
                    _ => owned(words),
                });
                consumed
            }
            Parsed::Inline { line, consumed } => {
                assert!(line < consumed && buffer[consumed - 1] == b'\n');
                seen.push(Seen::Inline(buffer[..line].to_vec()));
                consumed
            }
            Parsed::Incomplete { need } => {
                assert!(words.is_empty(), "words of a cut-off command were left");
                assert!(
                    need > buffer.len(),
                    "{need} bytes are needed and {} are there",
                    buffer.len()
                );
                return true;
            }
            Parsed::Error(error) => {
                seen.push(Seen::Failed(format!("{error:?}")));
                return false;
            }
        };
        assert!(consumed > 0 && consumed <= buffer.len());
        buffer.drain(..consumed);
    }
    true
}

fuzz_target!(|data: &[u8]| {
    let [settings, cut_count, rest @ ..] = data else {
        return;
    };
    let Some((cuts, stream)) = rest.split_at_checked(usize::from(cut_count % 32)) else {
        return;
    };
    let limits = Limits {
        // The least that `proto-max-bulk-len` may be, and what it is.
        bulk_len_max: if settings & 1 == 0 { 1 << 20 } else { 512 << 20 },
        authenticated: settings & 2 == 0,
    };

    let mut at_once = Vec::new();
    let mut buffer = stream.to_vec();
    let open = take(&mut buffer, &limits, None, &mut at_once);

    // With fewer bytes than `need` nothing can have become complete.
    if let (true, Parsed::Incomplete { need }) = (
        open && !buffer.is_empty(),
        parse(&buffer, &limits, &mut Vec::new()),
    ) {
        let mut padded = buffer.clone();
        padded.resize((need - 1).min(buffer.len() + 4096), b'x');
        let parsed = parse(&padded, &limits, &mut Vec::new());
        assert!(
            !matches!(parsed, Parsed::Command { .. } | Parsed::Inline { .. }),
            "complete with fewer bytes than needed"
        );
    }

    for with_progress in [false, true] {
        let mut in_pieces = Vec::new();
        let mut progress = Progress::default();
        let mut buffer = Vec::new();
        let mut rest = stream;
        let mut cuts = cuts.iter().cycle();
        loop {
            let length = cuts
                .next()
                .map_or(rest.len(), |&cut| usize::from(cut) + 1)
                .min(rest.len());
            let (piece, later) = rest.split_at(length);
            buffer.extend_from_slice(piece);
            rest = later;
            let progress = with_progress.then_some(&mut progress);
            if !take(&mut buffer, &limits, progress, &mut in_pieces) || rest.is_empty() {
                break;
            }
        }
        assert_eq!(in_pieces, at_once);
    }
});
