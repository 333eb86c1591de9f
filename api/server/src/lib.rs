//! Listeners, authentication, gRPC services and the REST derived from the contract.
