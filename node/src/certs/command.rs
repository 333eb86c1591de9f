//! `meshkit-node certs …`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Error;
use super::authority::{self, Authority};
use super::files::{self, Secrecy};
use super::identity::Identity;
use super::issue::{self, Issued};
use super::token::{self, Claims};
use crate::config::check::is_id;

/// Certificates, signing keys and tokens.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a certificate authority for a mesh.
    Ca {
        /// The mesh's id.
        #[arg(long)]
        mesh: String,
        /// Where the files go.
        #[command(flatten)]
        output: Output,
        /// Days until it expires.
        #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Issue a node's certificate and key.
    Node {
        /// The authority that signs.
        #[command(flatten)]
        ca: CaFiles,
        /// The mesh's id.
        #[arg(long)]
        mesh: String,
        /// The cluster's id.
        #[arg(long)]
        cluster: String,
        /// The node's number.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..1 << 53))]
        node: u64,
        /// A host name or IP address under which the node is reached. Repeat for more.
        #[arg(long = "host", required = true)]
        hosts: Vec<String>,
        /// Where the files go.
        #[command(flatten)]
        output: Output,
        /// Days until it expires; never later than the CA.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Issue a client's certificate and key.
    Client {
        /// The authority that signs.
        #[command(flatten)]
        ca: CaFiles,
        /// The mesh's id.
        #[arg(long)]
        mesh: String,
        /// The client's name.
        #[arg(long, required_unless_present = "peer")]
        name: Option<String>,
        /// The id of the peer whose certificate it is: with `[[auth.binding]]` of `mesh.peer` it heartbeats and
        /// acknowledges as that peer.
        #[arg(long, conflicts_with = "name")]
        peer: Option<String>,
        /// Where the files go.
        #[command(flatten)]
        output: Output,
        /// Days until it expires; never later than the CA.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Issue a certificate anew for the same key, identity and names.
    Renew {
        /// The authority that signs.
        #[command(flatten)]
        ca: CaFiles,
        /// The certificate to renew; it is replaced.
        #[arg(long)]
        cert: PathBuf,
        /// Its private key; it stays.
        #[arg(long)]
        key: PathBuf,
        /// Days until it expires; never later than the CA.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Make a key to sign tokens with; nodes get its public half in `auth.key_files`.
    JwtKey {
        /// Where the files go.
        #[command(flatten)]
        output: Output,
    },
    /// Sign a token and write it to a file.
    Token(TokenArgs),
}

/// Where a certificate and its key go: `<out>.crt` and `<out>.key`.
#[derive(Debug, Args)]
pub struct Output {
    /// Path without extension: `.crt` (or `.pub`) and `.key` are appended.
    #[arg(long)]
    out: PathBuf,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

/// The CA that signs.
#[derive(Debug, Args)]
pub struct CaFiles {
    /// The CA's certificate, PEM; in a bundle, the one the key belongs to signs.
    #[arg(long = "ca")]
    ca: PathBuf,
    /// The CA's private key, PEM.
    #[arg(long = "ca-key")]
    ca_key: PathBuf,
}

/// What goes into a token.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The signing key made by `certs jwt-key`.
    #[arg(long)]
    key: PathBuf,
    /// The mesh's id: the token's audience.
    #[arg(long)]
    mesh: String,
    /// Whose token it is.
    #[arg(long, required_unless_present = "peer")]
    subject: Option<String>,
    /// The id of the peer whose token it is: it holds `mesh.peer`, `mesh.observe` to watch its shards, and
    /// whatever `--scope` says beside.
    #[arg(long, conflicts_with = "subject")]
    peer: Option<String>,
    /// `mesh.read`, `mesh.observe`, `mesh.operate`, `mesh.admin` or, for a peer, `mesh.peer`. Repeat for more.
    #[arg(long = "scope", required_unless_present = "peer")]
    scopes: Vec<String>,
    /// How long it is good for: a number and s, m, h or d.
    #[arg(long, default_value = "12h", value_parser = token::parse_ttl)]
    ttl: Duration,
    /// The issuer, as in the nodes' `auth.issuer`.
    #[arg(long, default_value = "meshkit")]
    issuer: String,
    /// The key's id, where the nodes know keys from a JWKS file.
    #[arg(long, default_value = "")]
    key_id: String,
    /// The file to write, readable by its owner alone.
    #[arg(long)]
    out: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
}

impl TokenArgs {
    fn claims(&self) -> Result<Claims, Error> {
        let mesh = id("mesh", &self.mesh)?.to_owned();
        let (issuer, key_id) = (self.issuer.clone(), self.key_id.clone());
        if let Some(peer) = &self.peer {
            let mut claims = Claims::of_peer(&mesh, id("peer", peer)?, self.ttl);
            claims.scopes.extend(self.scopes.iter().cloned());
            return Ok(Claims {
                issuer,
                key_id,
                ..claims
            });
        }
        Ok(Claims {
            subject: self.subject.clone().unwrap_or_default(),
            scopes: self.scopes.clone(),
            ttl: self.ttl,
            issuer,
            mesh,
            key_id,
        })
    }
}

/// Does what was asked; answers the files written.
pub fn run(command: &Command) -> Result<Vec<PathBuf>, Error> {
    match command {
        Command::Ca { mesh, output, days } => {
            let made = authority::create(id("mesh", mesh)?, *days)?;
            output.write(&Issued {
                certificate: made.certificate,
                key: made.key,
            })
        }
        Command::Node {
            ca,
            mesh,
            cluster,
            node,
            hosts,
            output,
            days,
        } => {
            let (mesh, cluster) = (id("mesh", mesh)?.to_owned(), id("cluster", cluster)?.to_owned());
            let identity = Identity::Node {
                mesh,
                cluster,
                node: *node,
            };
            output.write(&issue::issue(&ca.load()?, &identity, hosts, *days)?)
        }
        Command::Client {
            ca,
            mesh,
            name,
            peer,
            output,
            days,
        } => {
            let mesh = id("mesh", mesh)?.to_owned();
            let identity = match (peer, name) {
                (Some(peer), _) => Identity::Peer {
                    mesh,
                    id: id("peer", peer)?.to_owned(),
                },
                (None, name) => Identity::Client {
                    mesh,
                    name: id("client", name.as_deref().unwrap_or_default())?.to_owned(),
                },
            };
            output.write(&issue::issue(&ca.load()?, &identity, &[], *days)?)
        }
        Command::Renew { ca, cert, key, days } => {
            let certificate = issue::renew(&ca.load()?, cert, key, *days)?;
            files::write(cert, certificate.as_bytes(), Secrecy::Public, true)?;
            Ok(vec![cert.clone()])
        }
        Command::JwtKey { output } => {
            let made = token::new_key()?;
            output.write_pair("pub", &made.public, &made.private)
        }
        Command::Token(args) => {
            let signed = token::sign(&args.key, &args.claims()?)?;
            files::write(&args.out, signed.as_bytes(), Secrecy::Secret, args.force)?;
            Ok(vec![args.out.clone()])
        }
    }
}

fn id<'t>(what: &str, text: &'t str) -> Result<&'t str, Error> {
    if is_id(text) {
        return Ok(text);
    }
    Err(Error::Invalid(format!(
        "{text:?} is no {what} id: lower-case letters, digits, `.`, `_`, `-`; the first and last a letter or digit"
    )))
}

impl CaFiles {
    fn load(&self) -> Result<Authority, Error> {
        Authority::load(&self.ca, &self.ca_key)
    }
}

impl Output {
    fn write(&self, issued: &Issued) -> Result<Vec<PathBuf>, Error> {
        self.write_pair("crt", &issued.certificate, &issued.key)
    }

    fn write_pair(&self, extension: &str, public: &str, secret: &str) -> Result<Vec<PathBuf>, Error> {
        let (public_file, key_file) = (with(&self.out, extension), with(&self.out, "key"));
        // Both or neither: a new certificate beside an old key helps nobody.
        for file in [&public_file, &key_file] {
            if !self.force && file.symlink_metadata().is_ok() {
                return Err(Error::Exists(file.clone()));
            }
        }
        files::write(&key_file, secret.as_bytes(), Secrecy::Secret, self.force)?;
        files::write(&public_file, public.as_bytes(), Secrecy::Public, self.force)?;
        Ok(vec![public_file, key_file])
    }
}

fn with(out: &Path, extension: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}
