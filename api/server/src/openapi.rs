//! The OpenAPI 3.1 document, derived from the contract's descriptors and comments.

use std::collections::BTreeMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use proto::methods::{self, Form, HttpVerb, Method, Segment, comment};
use serde_json::{Map, Value, json};

/// The largest integer that JSON numbers hold exactly.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut schemas = Schemas::default();
    let mut paths: Map<String, Value> = Map::new();
    for method in methods::all() {
        let path = paths
            .entry(method.http.template.text.clone())
            .or_insert_with(|| json!({}));
        path[method.http.verb.as_str().to_ascii_lowercase()] = operation(method, &mut schemas);
    }
    add_pages(&mut paths);
    let mut schemas = schemas.into_map();
    schemas.insert("Problem".to_owned(), problem());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "MeshKit",
            "version": "v1",
            "description": "The control plane's REST API. It is derived from the gRPC contract `meshkit.v1`: the same \
                            calls, refusals and headers. Every path is served under `/control` as well.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, { "certificate": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "Its `scope` claim holds `mesh.read`, `mesh.observe`, `mesh.operate` or `mesh.admin`; \
                                    higher ones include lower ones." },
                "certificate": { "type": "mutualTLS" },
            },
            "headers": response_headers(),
            "parameters": request_headers(),
            "responses": { "Problem": {
                "description": "A refusal. `code` is stable and documented.",
                "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
            } },
        },
    })
}

fn operation(method: &Method, schemas: &mut Schemas) -> Value {
    let mut parameters = Vec::new();
    let mut in_path = Vec::new();
    for segment in &method.http.template.segments {
        if let Segment::Variable(name) = segment
            && let Some(field) = method.input.get_field_by_name(name)
        {
            in_path.push(field.number());
            parameters.push(
                json!({ "name": field.json_name(), "in": "path", "required": true, "schema": schemas.of(&field) }),
            );
        }
    }
    let rest: Vec<FieldDescriptor> = method
        .input
        .fields()
        .filter(|field| !in_path.contains(&field.number()))
        .collect();
    if !method.http.body {
        for field in &rest {
            parameters.push(json!({
                "name": field.json_name(), "in": "query", "schema": schemas.of(field),
                "description": doc_of(field),
            }));
        }
    }
    let reference = |name: &str| json!({ "$ref": format!("#/components/parameters/{name}") });
    parameters.push(reference("Mesh-Timeout"));
    let takes = |field: &str| method.input.get_field_by_name(field).is_some();
    if method.mutation {
        parameters.push(reference("Mesh-Route"));
        parameters.extend(["Mesh-Reason", "Mesh-Ticket"].map(reference));
    } else if method.leader {
        parameters.push(reference("Mesh-Route"));
    } else {
        parameters.push(reference("Mesh-Consistency"));
    }
    if method.form == Form::Events {
        parameters.extend(["Last-Event-ID", "Mesh-Transport-Downgrade"].map(reference));
    }
    if takes("dry_run") {
        parameters.extend(["Mesh-Dry-Run", "If-Match", "Idempotency-Key"].map(reference));
    } else if method.mutation {
        // What has no ETag has no fields for these either.
        parameters.extend(["Mesh-Dry-Run", "Idempotency-Key"].map(reference));
    }
    let has_etag = method.output.get_field_by_name("etag").is_some();
    let mut operation = json!({
        "operationId": method.name,
        "tags": [method.service.trim_end_matches("Service")],
        "summary": method.doc.lines().next().unwrap_or_default(),
        "description": format!("{}\n\nNeeds the scope `{}`.", method.doc, method.scope).trim(),
        "parameters": parameters,
        "responses": responses(method, has_etag, schemas),
        "x-meshkit-action": method.action,
        "x-meshkit-scope": method.scope.as_str(),
    });
    if method.http.body {
        let schema = schemas.object(&rest, true);
        let required = method.input.get_field_by_name("endpoints").is_some();
        operation["requestBody"] =
            json!({ "required": required, "content": { "application/json": { "schema": schema } } });
    }
    if method.http.verb == HttpVerb::Get
        && (has_etag || PAGES.contains(&method.name.as_str()))
        && let Some(parameters) = operation["parameters"].as_array_mut()
    {
        parameters.push(reference("If-None-Match"));
    }
    operation
}

