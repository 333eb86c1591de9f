//! `meshkit-node` as it was one feature level ago: what upgrade tests run beside the program of today. Never shipped.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    meshkit_node::program::run(meshkit_node::args::Args::parse()).into()
}
