//! Where to connect and as whom: the context file, `MESH_*` variables and flags, each value with its origin.
//!
//! Precedence is flag > environment > file > default. The file is TOML with the keys `endpoints`, `ca`,
//! `token` | `token_file` | `cert` + `key`, `timeout` and `transport`; unknown keys are refused. Relative paths in the
//! file are relative to the file. Credentials are alternatives: those of the highest place that names any count, and
//! one place may name only one kind. No error and no `Debug` output ever shows a token.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};

use crate::{Client, Endpoint, Error, Result, duration};

mod file;
mod resolve;

/// Files of a context larger than this are not read: PEM bundles and tokens stay far below.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said otherwise.
    Default,
    /// The context file, and the line in it.
    File {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Env(&'static str),
    /// A command-line flag, with its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value in force.
    pub value: T,
    /// Who said so.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    fn default(value: T) -> Self {
        Self {
            value,
            origin: Origin::Default,
        }
    }
}

/// The protocol to speak. `http` endpoints, which are this machine's, know HTTP/2 alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// HTTP/3 where it can be had, and HTTP/2 where not.
    #[default]
    Auto,
    /// HTTP/3 only: nothing goes over TCP.
    H3,
    /// HTTP/2 only.
    H2,
}

impl Transport {
    /// `auto`, `h3` or `h2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::H3 => "h3",
            Self::H2 => "h2",
        }
    }

    fn parse(text: &str, origin: &Origin) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "h3" => Ok(Self::H3),
            "h2" => Ok(Self::H2),
            _ => Err(Error::invalid(
                format!("`transport` is `{text}` ({origin})"),
                "write auto, h3 or h2",
            )),
        }
    }
}

/// How the caller proves who it is.
#[derive(Clone, Default)]
pub enum Credential {
    /// Not at all.
    #[default]
    None,
    /// A bearer token.
    Token(SecretString),
    /// A file that holds a bearer token; read again when the token is refused.
    TokenFile(PathBuf),
    /// A client certificate (PEM chain) and its key (PEM).
    Certificate {
        /// The certificate chain.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Token(_) => f.write_str("Token(hidden)"),
            Self::TokenFile(path) => f.debug_tuple("TokenFile").field(path).finish(),
            Self::Certificate { cert, key } => f
                .debug_struct("Certificate")
                .field("cert", cert)
                .field("key", key)
                .finish(),
        }
    }
}

/// What the command line said; everything absent leaves the word to the environment and the file.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--context FILE`
    pub context: Option<PathBuf>,
    /// `--endpoints A,B`
    pub endpoints: Option<String>,
    /// `--ca FILE`
    pub ca: Option<PathBuf>,
    /// `--token-file FILE`
    pub token_file: Option<PathBuf>,
    /// `--cert FILE`
    pub cert: Option<PathBuf>,
    /// `--key FILE`
    pub key: Option<PathBuf>,
    /// `--request-timeout 20s`
    pub timeout: Option<Duration>,
    /// `--transport auto|h3|h2`
    pub transport: Option<String>,
}

/// The variables that a context looks at. Taken as a value, so that a test needs no process of its own.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The process's `MESH_*` variables and `HOME`. A variable that is not UTF-8 is left out.
    pub fn from_process() -> Self {
        let wanted = |name: &str| name == "HOME" || name.starts_with("MESH_");
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| wanted(name))
            .collect()
    }

    /// The variable's value; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self {
            variables: variables.into_iter().collect(),
        }
    }
}

/// Where to connect and as whom.
#[derive(Debug, Clone)]
pub struct Context {
    file: Sourced<Option<PathBuf>>,
    endpoints: Sourced<Vec<Endpoint>>,
    ca: Sourced<Option<PathBuf>>,
    credential: Sourced<Credential>,
    timeout: Sourced<Duration>,
    transport: Sourced<Transport>,
}

impl Context {
    /// Puts flags, environment and file together. Reads the context file, but neither CA nor keys nor token file.
    ///
    /// # Errors
    /// `invalid_argument`, with the place that is wrong: a context file that was named and is not there, an unknown
    /// key, a value that cannot be read, two kinds of credential in one place.
    pub fn load(flags: &Flags, environment: &Environment) -> Result<Self> {
        resolve::resolve(flags, environment)
    }