/// Lists whose pages have an ETag, as they show nothing but the mesh at one revision.
const PAGES: [&str; 7] = [
    "ListPeers",
    "ListOperations",
    "ListClusters",
    "ListConfigVersions",
    "ListNamespaces",
    "ListShards",
    "ListShardHistory",
];

fn responses(method: &Method, has_etag: bool, schemas: &mut Schemas) -> Value {
    let header = |name: &str| {
        (
            name.to_owned(),
            json!({ "$ref": format!("#/components/headers/{name}") }),
        )
    };
    let mut headers: Map<String, Value> = ["Mesh-Revision", "Mesh-Epoch", "Mesh-Leader", "Mesh-Request-Id"]
        .map(header)
        .into_iter()
        .collect();
    let is_page = PAGES.contains(&method.name.as_str());
    if has_etag || is_page {
        headers.extend([header("ETag")]);
    }
    if method.mutation && method.input.get_field_by_name("dry_run").is_some() {
        headers.extend(["Mesh-Dry-Run", "Mesh-Replayed", "Mesh-Approval-Needed"].map(header));
    } else if method.mutation {
        headers.extend(["Mesh-Dry-Run", "Mesh-Replayed"].map(header));
    }
    let (description, content) = match method.form {
        Form::Message => (
            "The answer.",
            json!({ "application/json": { "schema": answered(method, schemas) } }),
        ),
        Form::Events => (
            "Server-sent events. Each has the name of what it is as `event`, the message as `data`, and where it can be \
             gone on from, a token as `id`, which `Last-Event-ID` takes up again. A stream that the node ends has a \
             last event named `error`, whose data is a problem document.",
            json!({ "text/event-stream": { "schema": schemas.reference(&method.output) } }),
        ),
        Form::Download => (
            "The file, without a length: it is made while it is sent. A body that breaks off is not whole.",
            json!({ "application/octet-stream": { "schema": { "type": "string", "format": "binary" } } }),
        ),
    };
    let mut responses = json!({
        "200": {
            "description": description,
            "headers": headers,
            "content": content,
        },
        "default": { "$ref": "#/components/responses/Problem" },
    });
    if method.http.verb == HttpVerb::Get && has_etag {
        responses["304"] = json!({ "description": "The record still has the ETag that `If-None-Match` names." });
    } else if is_page {
        responses["304"] = json!({ "description": "The page still has the ETag that `If-None-Match` names: nothing has changed since." });
    }
    if may_wait(method) {
        responses["202"] = json!({
            "description": "Taken, and waiting for a second person: nothing has been changed yet.",
            "content": { "application/json": { "schema": schemas.reference(&proto::descriptor::<proto::v1::Approval>()) } },
        });
    }
    if method.mutation || method.leader {
        responses["307"] = json!({
            "description": "Another node leads. Send the request to `Location`, with its credential again, or ask with \
                            `Mesh-Route: forward`.",
            "headers": { "Location": { "schema": { "type": "string", "format": "uri" } } },
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
        });
    }
    responses
}

/// The message that a method answers with; with a dry run, it has one member more.
fn answered(method: &Method, schemas: &mut Schemas) -> Value {
    let message = schemas.reference(&method.output);
    if method.input.get_field_by_name("dry_run").is_none() {
        return message;
    }
    let mut preview = schemas.reference(&proto::descriptor::<proto::v1::Preview>());
    preview["description"] = "With a dry run only: every check, and what would change.".into();
    json!({ "allOf": [message, { "type": "object", "properties": { "preview": preview } }] })
}

/// Whether there is a setting that says who has to agree to it.
fn may_wait(method: &Method) -> bool {
    let rule = statemachine::record::definition(&format!("approvals.{}", method.action));
    rule.is_some_and(|rule| !rule.unit.choices().is_empty())
}

