//! Starts built binaries for tests.
