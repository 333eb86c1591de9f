//! Small runs over the built programs; the long ones are commands of `meshkit-jepsen-style-tests`.

mod failover;
mod operators;
mod registers;
