//! `meshkit-node join`: a node that an operator invited becomes a member.
//!
//! The token says whom to believe: mesh, cluster, members and authorities. It is checked against the configuration and
//! the node's own files before anything is changed or anybody is spoken to. Then the node runs as any other does, and
//! asks to be taken in meanwhile; once it is a member the token has done its part, and `--config` alone starts it.
#![allow(clippy::print_stdout, reason = "who joins a node by hand wants to see how far it is")]

mod progress;

use std::path::Path;
use std::time::Duration;

use api_server::join_token::{JoinToken, TOKEN_BYTES_MAX};
use raft::{Endpoint, Handle, JoinError, JoinRequest};
use statemachine::NodeId;
use tokio::time::Instant;

use crate::config::Config;
use crate::exit::{Exit, Failure};

/// How long a node asks before it gives up. The same command may be given again.
const JOIN_WITHIN: Duration = Duration::from_secs(120);

/// A token that is good for this node, as far as the node can tell.
#[derive(Debug)]
pub struct Joining {
    node: NodeId,
    authorities: Vec<String>,
    request: JoinRequest,
}

impl Joining {
    /// Reads a token and checks that it is meant for the node of `config`.
    ///
    /// # Errors
    /// Exit 2: the file holds no token, or that of another node, cluster or mesh.
    pub fn read(config: &Config, file: &Path) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::new(Exit::Config, format!("{}: {why}", file.display()));
        let size = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
        if size > TOKEN_BYTES_MAX as u64 {
            return Err(wrong(format!("is {size} bytes long, so it is no join token")));
        }
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        let token = JoinToken::decode(&text).map_err(|why| wrong(format!("join_token_invalid: {why}")))?;
        let secret = token
            .secret_bytes()
            .map_err(|why| wrong(format!("join_token_invalid: {why}")))?;
        for (what, meant, own) in [
            ("mesh", &token.mesh, &config.mesh.id),
            ("cluster", &token.cluster, &config.mesh.cluster),
            ("node", &token.node.to_string(), &config.node.id.to_string()),
        ] {
            if meant != own {
                return Err(wrong(format!(
                    "the token is for {what} {meant}, but the configuration says {what} {own}"
                )));
            }
        }
        let own = config.own_addresses().map_err(|why| Failure::new(Exit::Config, why))?;
        let members = token
            .members
            .into_iter()
            .map(|member| (NodeId(member.node), member.raft));
        Ok(Self {
            node: NodeId(token.node),
            authorities: token.authorities,
            request: JoinRequest {
                secret,
                members: members.collect(),
                own: Endpoint {
                    raft: own.raft,
                    api: own.api,
                },
            },
        })
    }

    /// Checks that this node trusts no authority but those that the token names: who holds another's key could pass for
    /// a member.
    ///
    /// # Errors
    /// Exit 2, naming the authority.
    pub fn check_authorities(&self, own: &[String]) -> Result<(), Failure> {
        match own.iter().find(|fingerprint| !self.authorities.contains(fingerprint)) {
            None => Ok(()),
            Some(foreign) => Err(Failure::new(
                Exit::Config,
                format!(
                    "`tls.ca_file` holds an authority with the SHA-256 fingerprint {foreign}, which is none of those that \
                     the cluster goes by. Use the cluster's own bundle; where its authority is being rotated, invite the \
                     node again after the cluster trusts the new one"
                ),
            )),
        }
    }

    /// The only nodes to speak with before this one has a membership.
    pub fn pinned(&self) -> Vec<NodeId> {
        self.request.members.iter().map(|(node, _)| *node).collect()
    }
}

/// Has the node taken in, and shows how it catches up. Resolves only where it is not taken in.
pub(crate) async fn refused(joining: Option<Joining>, handle: &Handle) -> Failure {
    let Some(joining) = joining else {
        return std::future::pending().await;
    };
    match joining.ask(handle).await {
        Ok(()) => {
            progress::show(joining.node, handle).await;
            std::future::pending().await
        }
        Err(failure) => failure,
    }
}

impl Joining {
    async fn ask(&self, handle: &Handle) -> Result<(), Failure> {
        let members = handle.status().members;
        if members.iter().any(|member| member.node == self.node) {
            println!("node {} is a member already", self.node);
            return Ok(());
        }
        let members = self.request.members.iter();
        let members: Vec<String> = members.map(|(node, raft)| format!("node {node} at {raft}")).collect();
        println!("node {} asks to join: {}", self.node, members.join(", "));
        match handle.join(&self.request, Instant::now() + JOIN_WITHIN).await {
            Ok(()) => {
                println!("node {} is a member now, and receives the log", self.node);
                Ok(())
            }
            Err(JoinError::Fatal(fatal)) => Err(fatal.into()),
            Err(error @ (JoinError::Refused { .. } | JoinError::Shut { .. })) => Err(Failure::new(
                Exit::Config,
                format!("the cluster does not take this node in: {error}"),
            )),
            Err(error @ JoinError::Late { .. }) => Err(Failure::new(
                Exit::Failed,
                format!("{error}. The same command may be given again"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use api_server::join_token::Contact;

    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            mesh: "mesh-1".into(),
            cluster: "main".into(),
            node: 4,
            members: vec![Contact {
                node: 1,
                raft: "127.0.0.1:1".into(),
            }],
            authorities: vec!["aa".repeat(32)],
            secret: "07".repeat(32),
            expires_ms: 0,
        }
    }

    fn read(token: &str) -> Result<Joining, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, token).unwrap();
        let mut config = Config::default();
        config.node.id = 4;
        config.raft.advertise = Some("127.0.0.1:7504".to_owned());
        config.api.advertise = Some("127.0.0.1:7404".to_owned());
        Joining::read(&config, &file)
    }

    #[test]
    fn a_token_is_for_one_node_of_one_cluster() {
        let joining = read(&token().encode().unwrap()).unwrap();
        assert_eq!(joining.pinned(), [NodeId(1)]);
        let others = [
            JoinToken { node: 5, ..token() },
            JoinToken {
                mesh: "other".into(),
                ..token()
            },
            JoinToken {
                cluster: "other".into(),
                ..token()
            },
            JoinToken {
                secret: "07".into(),
                ..token()
            },
        ];
        for other in others {
            let failure = read(&other.encode().unwrap()).unwrap_err();
            assert_eq!(failure.exit, Exit::Config, "{failure}");
            assert!(!failure.message.contains("0707"), "{failure}");
        }
        assert_eq!(read("what is this").unwrap_err().exit, Exit::Config);
    }

    #[test]
    fn an_authority_that_the_token_does_not_name_is_not_believed() {
        let joining = read(&token().encode().unwrap()).unwrap();
        joining.check_authorities(&["aa".repeat(32)]).unwrap();
        let failure = joining
            .check_authorities(&["aa".repeat(32), "bb".repeat(32)])
            .unwrap_err();
        assert!(failure.message.contains(&"bb".repeat(32)), "{failure}");
    }
}
