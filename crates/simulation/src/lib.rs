//! Runs the client against a model of its service, in one thread of virtual time, from one seed.
//!
//! A `schedule` is drawn from a seed: the events of the account, the faults and their times, and the service's behavior
//! where its documentation leaves it open. A run of it is the whole client, over hyper's own connections on simulated
//! bytes (`net`), against a `service` that is written from the references alone. The `oracle` knows the events and the
//! deliveries, and says which promise was broken. The same seed is the same run, byte for byte.
//!
//! `service` and `oracle` use nothing of the client or of the sandbox; a test reads their files.

mod client;
mod core;
mod disk;
mod net;
mod oracle;
mod rng;
pub mod runner;
mod sched;
mod schedule;
mod service;
mod shrink;
mod time;
mod trace;
mod world;

#[cfg(test)]
mod tests;
