//! The project's own commands, run as `cargo xtask COMMAND`.
//!
//! Light on purpose: no async runtime and no HTTP library, so that a newcomer's first command does not begin with a
//! long build. It knows the proxy only from outside, as its users do.

mod bench;
mod build_ebpf;
mod ci;
mod cluster;
mod demo;
mod image;
mod kernels;
mod launch;
mod node;
mod os;
mod process;
mod setup;
mod steps;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show weir's main job on this terminal, in a minute
    Demo(demo::Options),
    /// Check the house's own rules: floors, lengths, documents
    Tidy,
    /// Run every test, after setting up what they need
    Test(test::Options),
    /// Everything that has to hold before a change lands
    Ci,
    /// Build the eBPF object from source
    BuildEbpf(build_ebpf::Options),
    /// Make the container image, as an OCI archive
    Image(image::Options),
    /// Measure weir beside HAProxy and beside no proxy
    Bench(bench::Options),
    #[command(hide = true)]
    Connects(bench::Connects),
    #[command(hide = true)]
    Dials(bench::Dials),
    #[command(hide = true)]
    Backend(demo::Backend),
    #[command(hide = true)]
    Client(demo::Client),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(options) => demo::run_demo(&options),
        Command::Tidy => tidy::run(),
        Command::Test(options) => test::run_tests(&options),
        Command::Ci => ci::run_ci(),
        Command::BuildEbpf(options) => build_ebpf::run(&options),
        Command::Image(options) => image::run_image(&options),
        Command::Bench(options) => bench::run_bench(&options),
        Command::Connects(options) => bench::connects(&options),
        Command::Dials(options) => bench::dials(&options),
        Command::Backend(options) => demo::serve(&options),
        Command::Client(options) => demo::run_client(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_command_takes_its_arguments() {
        use clap::CommandFactory as _;
        super::Arguments::command().debug_assert();
        let parse = |line: &str| <super::Arguments as clap::Parser>::try_parse_from(line.split(' '));
        for right in [
            "xtask test",
            "xtask test some::test",
            "xtask test --kubeconfig f --image a:1",
            "xtask image",
            "xtask test --kernels",
            "xtask bench --faults --quick",
            "xtask bench --interception --quick",
            "xtask bench --faults silent-node,flood --quick",
            "xtask test --kernels 6.1,newest",
            "xtask test swap::,takeover:: --kernels 6.1",
        ] {
            assert!(parse(right).is_ok(), "{right}");
        }
        for wrong in [
            "xtask test --kubeconfig f some::test",
            "xtask test --kubeconfig f --kernels",
            "xtask image --static --binary f",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
