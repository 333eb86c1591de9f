//! `mesh support bundle`

use std::{path::PathBuf, time::Duration};

use api_client::{
    CallOptions, Client, Consistency, Error, Method,
    methods::{
        GetConfig, GetHistory, GetNodeReport, GetStatus, GetUpgrade, ListAlarms, ListAuditRecords, ListClusters,
        ListMembers, ListOperations,
    },
};
use proto::v1::{
    GetConfigRequest, GetHistoryRequest, GetNodeReportRequest, GetStatusRequest, GetUpgradeRequest, ListAlarmsRequest,
    ListAuditRecordsRequest, ListClustersRequest, ListMembersRequest, ListOperationsRequest, Node, operation::State,
};
use serde_json::json;

use crate::{
    app::App,
    bundle::{self, Bundle, Visited},
    failure::Failure,
    output::{Format, clean, json as document},
};

/// Records of the audit trail that are taken along, newest first.
const AUDIT_RECORDS: u32 = 500;
/// The most that is asked for of any other list.
const ITEMS_MAX: u32 = 1_000;
/// A node that does not answer within this is listed as one that did not.
const NODE_WITHIN: Duration = Duration::from_secs(20);

/// Where to write it.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "The bundle holds, of every node that answers: configuration, metrics, consensus, disk, certificates, the last \
    log lines; and of the mesh: status, members, alarms, settings, running operations, the last audit records. It holds no \
    keys and no tokens. It does hold names, addresses and reasons: look through it before you give it away. What could not \
    be had is listed in its contents.json. Needs mesh.admin."
)]
pub struct Args {
    /// The file to write; must not exist [default: meshkit-support-MESH-TIME.tar.gz]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    if let Some(out) = &args.out
        && out.exists()
    {
        return Err(taken(out));
    }
    app.tell("asking the mesh");
    let status = here::<GetStatus>(&client, GetStatusRequest {}).await;
    let mesh = match &status {
        Ok(status) => status.mesh.clone(),
        // Refused: each further request would be too.
        Err(error) if error.exit_code() == 4 => return Err(error.clone().into()),
        Err(_) => "unknown".to_owned(),
    };
    let made = app.streams.now;
    let stamp = made.strftime("%Y%m%dT%H%M%SZ");
    let name = bundle::file_name(&format!("meshkit-support-{mesh}-{stamp}"));
    let mut bundle = Bundle::new(name.clone(), made);
    keep(&mut bundle, "status.json", status);
    let nodes = of_the_mesh(&client, &mut bundle).await;
    of_the_nodes(app, &client, nodes, &mut bundle).await?;
    let (asked, answered) = bundle.answered();

    let out = args.out.unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    let bytes = bundle.archive()?;
    bundle::write_private(&out, &bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => taken(&out),
        _ => Failure::usage(
            format!("{} cannot be written: {error}", out.display()),
            "name another place with --out",
        ),
    })?;
    show(app, &out, bytes.len(), asked, answered)
}

fn taken(out: &std::path::Path) -> Failure {
    Failure::found(
        "already_exists",
        format!("{} is there already", out.display()),
        "name another file with --out, or move it away",
    )
}

fn show(app: &mut App<'_>, out: &std::path::Path, bytes: usize, asked: usize, answered: usize) -> Result<(), Failure> {
    let path = out.display().to_string();
    let value = json!({ "file": path, "bytes": bytes, "nodesAsked": asked, "nodesAnswered": answered });
    let text = match app.format() {
        Format::Json => document::document(&value)?,
        Format::Jsonl => document::document_line(&value)?,
        Format::Yaml => document::document_yaml(&value)?,
        Format::Name => format!("{}\n", clean(&path)),
        Format::Table | Format::Wide => format!(
            "{}: {answered} of {asked} nodes, {} KiB\n",
            clean(&path),
            bytes.div_ceil(1_024)
        ),
    };
    Ok(app.text(&text)?)
}

/// What the answering node knows, without a quorum.
async fn here<M: Method>(client: &Client, request: M::Request) -> Result<M::Response, Error> {
    let options = CallOptions {
        consistency: Some(Consistency::Local),
        ..CallOptions::default()
    };
    client.call::<M>(request, options).await.map(|answer| answer.message)
}

fn keep<M: prost::Message + prost::Name>(bundle: &mut Bundle, name: &str, answer: Result<M, Error>) {
    match answer {
        Ok(message) => match document::pretty(&message) {
            Ok(text) => bundle.add(name, &text, false),
            Err(_) => bundle.missing(name, "the answer cannot be written"),
        },
        Err(error) => bundle.missing(name, &told(&error)),
    }
}

fn told(error: &Error) -> String {
    format!("{}: {}", error.code(), error.detail())
}

/// What the API says of the mesh. Answers its nodes.
async fn of_the_mesh(client: &Client, bundle: &mut Bundle) -> Vec<Node> {
    let members = here::<ListMembers>(client, ListMembersRequest {}).await;
    let nodes = members
        .as_ref()
        .map(|members| members.items.clone())
        .unwrap_or_default();
    keep(bundle, "members.json", members);
    keep(
        bundle,
        "alarms.json",
        here::<ListAlarms>(client, ListAlarmsRequest {}).await,
    );
    keep(
        bundle,
        "upgrade.json",
        here::<GetUpgrade>(client, GetUpgradeRequest {}).await,
    );
    keep(
        bundle,
        "settings.json",
        here::<GetConfig>(client, GetConfigRequest {}).await,
    );
    keep(
        bundle,
        "history.json",
        here::<GetHistory>(client, GetHistoryRequest {}).await,
    );
    let clusters = ListClustersRequest {
        limit: ITEMS_MAX,
        ..Default::default()
    };
    keep(bundle, "clusters.json", here::<ListClusters>(client, clusters).await);
    let running = ListOperationsRequest {
        limit: ITEMS_MAX,
        state: State::Running.into(),
        ..Default::default()
    };
    keep(bundle, "operations.json", here::<ListOperations>(client, running).await);
    let newest = ListAuditRecordsRequest {
        limit: AUDIT_RECORDS,
        descending: true,
        ..Default::default()
    };
    keep(bundle, "audit.json", here::<ListAuditRecords>(client, newest).await);
    nodes
}

/// What each node says of itself. One after the other: a bundle is no load test.
async fn of_the_nodes(
    app: &mut App<'_>,
    client: &Client,
    nodes: Vec<Node>,
    bundle: &mut Bundle,
) -> Result<(), Failure> {
    let count = nodes.len();
    for (at, node) in nodes.into_iter().enumerate() {
        app.tell(&format!("asking node {} ({} of {count})", node.id, at + 1));
        let report = crate::nodes::ask::<GetNodeReport>(client, &node, GetNodeReportRequest {}, NODE_WITHIN).await;
        let error = match report {
            Ok(report) => {
                for section in report.sections {
                    let name = format!("nodes/{}/{}", node.id, bundle::file_name(&section.name));
                    bundle.add(&name, &section.text, section.truncated);
                }
                None
            }
            Err(error) if error.exit_code() == 4 => return Err(error.into()),
            Err(error) => {
                app.tell(&format!("node {} did not answer: {}", node.id, error.detail()));
                bundle.missing(&format!("nodes/{}", node.id), &told(&error));
                Some(told(&error))
            }
        };
        bundle.visited(Visited {
            node: node.id,
            api: node.api,
            error,
        });
        // Half a bundle is of no use, and there is none before the end: an interrupt leaves nothing behind.
        app.streams.flush()?;
    }
    if count == 0 {
        bundle.missing("nodes", "no node answered which nodes there are");
    }
    Ok(())
}