fn add_pages(paths: &mut Map<String, Value>) {
    let plain = json!({ "text/plain": { "schema": { "type": "string" } } });
    let page = |id: &str, summary: &str, anonymous: bool| {
        let mut page = json!({
            "operationId": id, "tags": ["Node"], "summary": summary,
            "responses": {
                "200": { "description": "The page.", "content": plain },
                "default": { "$ref": "#/components/responses/Problem" },
            },
        });
        if anonymous {
            page["security"] = json!([]);
        }
        page
    };
    let mut ready = page(
        "Ready",
        "Whether there is a leader and this node has a state to show.",
        true,
    );
    ready["responses"]["503"] = json!({ "description": "Not ready.", "content": plain });
    let mut metrics = page("Metrics", "Metrics in Prometheus' text form.", false);
    metrics["description"] = "Needs the scope `mesh.observe`.".into();
    let mut openapi = page("OpenApi", "This document.", true);
    openapi["responses"]["200"]["content"] = json!({ "application/json": { "schema": { "type": "object" } } });
    paths.insert(
        "/livez".to_owned(),
        json!({ "get": page("Live", "Whether the process answers.", true) }),
    );
    paths.insert("/readyz".to_owned(), json!({ "get": ready }));
    paths.insert("/metrics".to_owned(), json!({ "get": metrics }));
    paths.insert("/openapi.json".to_owned(), json!({ "get": openapi }));
}

fn request_headers() -> Value {
    let header = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "header", "description": description, "schema": schema });
    let text = || json!({ "type": "string" });
    let all = [
        header(
            "Mesh-Reason",
            "Why, for the audit trail: at most 1024 bytes. As the field `reason`.",
            text(),
        ),
        header(
            "Mesh-Ticket",
            "The change ticket: at most 128 bytes. As the field `ticket`.",
            text(),
        ),
        header(
            "Mesh-Dry-Run",
            "Answers what would happen, and changes nothing.",
            json!({ "type": "boolean" }),
        ),
        header("Mesh-Timeout", "How long the caller waits: `500ms`, `2s`.", text()),
        header(
            "Mesh-Consistency",
            "How fresh a read has to be.",
            json!({ "type": "string", "enum": ["linearizable", "local"], "default": "linearizable" }),
        ),
        header(
            "Mesh-Route",
            "What a follower does with a request that only the leader answers.",
            json!({ "type": "string", "enum": ["redirect", "forward"], "default": "redirect" }),
        ),
        header(
            "Last-Event-ID",
            "The id of the last event that was taken: goes on after it, and goes before the parameter `token`.",
            text(),
        ),
        header(
            "Mesh-Transport-Downgrade",
            "Why the client speaks no newer protocol, in one word: `timeout`, `refused`. The first message repeats it.",
            text(),
        ),
        header("If-Match", "Only where the record's ETag is this one.", text()),
        header(
            "If-None-Match",
            "Answers 304 where the ETag of the record or of the page is this one.",
            text(),
        ),
        header(
            "Idempotency-Key",
            "Makes a retry safe: at most 64 bytes, a ULID by preference.",
            text(),
        ),
    ];
    let named = all
        .into_iter()
        .map(|header| (header["name"].as_str().unwrap_or_default().to_owned(), header));
    Value::Object(named.collect())
}

fn response_headers() -> Value {
    let integer = || json!({ "type": "integer", "minimum": 0, "maximum": INTEGER_MAX });
    let header = |description: &str, schema: Value| json!({ "description": description, "schema": schema });
    json!({
        "ETag": header("Changes with every change of the record.", json!({ "type": "string" })),
        "Mesh-Revision": header("The mesh revision that the answer shows.", integer()),
        "Mesh-Epoch": header("The mesh's fencing number.", integer()),
        "Mesh-Leader": header("The leader's API endpoint, as the node knows it.", json!({ "type": "string" })),
        "Mesh-Request-Id": header("As in logs and the audit trail.", json!({ "type": "string" })),
        "Mesh-Dry-Run": header("`true` where nothing was changed.", json!({ "type": "boolean" })),
        "Mesh-Approval-Needed": header("With a dry run: who would have to agree before it takes effect.", json!({
            "type": "string", "enum": ["operator", "admin", "two_admins"],
        })),
        "Mesh-Replayed": header("`true` where an earlier answer is repeated.", json!({ "type": "boolean" })),
    })
}

