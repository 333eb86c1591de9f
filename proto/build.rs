//! Compiles the contract with protox, so that no `protoc` has to be installed.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

const FILES: &[&str] = &[
    "meshkit/v1/options.proto",
    "meshkit/v1/peers.proto",
    "meshkit/v1/operations.proto",
    "meshkit/v1/audit.proto",
    "meshkit/v1/approvals.proto",
    "meshkit/v1/cluster.proto",
    "meshkit/v1/clusters.proto",
    "meshkit/v1/config.proto",
    "meshkit/v1/namespaces.proto",
    "meshkit/v1/shards.proto",
    "meshkit/v1/presence.proto",
    "meshkit/v1/backup.proto",
    "meshkit/v1/node.proto",
    "meshkit/v1/auth.proto",
    "meshkit/v1/watch.proto",
    "meshkit/v1/preview.proto",
    "meshkit/v1/errors.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["."])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(FILES)?;
    // Encoded by the compiler itself, which keeps the extensions: scope and HTTP are method options.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    // What calls carry, for `codec::wire!`.
    let files = compiler.file_descriptor_set();
    let methods = files
        .file
        .iter()
        .flat_map(|file| &file.service)
        .flat_map(|service| &service.method);
    let carried = methods.flat_map(|method| [method.input_type(), method.output_type()]);
    let carried = carried.filter_map(|name| name.strip_prefix(".meshkit.v1."));
    let carried: BTreeSet<&str> = carried.collect();
    let names: Vec<String> = carried.iter().map(|name| format!("crate::v1::{name}")).collect();
    fs::write(out.join("wire.rs"), format!("wire! {{ {} }}\n", names.join(", ")))?;

    let mut config = tonic_prost_build::Config::new();
    config.btree_map(["."]).enable_type_names();
    tonic_prost_build::configure()
        .out_dir(&out)
        .codec_path("crate::codec::Served")
        .compile_fds_with_config(files, config)?;
    println!("cargo:rerun-if-changed=meshkit");
    println!("cargo:rerun-if-changed=google");
    Ok(())
}
