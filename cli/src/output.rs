//! How answers are shown: formats, and how each kind of record looks in them.

pub mod alarms;
pub mod approvals;
pub mod audit;
pub mod clusters;
pub mod config;
pub mod diff;
pub mod distribution;
pub mod history;
pub mod json;
pub mod levels;
pub mod members;
pub mod moves;
pub mod namespaces;
pub mod operations;
pub mod peers;
pub mod presence;
pub mod shards;
pub mod status;
pub mod style;
pub mod table;
pub mod time;
pub mod upgrade;
pub mod watch;

use std::borrow::Cow;

use jiff::Timestamp;

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for people
    Table,
    /// More columns, full times
    Wide,
    /// The RPC's response, unchanged
    Json,
    /// The same as YAML
    Yaml,
    /// One JSON document per line and item
    Jsonl,
    /// Only the names: peer/p1
    Name,
}

impl Format {
    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Wide => "wide",
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Jsonl => "jsonl",
            Self::Name => "name",
        }
    }

    /// True where a program reads, so that errors are JSON too.
    pub fn is_machine(self) -> bool {
        matches!(self, Self::Json | Self::Jsonl)
    }
}

/// How values are to look in tables.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Everything, full times.
    pub wide: bool,
    /// With colour.
    pub colour: bool,
    /// What "now" is in relative times.
    pub now: Timestamp,
}

/// A record that can be shown.
pub trait Show: prost::Message + prost::Name {
    /// `peer/p1`
    fn name(&self) -> String;
    /// The columns of a table.
    fn header(wide: bool) -> Vec<&'static str>;
    /// One row, a cell for each column.
    fn row(&self, look: Look) -> Vec<table::Text>;
    /// All there is to say, line by line. Lines without a value are left out unless `wide`.
    fn details(&self, look: Look) -> Vec<(&'static str, table::Text)>;
}

/// True for characters that a terminal acts on instead of showing them: control characters, which could move the
/// cursor or recolour, and those that turn the direction of text, which could make it read as something else.
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Text of the mesh as it may be shown on a terminal: what [`is_unsafe`] is written as escapes.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\t' | '\r' | '\n' => out.extend(character.escape_default()),
            _ if is_unsafe(character) => out.extend(character.escape_unicode()),
            _ => out.push(character),
        }
    }
    Cow::Owned(out)
}

/// A map as `k=v,k=v`.
pub fn pairs(map: &std::collections::BTreeMap<String, String>) -> String {
    map.iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// Tenths of a percent as the mesh writes them: `12.5 %`.
pub fn percent(permille: u32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// `1 shard`, `2 shards`
pub fn count(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        more => format!("{more} {one}s"),
    }
}

/// The words of an enum as tables print them: lower case, and `-` for what a newer server may mean.
pub fn word(name: &str) -> String {
    if name.ends_with("_UNSPECIFIED") {
        "-".to_owned()
    } else {
        name.to_ascii_lowercase().replace('_', " ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_escaped() {
        for (text, shown) in [
            ("plain, grün, 日本", "plain, grün, 日本"),
            ("a\tb\nc\u{1b}[2J", "a\\tb\\nc\\u{1b}[2J"),
            ("\u{7f}\u{9b}31m", "\\u{7f}\\u{9b}31m"),
            (
                "\u{202e}drawkcab\u{2066}\u{200f}\u{61c}",
                "\\u{202e}drawkcab\\u{2066}\\u{200f}\\u{61c}",
            ),
        ] {
            assert_eq!(clean(text), shown);
            assert_eq!(clean(&clean(text)), shown, "clean stays clean");
        }
        let turning = [
            '\u{200e}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{2067}', '\u{2068}', '\u{2069}',
        ];
        assert!(turning.into_iter().all(is_unsafe));
    }
}
