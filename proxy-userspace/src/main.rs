//! `weir`: see `weir --help`.

use std::process::ExitCode;

// Half the instructions of the system's allocator on the request path, and a smaller resident set.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    weir::cli::main()
}
