//! meshkit-node: one process of a cluster.
