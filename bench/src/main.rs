//! `ringwood-bench`: load on a server, comparison with its peers, and the floor under all of them.
//!
//! - `load` drives a server that runs already; [`load`] is the generator that everything else uses too.
//! - `floor` measures echo servers that do nothing but receive and answer ([`floor`]).
//!
//! Method: ratios within one run, server and load on different CPUs, the server's CPU time per operation beside its
//! throughput. CPU time holds on a busy machine, where throughput and latency say little.

mod bars;
mod cluster;
mod cmd_floor;
mod cmd_load;
mod compare;
mod conn;
mod cpus;
mod data;
mod evict;
mod floor;
mod growth;
mod idle;
mod keys;
mod latency;
mod load;
mod loading;
mod members;
mod memory;
mod os;
mod output;
mod peers;
mod proc;
mod resp;
mod ring;
mod saving;
mod stalls;
mod table;
mod template;
mod workload;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "ringwood-bench",
    version,
    about = "Load generator and comparison for servers that speak RESP"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put load on a running server
    Load(Box<cmd_load::Args>),
    /// Start Ringwood and its peers in turn and compare them under the same load
    Compare(Box<compare::Args>),
    /// Compare the commands of all data types by the size of the collections, against the goals
    Bars(Box<bars::Args>),
    /// Measure what a key costs in memory
    Memory(Box<memory::Args>),
    /// Measure what a member of a collection costs in memory
    Members(Box<members::Args>),
    /// Measure how often a cache hits, by eviction policy
    Evict(Box<evict::Args>),
    /// Measure the longest stall of an insert while a server grows
    Growth(Box<growth::Args>),
    /// Measure the longest stall while a large collection grows and goes
    Stalls(Box<stalls::Args>),
    /// Measure how long the start with a large snapshot takes
    Loading(Box<loading::Args>),
    /// Measure what BGSAVE does to a load of writes, and what memory it takes
    Saving(Box<saving::Args>),
    /// Measure what idle connections cost
    Idle(Box<idle::Args>),
    /// Measure the latency of one connection
    Latency(Box<latency::Args>),
    /// Measure echo servers: what receiving and answering alone costs
    Floor(Box<cmd_floor::Args>),
    /// List the named workloads
    Workloads,
    /// Run one echo floor server until it is killed
    #[command(hide = true)]
    FloorServer(floor::ServerArgs),
}

/// What measures stops what it has started; what is measured just ends, and never outlives what started it.
fn prepare(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::FloorServer(_) => os::end_with_parent(),
        _ => os::handle_interrupts(),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = prepare(&cli.command).and_then(|()| match &cli.command {
        Command::Load(args) => cmd_load::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Bars(args) => bars::run(args),
        Command::Memory(args) => memory::run(args),
        Command::Members(args) => members::run(args),
        Command::Evict(args) => evict::run(args),
        Command::Growth(args) => growth::run(args),
        Command::Loading(args) => loading::run(args),
        Command::Saving(args) => saving::run(args),
        Command::Stalls(args) => stalls::run(args),
        Command::Idle(args) => idle::run(args),
        Command::Latency(args) => latency::run(args),
        Command::Floor(args) => cmd_floor::run(args),
        Command::Workloads => {
            print!("{}", workload::list());
            Ok(())
        }
        Command::FloorServer(args) => floor::serve(args),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("ringwood-bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}
