//! `meshkit-node`.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    meshkit_node::program::run(meshkit_node::args::Args::parse()).into()
}
