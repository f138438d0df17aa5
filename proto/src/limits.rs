//! How large messages may be: stated once, kept by both sides.

/// Largest script, bytes: Slurm's default of MaxScriptSize.
pub const SCRIPT_MAX: usize = 4 << 20;
/// Largest environment, bytes.
pub const ENVIRONMENT_MAX: usize = 8 << 20;
/// Largest message that is taken: a script, an environment and a request.
pub const MESSAGE_MAX: usize = SCRIPT_MAX + ENVIRONMENT_MAX + (4 << 20);
