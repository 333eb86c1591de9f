//! `[auth]`: whose tokens and certificates count, and for what.

use std::path::PathBuf;

use crate::config::settings::{required, section, within};
use crate::config::value::{Paths, Tables, Texts};

section! {
    /// Who may do what. Read again on SIGHUP; the files named here also when they change.
    pub struct Auth {
        /// The issuer (`iss`) that tokens have to name. Their audience (`aud`) is the mesh's id.
        issuer: String = "meshkit" => within(1, 256);
        /// Difference between the clocks of issuer and node that is forgiven.
        clock_skew_s: u64 = 30_u64 => within(0, 600);
        /// A JWKS file with further keys, if any.
        jwks_file: Option<PathBuf> = None;
        /// Files with public keys that tokens may be signed with, PEM, one or more in each. The kind
        /// of key decides the algorithm: P-256 is ES256, Ed25519 EdDSA, RSA RS256.
        key_files: Paths = Paths::default() => within(0, 64);
        /// The longest that a browser's session lasts. It ends with the token that it was traded for at the latest.
        session_max_s: u64 = 3_600_u64 => within(10, 86_400);
        /// Client certificates that may act without a token, and as whom.
        binding: Tables<AuthBinding> = Tables::default() => within(0, 1_024);
    }
}

section! {
    /// What the owner of a client certificate may do.
    pub struct AuthBinding {
        /// The SPIFFE id in the certificate: `spiffe://`, this mesh, a path. A segment of the path
        /// that is `*` stands for any one segment.
        spiffe: String = "spiffe://mesh-1/client/ops" => required().within(10, 512);
        /// The name under which it acts, is audited and approves. Empty: the SPIFFE id.
        subject: String = "" => within(0, 256);
        /// Scopes: `mesh.read`, `mesh.observe`, `mesh.operate`, `mesh.admin`; for peers, bound as
        /// `spiffe://<mesh>/peer/*`, also `mesh.peer`.
        scopes: Texts = Texts::from(&["mesh.read"][..]) => required().within(1, 5);
    }
}
