//! Flag > environment > file > default, value by value.

use std::path::{Path, PathBuf};

use super::{
    Context, Credential, Environment, Flags, Origin, Sourced, Transport, default_timeout, file, file::File,
    parse_timeout,
};
use crate::{Endpoint, Error, Result, endpoint};

const DEFAULT_FILE: &str = ".config/meshkit/context.toml";

pub(super) fn resolve(flags: &Flags, environment: &Environment) -> Result<Context> {
    let chosen = choose_file(flags, environment);
    let (path, file) = match &chosen.value {
        None => (PathBuf::new(), File::default()),
        Some(path) => (path.clone(), file::read(path)?),
    };
    let places = Places {
        flags,
        environment,
        path: &path,
        file: &file,
    };
    Ok(Context {
        endpoints: places.endpoints()?,
        ca: places.ca(),
        credential: places.credential()?,
        timeout: places.timeout()?,
        transport: places.transport()?,
        file: chosen,
    })
}

/// Texts between commas, without blanks around them, without empty ones.
pub(super) fn split(list: &str) -> Vec<String> {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The default file counts only where it exists; one that was named must.
fn choose_file(flags: &Flags, environment: &Environment) -> Sourced<Option<PathBuf>> {
    if let Some(path) = &flags.context {
        return Sourced {
            value: Some(path.clone()),
            origin: Origin::Flag("--context"),
        };
    }
    if let Some(path) = environment.get("MESH_CONTEXT") {
        return Sourced {
            value: Some(path.into()),
            origin: Origin::Env("MESH_CONTEXT"),
        };
    }
    let path = environment
        .get("HOME")
        .map(|home| Path::new(home).join(DEFAULT_FILE))
        .filter(|path| path.exists());
    Sourced::default(path)
}

struct Places<'a> {
    flags: &'a Flags,
    environment: &'a Environment,
    path: &'a Path,
    file: &'a File,
}

impl Places<'_> {
    fn line(&self, line: usize) -> Origin {
        Origin::File {
            path: self.path.to_owned(),
            line,
        }
    }

    fn endpoints(&self) -> Result<Sourced<Vec<Endpoint>>> {
        let (texts, origin) = if let Some(list) = &self.flags.endpoints {
            (split(list), Origin::Flag("--endpoints"))
        } else if let Some(list) = self.environment.get("MESH_ENDPOINTS") {
            (split(list), Origin::Env("MESH_ENDPOINTS"))
        } else if let Some((list, line)) = &self.file.endpoints {
            (list.clone(), self.line(*line))
        } else {
            return Ok(Sourced::default(Vec::new()));
        };
        let mut value = Vec::with_capacity(texts.len());
        for text in texts {
            let endpoint: Endpoint = text.parse().map_err(|error: endpoint::ParseError| {
                Error::invalid(format!("`endpoints` ({origin}): {error}"), "")
            })?;
            if !value.contains(&endpoint) {
                value.push(endpoint);
            }
        }
        Ok(Sourced { value, origin })
    }

    fn ca(&self) -> Sourced<Option<PathBuf>> {
        if let Some(path) = &self.flags.ca {
            return Sourced {
                value: Some(path.clone()),
                origin: Origin::Flag("--ca"),
            };
        }
        if let Some(path) = self.environment.get("MESH_CA") {
            return Sourced {
                value: Some(path.into()),
                origin: Origin::Env("MESH_CA"),
            };
        }
        match &self.file.ca {
            Some((path, line)) => Sourced {
                value: Some(path.clone()),
                origin: self.line(*line),
            },
            None => Sourced::default(None),
        }
    }

    fn timeout(&self) -> Result<Sourced<std::time::Duration>> {
        if let Some(value) = self.flags.timeout {
            return Ok(Sourced {
                value,
                origin: Origin::Flag("--request-timeout"),
            });
        }
        let (text, origin) = if let Some(text) = self.environment.get("MESH_TIMEOUT") {
            (text, Origin::Env("MESH_TIMEOUT"))
        } else if let Some((text, line)) = &self.file.timeout {
            (text.as_str(), self.line(*line))
        } else {
            return Ok(default_timeout());
        };
        Ok(Sourced {
            value: parse_timeout(text, &origin)?,
            origin,
        })
    }

    fn transport(&self) -> Result<Sourced<Transport>> {
        let (text, origin) = if let Some(text) = &self.flags.transport {
            (text.as_str(), Origin::Flag("--transport"))
        } else if let Some(text) = self.environment.get("MESH_TRANSPORT") {
            (text, Origin::Env("MESH_TRANSPORT"))
        } else if let Some((text, line)) = &self.file.transport {
            (text.as_str(), self.line(*line))
        } else {
            return Ok(Sourced::default(Transport::Auto));
        };
        Ok(Sourced {
            value: Transport::parse(text, &origin)?,
            origin,
        })
    }

    /// The kinds are alternatives: the highest place that names any decides, and may name one kind only.
    fn credential(&self) -> Result<Sourced<Credential>> {
        let flags = Named {
            token: None,
            token_file: self
                .flags
                .token_file
                .clone()
                .map(|path| (path, Origin::Flag("--token-file"))),
            cert: self.flags.cert.clone().map(|path| (path, Origin::Flag("--cert"))),
            key: self.flags.key.clone().map(|path| (path, Origin::Flag("--key"))),
        };
        let path = |name: &'static str| {
            self.environment
                .get(name)
                .map(|path| (PathBuf::from(path), Origin::Env(name)))
        };
        let environment = Named {
            token: self
                .environment
                .get("MESH_TOKEN")
                .map(|token| (token.to_owned().into(), Origin::Env("MESH_TOKEN"))),
            token_file: path("MESH_TOKEN_FILE"),
            cert: path("MESH_CERT"),
            key: path("MESH_KEY"),
        };
        let path = |named: &Option<(PathBuf, usize)>| named.clone().map(|(path, line)| (path, self.line(line)));
        let file = Named {
            token: self.file.token.clone().map(|(token, line)| (token, self.line(line))),
            token_file: path(&self.file.token_file),
            cert: path(&self.file.cert),
            key: path(&self.file.key),
        };
        for named in [flags, environment, file] {
            if let Some(credential) = named.one()? {
                return Ok(credential);
            }
        }
        Ok(Sourced::default(Credential::None))
    }
}

