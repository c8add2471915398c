//! Any bytes as a configuration file: read or refused, never a panic; and what CONFIG REWRITE makes of a file that was
//! read means the same and stays as it is when it is rewritten again.
//!
//! A byte of 128 or more at the start of a line stands, with the next one, for a directive's name, so that the fuzzer
//! need not guess names.

#![no_main]

use std::io;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use ringwood::config::DIRECTIVES;
use ringwood::config::file::{Files, Loaded, Origin, Reader};
use ringwood::config::rewrite::{Extent, rewritten};

/// One file that an include can find, whatever its folder is called.
struct OneFile;

impl Files for OneFile {
    fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        if path.ends_with("a") {
            return Ok(b"port 5\nsave 1 1\nrequirepass x\nbind ::1\nclient-output-buffer-limit pubsub 1 2 3".to_vec());
        }
        Err(io::Error::from(io::ErrorKind::NotFound))
    }

    fn matching(&mut self, _: &str) -> Result<Vec<PathBuf>, String> {
        Ok(vec![PathBuf::from("/a")])
    }
}

fn with_names(data: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in data.split(|byte| *byte == b'\n') {
        match line {
            [high, low, rest @ ..] if *high >= 128 => {
                let index = usize::from(high - 128) * 256 + usize::from(*low);
                text.extend_from_slice(DIRECTIVES[index % DIRECTIVES.len()].name.as_bytes());
                text.push(b' ');
                text.extend_from_slice(rest);
            }
            _ => text.extend_from_slice(line),
        }
        text.push(b'\n');
    }
    text
}

fn read(text: &[u8]) -> Option<Loaded> {
    let mut files = OneFile;
    let mut reader = Reader::new(&mut files);
    reader.text(&Origin::Stdin, text).ok()?;
    reader.finish().ok()
}

fuzz_target!(|data: &[u8]| {
    let text = with_names(data);
    let Some(loaded) = read(&text) else { return };
    let once =
        rewritten(&text, &loaded.config, None, Extent::Changed, &mut OneFile).expect("what was read can be written");
    assert!(read(&once).expect("what was written can be read").config == loaded.config);
    let twice = rewritten(&once, &loaded.config, None, Extent::Changed, &mut OneFile).expect("and written again");
    assert!(read(&twice).expect("and read again").config == loaded.config);
    // What an include says and this file says otherwise may stand in it in several ways; that does not become more.
    let includes = text.to_ascii_lowercase().windows(7).any(|word| word == b"include");
    assert!(
        once == twice || (includes && twice.len() <= once.len() + 64),
        "{} became {}",
        String::from_utf8_lossy(&once),
        String::from_utf8_lossy(&twice)
    );
    for directive in DIRECTIVES {
        let shown = directive.show(&loaded.config);
        let found = loaded.config.get(&[directive.name]);
        assert_eq!(found, [(directive.name.as_bytes().to_vec(), shown)]);
    }
});
