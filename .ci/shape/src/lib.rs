//! Measures the structure of the code, and checks that its layers point one way.

pub mod circles;
pub mod count;
pub mod graph;
pub mod layers;
#[cfg(test)]
mod layers_tests;
pub mod picture;
