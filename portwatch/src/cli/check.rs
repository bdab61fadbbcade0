//! `portwatch check`: is the configuration right? Reads files, and asks nobody.

use super::args;
use super::exit::Exit;
use super::failure::Failure;
use super::print;
use crate::config::{self, Paths};

/// Says that all is well, or every mistake.
pub(super) fn run(check: &args::Check, paths: &Paths) -> Result<Exit, Failure> {
    let mut paths = paths.clone();
    if let Some(file) = &check.file {
        paths.config.clone_from(file);
        paths.is_config_explicit = true;
    }
    config::load(&paths)?;
    print(b"configuration OK\n")
}