    /// The context file in force; absent where the default one does not exist.
    pub fn file(&self) -> &Sourced<Option<PathBuf>> {
        &self.file
    }

    /// The endpoints, with their origin. May be empty.
    pub fn endpoints(&self) -> &Sourced<Vec<Endpoint>> {
        &self.endpoints
    }

    /// The CA file.
    pub fn ca(&self) -> &Sourced<Option<PathBuf>> {
        &self.ca
    }

    /// The credential.
    pub fn credential(&self) -> &Credential {
        &self.credential.value
    }

    /// Where the credential came from.
    pub fn credential_origin(&self) -> &Origin {
        &self.credential.origin
    }

    /// A request's own limit.
    pub fn timeout(&self) -> Duration {
        self.timeout.value
    }

    /// Where the limit came from.
    pub fn timeout_origin(&self) -> &Origin {
        &self.timeout.origin
    }

    /// The protocol to speak.
    pub fn transport(&self) -> &Sourced<Transport> {
        &self.transport
    }

    pub(crate) fn require_endpoints(&self) -> Result<Vec<Endpoint>> {
        if self.endpoints.value.is_empty() {
            return Err(no_endpoints());
        }
        let plain = self.endpoints.value.iter().find(|endpoint| !endpoint.is_tls());
        if let Some(plain) = plain.filter(|_| self.transport.value == Transport::H3) {
            return Err(Error::invalid(
                format!(
                    "`transport` is h3 ({}), which always has TLS, and {plain} has none",
                    self.transport.origin
                ),
                "write auto or h2, or name https endpoints",
            ));
        }
        Ok(self.endpoints.value.clone())
    }

    /// The CA's PEM, where the context names one.
    ///
    /// # Errors
    /// `invalid_argument` where the file cannot be read.
    pub fn read_ca(&self) -> Result<Option<Vec<u8>>> {
        self.ca.value.as_deref().map(|path| read(path, "ca")).transpose()
    }

    /// The PEMs of client certificate and key, where the context names them.
    pub(crate) fn read_identity(&self) -> Result<Option<(Vec<u8>, SecretString)>> {
        let Credential::Certificate { cert, key } = &self.credential.value else {
            return Ok(None);
        };
        let key_pem = String::from_utf8(read(key, "key")?).map_err(|_| {
            Error::invalid(
                format!("`key` {} is not a PEM file", key.display()),
                "give the key as PEM",
            )
        })?;
        Ok(Some((read(cert, "cert")?, key_pem.into())))
    }
}

pub(crate) fn no_endpoints() -> Error {
    Error::invalid(
        "no endpoint is known",
        "name the mesh: --context FILE, MESH_CONTEXT, MESH_ENDPOINTS, or ~/.config/meshkit/context.toml",
    )
}

/// The token in a file, without the line end.
pub(crate) fn read_token(path: &Path) -> Result<SecretString> {
    let bytes = read(path, "token_file")?;
    let unusable = |why: &str| {
        Error::invalid(
            format!("`token_file` {} {why}", path.display()),
            "the file holds the token and nothing else",
        )
    };
    let text = SecretString::from(String::from_utf8(bytes).map_err(|_| unusable("is not text"))?);
    if text.expose_secret().trim().is_empty() {
        return Err(unusable("is empty"));
    }
    Ok(text)
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let failed = |error: &std::io::Error| {
        Error::invalid(
            format!("`{what}` {} cannot be read: {error}", path.display()),
            "check the path, see `mesh context show --show-origin`",
        )
    };
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::invalid(
            format!("`{what}` {} is larger than 1 MiB", path.display()),
            "name another file",
        ));
    }
    Ok(bytes)
}

fn parse_timeout(text: &str, origin: &Origin) -> Result<Duration> {
    let parsed = duration::parse(text).map_err(|error| Error::invalid(format!("`timeout` ({origin}): {error}"), ""))?;
    if parsed.is_zero() {
        return Err(Error::invalid(
            format!("`timeout` is 0 ({origin})"),
            "give at least 1ms, such as 20s",
        ));
    }
    Ok(parsed)
}

fn default_timeout() -> Sourced<Duration> {
    Sourced::default(Client::TIMEOUT)
}
