//! Leader-only loops: checkpoints, drains.
