//! `weir`: see `weir --help`.

use std::process::ExitCode;

use weir::allocator::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = weir::allocator::MIMALLOC;

fn main() -> ExitCode {
    weir::cli::main()
}
