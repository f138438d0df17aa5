//! Recorded workloads through the production scheduler, in virtual time.
//!
//! [`swf`] reads a trace, [`replay`] runs it through the machine and the planner, [`figures`] says what
//! came of it. Semantics: whole seconds; at each instant ends, then submissions, then deadlines, then a
//! pass; equal keys in order of submission.

pub mod figures;
pub mod replay;
pub mod swf;

/// Which run time the scheduler believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimates {
    /// What the user asked for.
    User,
    /// The run time itself.
    Perfect,
}

/// How the processors of a trace become nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// One node with all of them.
    #[default]
    OneNode,
    /// A node for each.
    Nodes,
}
