//! Which mechanism each signal gets (plan), and making it so (load, report).

pub mod plan;
pub mod report;
