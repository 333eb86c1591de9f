//! Every RPC of the contract with its scope, its place in REST and its descriptors, read once from the descriptors.

use std::{collections::HashMap, fmt, sync::LazyLock};

use prost_reflect::{DynamicMessage, ExtensionDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value};

use crate::pool;

/// What a caller must hold. Higher includes lower, all but `mesh.peer`, which stands beside the ladder: see
/// [`Scope::LADDER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `mesh.peer`: to speak as the peer that the credential names. No other scope includes it.
    Peer,
    /// `mesh.read`: lists, records, status.
    Read,
    /// `mesh.observe`: audit, metrics, watches.
    Observe,
    /// `mesh.operate`: the daily mutations.
    Operate,
    /// `mesh.admin`: what cannot be taken back, and the cluster itself.
    Admin,
}

impl Scope {
    /// The scopes of which higher ones include lower ones, lowest first.
    pub const LADDER: [Self; 4] = [Self::Read, Self::Observe, Self::Operate, Self::Admin];

    /// The scope as tokens and refusals write it: `mesh.read` and so on.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "mesh.peer",
            Self::Read => "mesh.read",
            Self::Observe => "mesh.observe",
            Self::Operate => "mesh.operate",
            Self::Admin => "mesh.admin",
        }
    }

    /// The scope of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Peer]
            .into_iter()
            .chain(Self::LADDER)
            .find(|scope| scope.as_str() == text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The HTTP method of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpVerb {
    /// Reads.
    Get,
    /// Creates or acts.
    Post,
    /// Replaces.
    Put,
    /// Changes some fields.
    Patch,
    /// Removes.
    Delete,
}

impl HttpVerb {
    /// The method as HTTP writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// One segment of a path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Matches itself.
    Literal(String),
    /// Matches one segment, into the field of this name.
    Variable(String),
}

/// A path template such as `/meshkit/peers/{id}:drain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The template as the contract writes it.
    pub text: String,
    /// The segments between slashes.
    pub segments: Vec<Segment>,
    /// What follows the last colon: `drain`.
    pub verb: Option<String>,
}

impl Template {
    /// Parses a template: literals and single-segment variables, a custom verb at the end.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let path = text.strip_prefix('/')?;
        let (path, verb) = match path.rsplit_once(':') {
            Some((path, verb)) if !verb.contains(['/', '}']) => (path, Some(verb.to_owned())),
            _ => (path, None),
        };
        let segment = |part: &str| match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
            Some(name) if !name.is_empty() && !name.contains(['=', '*', '.']) => {
                Some(Segment::Variable(name.to_owned()))
            }
            None if !part.is_empty() && !part.contains(['{', '}', '*', ':']) => Some(Segment::Literal(part.to_owned())),
            _ => None,
        };
        let segments = path.split('/').map(segment).collect::<Option<Vec<_>>>()?;
        Some(Self {
            text: text.to_owned(),
            segments,
            verb,
        })
    }
}

/// Where a method's request is in HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRule {
    /// The HTTP method.
    pub verb: HttpVerb,
    /// The path.
    pub template: Template,
    /// True where fields that are not in the path come in the body; false where they come in the query.
    pub body: bool,
}

/// What an RPC answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// One message; as REST, a JSON document.
    Message,
    /// A stream of pieces of one file, each in the field `data`; as REST, the file itself.
    Download,
    /// A stream of messages, each with one member of the oneof `message`; as REST, server-sent events.
    Events,
}

impl Form {
    /// True where messages come until the answer is over, so that it has no length and no deadline of a request.
    #[must_use]
    pub const fn is_stream(self) -> bool {
        match self {
            Self::Message => false,
            Self::Download | Self::Events => true,
        }
    }
}

/// One RPC of the contract.
#[derive(Debug)]
pub struct Method {
    /// `/meshkit.v1.PeerService/DrainPeer`: the path of the gRPC call.
    pub path: String,
    /// `PeerService`.
    pub service: String,
    /// `DrainPeer`.
    pub name: String,
    /// `peers.drain`: how audit and `can-i` call it.
    pub action: String,
    /// What the caller must hold.
    pub scope: Scope,
    /// True where it changes replicated state, so that only the leader serves it.
    pub mutation: bool,
    /// True where only the leader can answer, although it changes nothing that is replicated.
    pub leader: bool,
    /// True where every peer calls it again and again: a call that went well is no news.
    pub routine: bool,
    /// Its place in REST.
    pub http: HttpRule,
    /// The request.
    pub input: MessageDescriptor,
    /// The answer, or each message of it.
    pub output: MessageDescriptor,
    /// What the answer is made of.
    pub form: Form,
    /// The comment of the contract.
    pub doc: String,
}

/// All RPCs of the contract, in its order.
#[must_use]
pub fn all() -> &'static [Method] {
    &TABLE.methods
}

/// The RPC of a gRPC path such as `/meshkit.v1.PeerService/DrainPeer`.
#[must_use]
pub fn by_path(path: &str) -> Option<&'static Method> {
    TABLE.by_path.get(path).and_then(|&at| TABLE.methods.get(at))
}

