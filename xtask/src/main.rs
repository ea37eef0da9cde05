//! The project's own commands.

use clap::{Parser, Subcommand};

mod build_ebpf;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the eBPF object from source.
    BuildEbpf(build_ebpf::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::BuildEbpf(options) => build_ebpf::run(&options),
    }
}
