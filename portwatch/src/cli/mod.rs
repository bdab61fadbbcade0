//! The command line: one file per command, one per output format.

pub mod args;
pub mod completions;
pub mod exit;
pub mod human;
pub mod man;
pub mod output;
pub mod schema;
pub mod style;
pub mod table;
