//! `weir`: see `weir --help`.

use std::process::ExitCode;

use weir::allocator::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    weir::allocator::use_small_pages();
    weir::cli::main()
}
