//! `mesh clusters apply`

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use proto::v1::{
    ApplyClusterRequest, Cluster, GetClusterRequest,
    cluster::{Fencing, State},
};
use serde_json::Value;

use crate::{
    app::App,
    failure::Failure,
    labels,
    mutation::{self, MutationArgs},
};

/// A descriptor is never larger.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The descriptor, whole: what is not said is not kept.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster's id: [a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?
    #[arg(required_unless_present = "file")]
    id: Option<String>,
    /// Read the descriptor from a file, TOML or JSON, as `mesh clusters get -o json` writes it; `-` is standard input. The
    /// file's etag, if any, stands for --if-match
    #[arg(
        short,
        long,
        value_name = "FILE",
        conflicts_with_all = ["region", "state", "priority", "fencing", "endpoint", "owner", "annotation"]
    )]
    file: Option<PathBuf>,
    /// Its region
    #[arg(long, value_name = "REGION", default_value = "", hide_default_value = true)]
    region: String,
    /// What it shall be: passive or maintenance [default: as it is]
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
    /// Which passive cluster to promote first: the lowest, 0 to 1000 [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000))]
    priority: Option<u32>,
    /// How an emergency promotion makes sure that the old active cluster takes no more: manual or lease [default: manual]
    #[arg(long, value_name = "HOW", value_parser = fencing)]
    fencing: Option<Fencing>,
    /// Where other clusters reach it for replication; may be given several times
    #[arg(long = "replication-endpoint", value_name = "HOST:PORT")]
    endpoint: Vec<String>,
    /// Who answers for it; may be given several times, at least once
    #[arg(long, value_name = "NAME")]
    owner: Vec<String>,
    /// A free attribute; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = labels::pair)]
    annotation: Vec<(String, String)>,
    #[command(flatten)]
    mutation: MutationArgs,
}

/// A cluster's state by its word.
pub(super) fn state(text: &str) -> Result<State, String> {
    match State::from_str_name(&text.to_ascii_uppercase()) {
        Some(state) if state != State::Unspecified => Ok(state),
        _ => Err("write active, passive, draining or maintenance".to_owned()),
    }
}

fn fencing(text: &str) -> Result<Fencing, String> {
    match Fencing::from_str_name(&text.to_ascii_uppercase()) {
        Some(fencing) if fencing != Fencing::Unspecified => Ok(fencing),
        _ => Err("write manual or lease".to_owned()),
    }
}

pub async fn run(app: &mut App<'_>, mut args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let mut request = match &args.file {
        Some(path) => {
            let (request, etag) = from_file(path, args.id.as_deref())?;
            if args.mutation.if_match.is_empty() {
                args.mutation.if_match = etag;
            }
            request
        }
        None => ApplyClusterRequest {
            id: args.id.unwrap_or_default(),
            region: args.region,
            state: args.state.unwrap_or_default().into(),
            priority: args.priority,
            fencing: args.fencing.unwrap_or_default().into(),
            replication_endpoints: args.endpoint,
            owners: args.owner,
            annotations: labels::map(args.annotation, "annotation")?,
            ..ApplyClusterRequest::default()
        },
    };
    args.mutation.apply(&mut request);
    let now = || client.get_cluster(GetClusterRequest { id: request.id.clone() });
    let call = || client.apply_cluster(request.clone());
    mutation::record(app, &args.mutation, "applied", now, call).await?;
    Ok(())
}

/// What a file says, and the ETag of what it was made from. What the mesh itself keeps of a cluster is left aside.
fn from_file(path: &Path, id: Option<&str>) -> Result<(ApplyClusterRequest, String), Failure> {
    let cannot = |why: String| {
        Failure::usage(
            format!("{}: {why}", path.display()),
            "write it like the output of `mesh clusters get ID -o json`, in JSON or TOML",
        )
    };
    let text = read(path).map_err(|error| cannot(error.to_string()))?;
    let document = parse(&text).map_err(cannot)?;
    let has_priority = document.get("priority").is_some();
    let cluster: Cluster =
        proto::json::from_slice(document.to_string().as_bytes()).map_err(|error| cannot(error.to_string()))?;
    match id {
        Some(id) if !cluster.id.is_empty() && cluster.id != id => {
            return Err(cannot(format!("it describes cluster `{}`, not `{id}`", cluster.id)));
        }
        None if cluster.id.is_empty() => return Err(cannot("it has no `id`".to_owned())),
        Some(_) | None => {}
    }
    let request = ApplyClusterRequest {
        id: id.map_or(cluster.id, str::to_owned),
        region: cluster.region,
        state: cluster.state,
        priority: has_priority.then_some(cluster.priority),
        fencing: cluster.fencing,
        replication_endpoints: cluster.replication_endpoints,
        owners: cluster.owners,
        annotations: cluster.annotations,
        ..ApplyClusterRequest::default()
    };
    Ok((request, cluster.etag))
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let source: Box<dyn std::io::Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path)?)
    };
    source.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other("larger than 1 MiB"));
    }
    Ok(text)
}

/// JSON where it begins like JSON, otherwise TOML.
fn parse(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    serde_json::to_value(table).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, id: Option<&str>) -> Result<(ApplyClusterRequest, String), Failure> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        from_file(file.path(), id)
    }

    #[test]
    fn toml_and_json_say_the_same() {
        let json = r#"{"id": "eu", "owners": ["sre"], "fencing": "LEASE", "etag": "e1", "version": 3,
            "annotations": {"a": "b"}, "createdAt": "2026-01-01T00:00:00Z"}"#;
        let toml = "id = \"eu\"\nowners = [\"sre\"]\nfencing = \"LEASE\"\netag = \"e1\"\n[annotations]\na = \"b\"\n";
        let (request, etag) = written(json, None).unwrap();
        assert_eq!((request.clone(), etag), written(toml, Some("eu")).unwrap());
        assert_eq!(
            (request.id.as_str(), request.priority),
            ("eu", None),
            "the mesh's default"
        );
        assert_eq!(request.fencing(), Fencing::Lease);
        let (request, _) = written("id = \"eu\"\npriority = 0\n", None).unwrap();
        assert_eq!(request.priority, Some(0));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (text, id) in [
            ("{", None),
            ("id = ", None),
            ("owners = [\"sre\"]", None),
            ("id = \"eu\"", Some("us")),
            ("id = \"eu\"\nowner = \"sre\"", None),
            ("id = \"eu\"\nstate = \"ASLEEP\"", None),
        ] {
            assert_eq!(written(text, id).unwrap_err().exit_code(), 2, "{text}");
        }
    }
}
