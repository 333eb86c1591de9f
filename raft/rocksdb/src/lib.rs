//! The RocksDB adapter behind raft's Engine trait.