/// The RPC of an action such as `peers.drain`.
#[must_use]
pub fn by_action(action: &str) -> Option<&'static Method> {
    all().iter().find(|method| method.action == action)
}

struct Table {
    methods: Vec<Method>,
    by_path: HashMap<String, usize>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    #[expect(
        clippy::expect_used,
        reason = "the descriptors are part of this program; a test builds this table"
    )]
    let methods = read().expect("every method of the contract is annotated");
    let by_path = methods
        .iter()
        .enumerate()
        .map(|(at, method)| (method.path.clone(), at))
        .collect();
    Table { methods, by_path }
});

/// Reads the table from the descriptors.
fn read() -> Result<Vec<Method>, String> {
    let options = Options::find()?;
    let services = pool()
        .services()
        .filter(|service| service.package_name() == "meshkit.v1");
    services
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| options.method(&method))
        .collect()
}

struct Options {
    scope: ExtensionDescriptor,
    mutation: ExtensionDescriptor,
    leader: ExtensionDescriptor,
    routine: ExtensionDescriptor,
    action: ExtensionDescriptor,
    http: ExtensionDescriptor,
}

impl Options {
    fn find() -> Result<Self, String> {
        let find = |name: &str| {
            pool()
                .get_extension_by_name(name)
                .ok_or_else(|| format!("no option `{name}`"))
        };
        Ok(Self {
            scope: find("meshkit.v1.scope")?,
            mutation: find("meshkit.v1.mutation")?,
            leader: find("meshkit.v1.leader")?,
            routine: find("meshkit.v1.routine")?,
            action: find("meshkit.v1.action")?,
            http: find("google.api.http")?,
        })
    }

    fn method(&self, method: &MethodDescriptor) -> Result<Method, String> {
        let name = method.full_name();
        let options = method.options();
        let scope = match options.get_extension(&self.scope).as_enum_number() {
            Some(1) => Scope::Read,
            Some(2) => Scope::Observe,
            Some(3) => Scope::Operate,
            Some(4) => Scope::Admin,
            Some(5) => Scope::Peer,
            other => return Err(format!("{name}: no scope ({other:?})")),
        };
        let action = options
            .get_extension(&self.action)
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if action.is_empty() {
            return Err(format!("{name}: no action"));
        }
        let http = options.get_extension(&self.http);
        let http = http
            .as_message()
            .and_then(rule)
            .ok_or_else(|| format!("{name}: no usable HTTP rule"))?;
        let form = form(method).ok_or_else(|| format!("{name}: a stream that REST has no form for"))?;
        Ok(Method {
            path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
            service: method.parent_service().name().to_owned(),
            name: method.name().to_owned(),
            action,
            scope,
            mutation: options.get_extension(&self.mutation).as_bool().unwrap_or_default(),
            leader: options.get_extension(&self.leader).as_bool().unwrap_or_default(),
            routine: options.get_extension(&self.routine).as_bool().unwrap_or_default(),
            http,
            input: method.input(),
            output: method.output(),
            form,
            doc: comment(&method.parent_file(), method.path()),
        })
    }
}

/// How a method answers; none where it streams what is neither a file nor events. Clients never stream.
fn form(method: &MethodDescriptor) -> Option<Form> {
    if !method.is_server_streaming() && !method.is_client_streaming() {
        return Some(Form::Message);
    }
    let output = method.output();
    if !method.is_client_streaming() && output.oneofs().any(|oneof| oneof.name() == "message") {
        return Some(Form::Events);
    }
    let mut fields = output.fields();
    let file = fields
        .next()
        .is_some_and(|field| field.name() == "data" && field.kind() == Kind::Bytes && !field.is_list());
    (file && fields.next().is_none() && !method.is_client_streaming()).then_some(Form::Download)
}

fn rule(rule: &DynamicMessage) -> Option<HttpRule> {
    let patterns = [
        ("get", HttpVerb::Get),
        ("post", HttpVerb::Post),
        ("put", HttpVerb::Put),
        ("patch", HttpVerb::Patch),
        ("delete", HttpVerb::Delete),
    ];
    let (verb, template) =
        patterns
            .into_iter()
            .find_map(|(name, verb)| match rule.get_field_by_name(name).as_deref() {
                Some(Value::String(path)) if !path.is_empty() => Some((verb, Template::parse(path)?)),
                _ => None,
            })?;
    let body = rule.get_field_by_name("body")?.as_str()? == "*";
    Some(HttpRule { verb, template, body })
}

/// The comment before an element of the contract, by the element's path in its file; empty where there is none.
#[must_use]
pub fn comment(file: &prost_reflect::FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let locations = info.map(|info| info.location.as_slice()).unwrap_or_default();
    let location = locations.iter().find(|location| location.path == path);
    let text = location.map(|location| location.leading_comments()).unwrap_or_default();
    text.lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join("\n")
        .trim()
        .to_owned()
}
