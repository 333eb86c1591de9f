//! How fresh a read must be.

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// As the server decides: linearizable.
    #[default]
    Default,
    /// Everything that was acknowledged before the read began is in the answer. Needs a quorum.
    Linearizable,
    /// What the answering node has applied. Needs no quorum, may be old.
    Local,
}

impl Consistency {
    /// The word in the `mesh-consistency` header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default | Self::Linearizable => "linearizable",
            Self::Local => "local",
        }
    }
}
