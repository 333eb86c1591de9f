//! The command line: what every command takes. The verbs' own arguments are beside the verbs.

use std::{path::PathBuf, time::Duration};

use api_client::{
    Error,
    context::{Environment, Flags, Origin, Sourced},
};
use clap::{Args, Parser};

use crate::{commands::Command, output::Format, values::Freshness};

/// Operates a MeshKit mesh.
#[derive(Debug, Parser)]
#[command(
    name = "mesh",
    version,
    about = "Operates a MeshKit mesh",
    long_about = "Operates a MeshKit mesh. Any node will do as an endpoint: mutations find the leader by themselves.",
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_long_help = "Exit codes: 0 ok · 1 differs, denied, not found, unhealthy · 2 usage · 3 cannot connect, no leader · \
        4 authentication or scope · 5 conflict · 6 precondition, guardrail, limit · 7 timeout · 130 interrupted\n\n\
        Environment: MESH_CONTEXT MESH_ENDPOINTS MESH_CA MESH_TOKEN MESH_TOKEN_FILE MESH_CERT MESH_KEY MESH_TIMEOUT \
        MESH_TRANSPORT MESH_OUTPUT. Flags win over the environment, the environment over the context file."
)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection and output")]
pub struct Global {
    /// Context file (TOML) [default: ~/.config/meshkit/context.toml]
    #[arg(long, global = true, value_name = "FILE")]
    context: Option<PathBuf>,
    /// Nodes to ask, in order: https://HOST:PORT,…
    #[arg(long, global = true, value_name = "LIST")]
    endpoints: Option<String>,
    /// The mesh's CA certificate (PEM)
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// File that holds a bearer token
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Client certificate (PEM); needs --key
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Key of the client certificate (PEM)
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Limit of each request, retries included, such as 20s [default: 10s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = crate::values::duration, allow_hyphen_values = true)]
    request_timeout: Option<Duration>,
    /// How fresh what is read has to be: without a quorum, local shows what one node knows [default: linearizable]
    #[arg(long, global = true, value_name = "HOW", value_enum, ignore_case = true)]
    pub(crate) consistency: Option<Freshness>,
    /// Protocol: h3, h2, or auto for HTTP/3 where it can be had [default: auto]
    #[arg(long, global = true, value_name = "NAME")]
    transport: Option<String>,
    /// Output format [default: table]
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, ignore_case = true)]
    output: Option<Format>,
    /// Same as -o json
    #[arg(long, global = true, conflicts_with_all = ["output", "table"])]
    json: bool,
    /// Same as -o table
    #[arg(long, global = true, conflicts_with = "output")]
    table: bool,
}

impl Global {
    /// What the SDK needs to know of them.
    pub fn flags(&self) -> Flags {
        Flags {
            context: self.context.clone(),
            endpoints: self.endpoints.clone(),
            ca: self.ca.clone(),
            token_file: self.token_file.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            timeout: self.request_timeout,
            transport: self.transport.clone(),
        }
    }
}

/// The output format: flag, then `MESH_OUTPUT`, then table.
pub fn format(global: &Global, environment: &Environment) -> Result<Sourced<Format>, Error> {
    let flag = |value, name| {
        Ok(Sourced {
            value,
            origin: Origin::Flag(name),
        })
    };
    match (global.output, global.json, global.table) {
        (Some(format), _, _) => flag(format, "--output"),
        (None, true, _) => flag(Format::Json, "--json"),
        (None, false, true) => flag(Format::Table, "--table"),
        (None, false, false) => match environment.get("MESH_OUTPUT") {
            None => Ok(Sourced {
                value: Format::Table,
                origin: Origin::Default,
            }),
            Some(text) => {
                let value = <Format as clap::ValueEnum>::from_str(text, true).map_err(|_| {
                    Error::invalid(
                        format!("`{text}` is not an output format (env MESH_OUTPUT)"),
                        "write table, wide, json, yaml, jsonl or name",
                    )
                })?;
                Ok(Sourced {
                    value,
                    origin: Origin::Env("MESH_OUTPUT"),
                })
            }
        },
    }
}
