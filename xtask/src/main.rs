//! Chores and checks of the repository: `cargo xtask CHORE`.
fn main() {}
