//! `mesh`: the operator's command line. Everything is in the library, so that tests can run it in process.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(meshkit_cli::main())
}
