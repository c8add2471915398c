//! `ringwood`: reads its configuration, starts a thread per core, waits for them.

use ringwood::config::{cli, file};
use ringwood_shard::memory::CountingAllocator;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Runs before anything else of this process.
#[used]
// SAFETY: the system's loader calls what this section holds with arguments that a function without any may ignore. `prepare` needs nothing
// that is made later.
#[unsafe(link_section = ".init_array")]
static PREPARE: extern "C" fn() = {
    extern "C" fn prepare() {
        ringwood_shard::memory::arena::prepare();
    }
    prepare
};

fn main() -> ExitCode {
    let start = match cli::parse_env() {
        cli::Invocation::Serve(start) => start,
        cli::Invocation::Print(text) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        cli::Invocation::Refuse(text) => {
            eprint!("{text}");
            return ExitCode::FAILURE;
        }
    };
    // The words have been read.
    ringwood::process::title::claim();
    let loaded = match file::load(&start, &mut std::io::stdin()) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprint!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match ringwood::start::serve(loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
