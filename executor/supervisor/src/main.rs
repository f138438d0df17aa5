//! The supervisor's program (under construction beside its library half).
fn main() {}
