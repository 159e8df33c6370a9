//! The subscription: its lifecycle and its stream.
mod machine;
