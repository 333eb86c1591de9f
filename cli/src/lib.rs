//! mesh: the operator's command line.
