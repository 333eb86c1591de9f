//! A configuration as text: all of it with documentation, or only what a file has to say.

use super::Config;
use super::settings::{Key, Section, Values};

/// One section, ready to print.
pub(super) struct Shown {
    name: &'static str,
    docs: &'static [&'static str],
    keys: Vec<Key>,
    values: Values,
    defaults: Values,
    arrays: Vec<(&'static str, Vec<Values>)>,
}

impl Shown {
    pub(super) fn new<S: Section>(name: &'static str, section: &S) -> Self {
        Self {
            name,
            docs: S::DOCS,
            keys: S::keys(),
            values: section.show(),
            defaults: S::default().show(),
            arrays: section.show_arrays(),
        }
    }
}

/// Every key with its documentation and default, as a file that can be read back.
pub fn defaults() -> String {
    let mut out = String::from(
        "# Every key of meshkit-node's configuration, with its default. Keys marked `required` have none:\n\
         # theirs are examples. Any key can also be given as environment variable\n\
         # MESHKIT_<SECTION>__<KEY>, for example MESHKIT_LOG__LEVEL=debug. Relative paths count from\n\
         # the directory of the file.\n",
    );
    Config::default().each_section(|section| {
        out.push('\n');
        comment(&mut out, "", section.docs);
        out.push_str(&format!("[{}]\n", section.name));
        for key in section.keys.iter().filter(|key| key.elements.is_none()) {
            documented(&mut out, "", key);
        }
        for key in &section.keys {
            if let Some(elements) = &key.elements {
                out.push('\n');
                comment(&mut out, "", key.docs);
                out.push_str(&format!("# [[{}.{}]]\n", section.name, key.name));
                for element in elements {
                    documented(&mut out, "# ", element);
                }
            }
        }
    });
    out
}

fn comment(out: &mut String, prefix: &str, docs: &[&str]) {
    for line in docs {
        out.push_str(format!("{prefix}# {}", line.trim()).trim_end());
        out.push('\n');
    }
}

fn documented(out: &mut String, prefix: &str, key: &Key) {
    comment(out, prefix, key.docs);
    let required = if key.rule.required { "required" } else { "" };
    let bounds = key
        .rule
        .bounds
        .map_or_else(String::new, |(min, max)| format!("{min} to {max}"));
    let joint = if required.is_empty() || bounds.is_empty() {
        ""
    } else {
        ", "
    };
    if !required.is_empty() || !bounds.is_empty() {
        let what = if key.default.starts_with(['"', '[']) && !bounds.is_empty() {
            "length "
        } else {
            ""
        };
        out.push_str(&format!("{prefix}# ({required}{joint}{what}{bounds})\n"));
    }
    if key.default.is_empty() {
        out.push_str(&format!("{prefix}# {} =\n", key.name));
    } else {
        out.push_str(&format!("{prefix}{} = {}\n", key.name, key.default));
    }
}

/// Only what differs from the defaults, and what has none: what a person would write.
pub fn brief(config: &Config) -> String {
    let mut out = String::new();
    config.each_section(|section| {
        let required: Vec<_> = section
            .keys
            .iter()
            .filter(|key| key.rule.required)
            .map(|key| key.name)
            .collect();
        let told: Vec<_> = section
            .values
            .iter()
            .filter(|value| required.contains(&value.0) || !section.defaults.contains(value))
            .collect();
        if told.is_empty() && section.arrays.is_empty() {
            return;
        }
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("[{}]\n", section.name));
        for (key, value) in told {
            out.push_str(&format!("{key} = {value}\n"));
        }
        for (key, elements) in &section.arrays {
            for element in elements {
                out.push_str(&format!("\n[[{}.{key}]]\n", section.name));
                for (key, value) in element {
                    out.push_str(&format!("{key} = {value}\n"));
                }
            }
        }
    });
    out
}