/// The credentials that one place names.
struct Named {
    token: Option<(secrecy::SecretString, Origin)>,
    token_file: Option<(PathBuf, Origin)>,
    cert: Option<(PathBuf, Origin)>,
    key: Option<(PathBuf, Origin)>,
}

impl Named {
    fn one(self) -> Result<Option<Sourced<Credential>>> {
        let certificate = match (self.cert, self.key) {
            (Some((cert, origin)), Some((key, _))) => Some((Credential::Certificate { cert, key }, origin)),
            (None, None) => None,
            (Some((_, origin)), None) => {
                return Err(Error::invalid(
                    format!("`cert` without `key` ({origin})"),
                    "name both, in the same place",
                ));
            }
            (None, Some((_, origin))) => {
                return Err(Error::invalid(
                    format!("`key` without `cert` ({origin})"),
                    "name both, in the same place",
                ));
            }
        };
        let token = self.token.map(|(token, origin)| (Credential::Token(token), origin));
        let token_file = self
            .token_file
            .map(|(path, origin)| (Credential::TokenFile(path), origin));
        let mut named = [token, token_file, certificate].into_iter().flatten();
        match (named.next(), named.next()) {
            (None, _) => Ok(None),
            (Some((value, origin)), None) => Ok(Some(Sourced { value, origin })),
            (Some((_, first)), Some((_, second))) => Err(Error::invalid(
                format!("two kinds of credential are named ({first}, {second})"),
                "name one of token, token_file, or cert with key",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Fixture {
        folder: tempfile::TempDir,
    }

    impl Fixture {
        fn new(text: &str) -> Self {
            let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
            std::fs::write(folder.path().join("context.toml"), text).unwrap_or_else(|e| panic!("{e}"));
            Self { folder }
        }

        fn file(&self) -> PathBuf {
            self.folder.path().join("context.toml")
        }

        fn load(&self, flags: Flags, variables: &[(&str, &str)]) -> Result<Context> {
            let flags = Flags {
                context: flags.context.or(Some(self.file())),
                ..flags
            };
            Context::load(&flags, &environment(variables))
        }
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn code(result: Result<Context>) -> String {
        match result {
            Ok(context) => panic!("accepted: {context:?}"),
            Err(error) => error.to_string(),
        }
    }

    const FULL: &str = "endpoints = [\"https://a:1\"]\nca = \"ca.pem\"\ntoken = \"file-token\"\ntimeout = \"1s\"\ntransport = \"h2\"\n";

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let fixture = Fixture::new(FULL);
        let context = fixture.load(Flags::default(), &[]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(context.timeout(), Duration::from_secs(1));
        assert_eq!(
            context.timeout_origin(),
            &Origin::File {
                path: fixture.file(),
                line: 4
            }
        );
        assert_eq!(context.ca().value, Some(fixture.folder.path().join("ca.pem")));
        assert_eq!(context.transport().value, Transport::H2);
        assert_eq!(context.endpoints().value[0].to_string(), "https://a:1");

        let variables = [
            ("MESH_TIMEOUT", "2s"),
            ("MESH_ENDPOINTS", "b:2, https://c:3,b:2"),
            ("MESH_CA", "/e/ca.pem"),
            ("MESH_TRANSPORT", "auto"),
        ];
        let context = fixture
            .load(Flags::default(), &variables)
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            (context.timeout(), context.timeout_origin()),
            (Duration::from_secs(2), &Origin::Env("MESH_TIMEOUT"))
        );
        let shown: Vec<String> = context.endpoints().value.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["https://b:2", "https://c:3"]);
        assert_eq!(context.ca().origin, Origin::Env("MESH_CA"));

        let flags = Flags {
            timeout: Some(Duration::from_secs(3)),
            endpoints: Some("d:4".into()),
            ca: Some("f.pem".into()),
            ..Flags::default()
        };
        let context = fixture.load(flags, &variables).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            (context.timeout(), context.timeout_origin()),
            (Duration::from_secs(3), &Origin::Flag("--request-timeout"))
        );
        assert_eq!(context.endpoints().origin, Origin::Flag("--endpoints"));
        assert_eq!(context.ca().value, Some("f.pem".into()));

        let context = Context::load(&Flags::default(), &environment(&[])).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            (context.timeout(), context.timeout_origin()),
            (Duration::from_secs(10), &Origin::Default)
        );
        assert!(context.endpoints().value.is_empty());
    }

    #[test]
    fn the_credential_of_the_highest_place_replaces_the_others() {
        let fixture = Fixture::new(FULL);
        let origin = |flags, variables: &[(&str, &str)]| {
            let context = fixture.load(flags, variables).unwrap_or_else(|e| panic!("{e}"));
            (
                format!("{:?}", context.credential()),
                context.credential_origin().clone(),
            )
        };
        assert_eq!(origin(Flags::default(), &[]).0, "Token(hidden)");
        assert_eq!(
            origin(Flags::default(), &[("MESH_TOKEN_FILE", "/t")]),
            ("TokenFile(\"/t\")".into(), Origin::Env("MESH_TOKEN_FILE"))
        );
        let flags = Flags {
            cert: Some("/c".into()),
            key: Some("/k".into()),
            ..Flags::default()
        };
        assert_eq!(origin(flags, &[("MESH_TOKEN", "secret")]).1, Origin::Flag("--cert"));
    }

    #[test]
    fn what_is_ambiguous_or_half_is_refused() {
        let fixture = Fixture::new(FULL);
        assert!(
            code(fixture.load(Flags::default(), &[("MESH_TOKEN", "s3cret"), ("MESH_TOKEN_FILE", "/t")]))
                .contains("two kinds")
        );
        assert!(
            code(fixture.load(
                Flags {
                    cert: Some("/c".into()),
                    ..Flags::default()
                },
                &[]
            ))
            .contains("`cert` without `key`")
        );
        assert!(code(fixture.load(Flags::default(), &[("MESH_TIMEOUT", "20")])).contains("MESH_TIMEOUT"));
        assert!(code(fixture.load(Flags::default(), &[("MESH_TIMEOUT", "0")])).contains("is 0"));
        assert!(
            code(fixture.load(Flags::default(), &[("MESH_ENDPOINTS", "https://nowhere")])).contains("names no port")
        );
        assert!(
            code(fixture.load(
                Flags {
                    transport: Some("h4".into()),
                    ..Flags::default()
                },
                &[]
            ))
            .contains("auto, h3 or h2")
        );
        let missing = Flags {
            context: Some(fixture.folder.path().join("absent.toml")),
            ..Flags::default()
        };
        assert!(code(fixture.load(missing, &[])).contains("absent.toml"));
    }

    #[test]
    fn the_default_file_is_found_under_home_and_may_be_absent() {
        let home = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
        let folder = home.path().join(".config/meshkit");
        let variables = [("HOME", home.path().to_str().unwrap_or_default())];
        assert!(Context::load(&Flags::default(), &environment(&variables)).is_ok_and(|c| c.file().value.is_none()));
        std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{e}"));
        std::fs::write(folder.join("context.toml"), FULL).unwrap_or_else(|e| panic!("{e}"));
        assert!(Context::load(&Flags::default(), &environment(&variables)).is_ok_and(|c| c.file().value.is_some()));
    }

    #[test]
    fn no_form_of_a_context_shows_the_token() {
        let fixture = Fixture::new(FULL);
        let context = fixture
            .load(Flags::default(), &[("MESH_TOKEN", "s3cret")])
            .unwrap_or_else(|e| panic!("{e}"));
        assert!(!format!("{context:?}").contains("s3cret"));
        assert!(!format!("{context:?}").contains("file-token"));
    }
}
