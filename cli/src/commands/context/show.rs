//! `mesh context show`

use api_client::{Context, context::Credential};
use serde_json::{Map, Value};

use crate::{
    app::App,
    failure::Failure,
    output::{Format, clean, json, table},
};

/// How much to show.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show where each value came from: flag, environment, file or default
    #[arg(long)]
    show_origin: bool,
}

/// A setting as it is shown. A token is never shown, only that there is one.
struct Setting {
    name: &'static str,
    value: Value,
    origin: String,
}

pub fn run(app: &mut App<'_>, args: &Args) -> Result<(), Failure> {
    let context = app.context()?;
    let settings = settings(app, &context);
    let text = match app.format() {
        Format::Json => json::document(&document(&settings, args))?,
        Format::Jsonl => json::document_line(&document(&settings, args))?,
        Format::Yaml => json::document_yaml(&document(&settings, args))?,
        Format::Name => format!("context/{}\n", clean(&plain(&settings[0].value))),
        Format::Table | Format::Wide => rows(&settings, args, app.streams.colour),
    };
    Ok(app.text(&text)?)
}

fn settings(app: &App<'_>, context: &Context) -> Vec<Setting> {
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref()
            .map_or(Value::Null, |path| path.display().to_string().into())
    };
    let setting = |name, value, origin: &dyn ToString| Setting {
        name,
        value,
        origin: origin.to_string(),
    };
    let (file, endpoints, ca) = (context.file(), context.endpoints(), context.ca());
    let endpoint_texts: Vec<String> = endpoints.value.iter().map(ToString::to_string).collect();
    let credential = match context.credential() {
        Credential::None => serde_json::json!({ "kind": "none" }),
        Credential::Token(_) => serde_json::json!({ "kind": "token", "token": "(hidden)" }),
        Credential::TokenFile(path) => serde_json::json!({ "kind": "token_file", "path": path.display().to_string() }),
        Credential::Certificate { cert, key } => {
            serde_json::json!({ "kind": "certificate", "cert": cert.display().to_string(), "key": key.display().to_string() })
        }
    };
    let format = app.format_sourced();
    vec![
        setting("file", path(&file.value), &file.origin),
        setting("endpoints", endpoint_texts.into(), &endpoints.origin),
        setting("ca", path(&ca.value), &ca.origin),
        setting("credential", credential, context.credential_origin()),
        setting(
            "timeout",
            api_client::duration::format(context.timeout()).into(),
            context.timeout_origin(),
        ),
        setting(
            "transport",
            context.transport().value.as_str().into(),
            &context.transport().origin,
        ),
        setting("output", format.value.as_str().into(), &format.origin),
    ]
}

fn document(settings: &[Setting], args: &Args) -> Value {
    let members = settings.iter().map(|setting| {
        let value = match args.show_origin {
            true => serde_json::json!({ "value": setting.value, "origin": setting.origin }),
            false => setting.value.clone(),
        };
        (setting.name.to_owned(), value)
    });
    Value::Object(members.collect::<Map<_, _>>())
}

fn rows(settings: &[Setting], args: &Args, colour: bool) -> String {
    let mut header = vec!["setting", "value"];
    if args.show_origin {
        header.push("origin");
    }
    let rows = settings.iter().map(|setting| {
        let mut row = vec![table::Text::new(setting.name), table::Text::new(&plain(&setting.value))];
        if args.show_origin {
            row.push(table::Text::new(&setting.origin));
        }
        row
    });
    table::rows(&header, rows, colour)
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(members) => members
            .values()
            .map(plain)
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join(" "),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}
