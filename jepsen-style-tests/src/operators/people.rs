//! Who works on the mesh: each with a token and a client of their own.

use std::{path::PathBuf, sync::Arc, time::Duration};

use api_client::{
    Client, Context,
    context::{Environment, Flags},
};
use node_harness::Mesh;

use crate::{Result, error::Doing as _};

/// How long one call may take: longer than an election does on a busy machine.
const CALL_WITHIN: Duration = Duration::from_secs(30);

/// Each one of so many may do what admins do; the others what operators do.
const ADMIN_EVERY: usize = 5;

/// Somebody with a token of their own.
#[derive(Clone)]
pub struct Person {
    /// The subject.
    pub name: Arc<str>,
    /// Whether they are an admin.
    pub admin: bool,
    /// Their client.
    pub client: Client,
}

/// Everybody who is needed.
pub struct People {
    /// Those who change things.
    pub operators: Vec<Person>,
    /// Who sets the mesh up, and reads what came of it.
    pub root: Person,
    /// Who may only read, and tries more.
    pub reader: Person,
}

impl People {
    /// Gives `operators` people and the two others their tokens. Every second one speaks HTTP/2, the others what comes first.
    ///
    /// # Errors
    /// Where a token cannot be signed, or no client made.
    pub fn invite(mesh: &Mesh, operators: usize) -> Result<Self> {
        let nodes = mesh.ids().len().max(1);
        let operators = (0..operators).map(|index| {
            let scope = match index % ADMIN_EVERY {
                0 => "mesh.admin",
                _ => "mesh.operate",
            };
            let transport = if index % 2 == 0 { "auto" } else { "h2" };
            person(mesh, &format!("operator-{index}"), scope, transport, index % nodes)
        });
        Ok(Self {
            operators: operators.collect::<Result<_>>()?,
            root: person(mesh, "root", "mesh.admin", "h2", 0)?,
            reader: person(mesh, "reader", "mesh.read", "h2", 0)?,
        })
    }
}

/// A client of `who` that begins with the node at `first`.
pub fn person(mesh: &Mesh, who: &str, scope: &str, transport: &str, first: usize) -> Result<Person> {
    let token = token(mesh, who, scope)?;
    let mut endpoints = mesh.endpoints();
    endpoints.rotate_left(first);
    let flags = Flags {
        context: Some(mesh.context("read")),
        endpoints: Some(endpoints.join(",")),
        token_file: Some(token),
        timeout: Some(CALL_WITHIN),
        transport: Some(transport.to_owned()),
        ..Flags::default()
    };
    let context = Context::load(&flags, &Environment::default()).doing("reading the context")?;
    Ok(Person {
        name: who.into(),
        admin: scope == "mesh.admin",
        client: Client::new(&context).doing("making a client")?,
    })
}

/// The file with the token of `who`, signed with the key that the mesh trusts.
pub fn token(mesh: &Mesh, who: &str, scope: &str) -> Result<PathBuf> {
    let key = mesh.info().ca.with_file_name("jwt.key");
    let file = mesh.scratch().join(format!("{who}.jwt"));
    if !file.exists() {
        let (key, out) = (key.display().to_string(), file.display().to_string());
        let signed = mesh.programs().node([
            "certs",
            "token",
            "--key",
            &key,
            "--mesh",
            &mesh.info().mesh,
            "--subject",
            who,
            "--scope",
            scope,
            "--out",
            &out,
        ]);
        signed.ok()?;
    }
    Ok(file)
}