/// The problem document (RFC 9457).
fn problem() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let integer = |description: &str| json!({ "type": "integer", "description": description });
    json!({
        "type": "object",
        "required": ["type", "title", "status", "code", "detail", "retryable"],
        "properties": {
            "type": text("`urn:meshkit:error:<code>`"),
            "title": text("The code in words."),
            "status": integer("The HTTP status."),
            "code": text("Stable and documented."),
            "detail": text("What happened, with names and values."),
            "hint": text("What to do next."),
            "retryable": { "type": "boolean", "description": "True where the same request may succeed later." },
            "requestId": text("As in logs and the audit trail."),
            "currentEtag": text("With `etag_mismatch`: the record's ETag now."),
            "leader": {
                "type": "object",
                "description": "With `not_leader`: who leads.",
                "properties": { "id": integer("The node."), "api": text("`https://host:port`") },
            },
            "missingScope": text("With `scope_missing`: the scope that the call needs."),
            "measured": text("With a refused precondition: what was measured."),
            "limit": text("With a refused precondition: the limit."),
            "field": text("With `invalid_argument`: the field."),
            "revision": integer("With `compacted`: the oldest revision that can be had; with `diverged`: where the timeline was cut."),
            "retryAfterMs": integer("When to try again."),
            "token": text("With a watch that was ended: where to go on."),
            "preview": { "$ref": "#/components/schemas/Preview", "description": "With a dry run that was refused: the checks." },
        },
    })
}

/// Schemas of messages, made as they are referred to.
#[derive(Default)]
struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// A reference to a message's schema.
    fn reference(&mut self, message: &MessageDescriptor) -> Value {
        let name = name_of(message.full_name());
        if !self.0.contains_key(&name) {
            // Held while its own fields are looked at: messages may refer to one another.
            self.0.insert(name.clone(), Value::Null);
            let fields: Vec<_> = message.fields().collect();
            let mut schema = self.object(&fields, false);
            let doc = comment(&message.parent_file(), message.path());
            if !doc.is_empty() {
                schema["description"] = doc.into();
            }
            self.0.insert(name.clone(), schema);
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    /// An object with these fields. What is sent must hold no others; what is answered may hold more some day.
    fn object(&mut self, fields: &[FieldDescriptor], closed: bool) -> Value {
        let mut properties = Map::new();
        for field in fields {
            let mut schema = self.of(field);
            let doc = doc_of(field);
            if !doc.is_empty() {
                schema["description"] = doc.into();
            }
            properties.insert(field.json_name().to_owned(), schema);
        }
        let mut object = json!({ "type": "object", "properties": properties });
        if closed {
            object["additionalProperties"] = false.into();
        }
        object
    }

    fn of(&mut self, field: &FieldDescriptor) -> Value {
        let kind = field.kind();
        if let Kind::Message(entry) = &kind
            && entry.is_map_entry()
        {
            return json!({ "type": "object", "additionalProperties": self.kind(&entry.map_entry_value_field().kind()) });
        }
        let schema = self.kind(&kind);
        if field.is_list() {
            json!({ "type": "array", "items": schema })
        } else {
            schema
        }
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Float | Kind::Double => json!({ "type": "number" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({ "type": "integer", "format": "int32" }),
            Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({ "type": "integer", "format": "int64" }),
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "integer", "minimum": 0, "maximum": INTEGER_MAX }),
            Kind::Enum(words) => words_of(words),
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => json!({ "type": "string", "format": "date-time" }),
                "google.protobuf.Duration" => json!({ "type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,9})?s$" }),
                _ => self.reference(message),
            },
        }
    }

    fn into_map(self) -> Map<String, Value> {
        self.0.into_iter().collect()
    }
}

fn words_of(words: &EnumDescriptor) -> Value {
    let words: Vec<_> = words
        .values()
        .filter(|value| value.number() != 0)
        .map(|value| value.name().to_owned())
        .collect();
    json!({ "type": "string", "enum": words })
}

/// `AuditRecord.Change` of `meshkit.v1.AuditRecord.Change`.
fn name_of(full_name: &str) -> String {
    full_name.strip_prefix("meshkit.v1.").unwrap_or(full_name).to_owned()
}

fn doc_of(field: &FieldDescriptor) -> String {
    comment(&field.parent_message().parent_file(), field.path())
}
