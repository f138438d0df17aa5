//! The runs of this node: what each may do next (`lifecycle`, pure) and all of them together (`table`).

pub mod lifecycle;
pub mod table;
