//! Which mechanism each signal gets (plan), and making it so (load, sensors, report).

mod batch;
pub mod load;
pub mod object;
pub mod plan;
pub mod prober;
pub mod report;
pub mod sensors;
mod spare;
pub mod storms;
mod tracefs_view;
