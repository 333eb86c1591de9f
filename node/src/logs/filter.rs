//! What is logged: a level for everything, and exceptions by part.

use tracing_subscriber::filter::{LevelFilter, Targets};

/// Always logged: what was asked for by a person and changes what is logged.
const ALWAYS: &str = "meshkit::audit";

/// Our own parts: how people call them, and how they sign their lines.
const PARTS: [(&str, &str); 7] = [
    ("access", "meshkit::access"),
    ("api_server", "meshkit_api_server"),
    ("controllers", "meshkit_controllers"),
    ("node", "meshkit_node"),
    ("raft", "meshkit_raft"),
    ("raft_rocksdb", "meshkit_raft_rocksdb"),
    ("meshkit", "meshkit"),
];

/// Libraries below us that log.
const LIBRARIES: [&str; 10] = [
    "openraft",
    "h2",
    "hyper",
    "hyper_util",
    "quinn",
    "quinn_proto",
    "rustls",
    "tokio_rustls",
    "tonic",
    "tower",
];

/// A filter as in the configuration: `info`, `raft=debug`, `info,raft=debug,access=off`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// For everything that has no exception; absent where the filter does not say.
    level: Option<LevelFilter>,
    exceptions: Vec<(String, LevelFilter)>,
}

impl Filter {
    /// Reads a filter. An empty one has neither level nor exceptions.
    ///
    /// # Errors
    /// What cannot be understood, and what would be. A part that does not exist is refused: it would silently match
    /// nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        if text.trim().is_empty() {
            return Ok(filter);
        }
        for directive in text.split(',').map(str::trim) {
            match directive.split_once('=') {
                None => {
                    let why = || format!("`{directive}` is neither a level ({LEVELS}) nor PART=LEVEL");
                    let level = level(directive).ok_or_else(why)?;
                    if filter.level.replace(level).is_some() {
                        return Err(format!("`{directive}` is a second level for everything; give one"));
                    }
                }
                Some((part, word)) => {
                    let level = level(word).ok_or_else(|| format!("`{word}` is not a level; there are {LEVELS}"))?;
                    filter.exceptions.push((target(part.trim())?, level));
                }
            }
        }
        Ok(filter)
    }

    /// Whether it has a level for everything.
    #[cfg(feature = "rocksdb")]
    pub(super) fn says_a_level(&self) -> bool {
        self.level.is_some()
    }

    /// What this filter lets through, with `level` where it does not say one itself.
    pub fn targets(&self, level: LevelFilter) -> Targets {
        let level = self.level.unwrap_or(level);
        let quiet = level.min(LevelFilter::INFO);
        // The libraries below us speak of their own inner life; we say what it means for the node.
        let consensus = if level >= LevelFilter::DEBUG {
            LevelFilter::WARN
        } else {
            level.min(LevelFilter::ERROR)
        };
        let mut targets = Targets::new().with_default(level).with_target("openraft", consensus);
        for library in LIBRARIES.into_iter().skip(1) {
            targets = targets.with_target(library, quiet);
        }
        let exceptions = self.exceptions.iter().map(|(target, level)| (target.clone(), *level));
        targets.with_targets(exceptions).with_target(ALWAYS, LevelFilter::INFO)
    }
}

const LEVELS: &str = "off, error, warn, info, debug, trace";

fn level(word: &str) -> Option<LevelFilter> {
    // The library would take numbers too.
    let word = word.trim();
    let known = LEVELS.split(", ").any(|level| level.eq_ignore_ascii_case(word));
    known.then(|| word.parse().ok()).flatten()
}

/// The target that a part's lines have: `raft::net` is `meshkit_raft::net`.
fn target(part: &str) -> Result<String, String> {
    let (first, rest) = match part.split_once("::") {
        Some((first, rest)) => (first, format!("::{rest}")),
        None => (part, String::new()),
    };
    let ours = PARTS
        .iter()
        .find(|(short, long)| first == *short || first == *long || part == *long);
    if let Some((_, long)) = ours {
        return Ok(if part == *long {
            part.to_owned()
        } else {
            format!("{long}{rest}")
        });
    }
    if LIBRARIES.contains(&first) {
        return Ok(part.to_owned());
    }
    let parts: Vec<&str> = PARTS.iter().map(|(short, _)| *short).chain(LIBRARIES).collect();
    Err(format!("there is no part `{part}`; there are {}", parts.join(", ")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tracing::Level;

    use super::*;

    fn lets(filter: &str, target: &str, level: &Level) -> bool {
        Filter::parse(filter)
            .unwrap()
            .targets(LevelFilter::INFO)
            .would_enable(target, level)
    }

    #[test]
    fn levels_and_exceptions() {
        assert!(lets("", "meshkit_raft::net", &Level::INFO));
        assert!(!lets("", "meshkit_raft::net", &Level::DEBUG));
        assert!(lets("raft=debug", "meshkit_raft::net", &Level::DEBUG));
        assert!(lets("meshkit_raft=debug", "meshkit_raft::net", &Level::DEBUG));
        assert!(lets("raft::net=trace", "meshkit_raft::net::conn", &Level::TRACE));
        assert!(!lets("raft::net=trace", "meshkit_raft::log", &Level::DEBUG));
        assert!(lets("error, raft = debug", "meshkit_raft", &Level::DEBUG));
        assert!(!lets("error,raft=debug", "meshkit_node::run", &Level::INFO));
        assert!(!lets("access=off", "meshkit::access", &Level::ERROR));
        assert!(lets("DEBUG", "meshkit_node", &Level::DEBUG));
        assert!(!lets("debug", "h2::proto", &Level::DEBUG));
        assert!(lets("h2=debug", "h2::proto", &Level::DEBUG));
        for filter in ["off", "error,meshkit=off", ""] {
            assert!(lets(filter, ALWAYS, &Level::INFO), "{filter}");
        }
    }

    #[test]
    fn what_would_silently_match_nothing_is_refused() {
        for (filter, why) in [
            ("loud", "`loud` is neither a level"),
            ("raft=loud", "`loud` is not a level"),
            ("rafft=debug", "there is no part `rafft`"),
            ("a=b=c", "`b=c` is not a level"),
            ("info,warn", "second level"),
            ("info,,raft=debug", "`` is neither"),
            ("=debug", "there is no part ``"),
            ("3", "`3` is neither"),
        ] {
            let error = Filter::parse(filter).unwrap_err();
            assert!(error.contains(why), "{filter}: {error}");
        }
    }
}
