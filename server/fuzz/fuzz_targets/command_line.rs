//! Any arguments, separated by zero bytes: understood or not, never a panic, and each argument that is a value is read
//! as it was given.

#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use libfuzzer_sys::fuzz_target;
use ringwood::config::cli::{self, Invocation};
use ringwood::config::file::{Disk, Origin, Reader};

fuzz_target!(|data: &[u8]| {
    let args: Vec<OsString> = data
        .split(|byte| *byte == 0)
        .map(|arg| OsString::from_vec(arg.to_vec()))
        .collect();
    // Arguments that name files would be read from this machine.
    if let Invocation::Serve(start) = cli::parse(args)
        && !start
            .options
            .windows(7)
            .any(|word| word.eq_ignore_ascii_case(b"include"))
    {
        let mut disk = Disk;
        let mut reader = Reader::new(&mut disk);
        let _ = reader.text(&Origin::CommandLine, &start.options);
    }
});
