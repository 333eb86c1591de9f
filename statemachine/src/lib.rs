//! The pure replicated state machine of a mesh.
