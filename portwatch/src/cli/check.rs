//! `portwatch check`: is the configuration right, and is what it names there? Reads files, and asks nobody.

use super::args;
use super::exit::Exit;
use super::failure::{Failure, note};
use super::print;
use crate::config::{self, Paths};
use crate::daemon;

/// Says that all is well, or every mistake. What is missing on this host is no mistake of the configuration, which may be meant for
/// another; it is told, as far as the caller can know.
pub(super) fn run(check: &args::Check, paths: &Paths) -> Result<Exit, Failure> {
    let mut paths = paths.clone();
    if let Some(file) = &check.file {
        paths.config.clone_from(file);
        paths.is_config_explicit = true;
    }
    let loaded = config::load(&paths)?;
    if rustix::process::geteuid().is_root() {
        for stumble in daemon::stumbles(&loaded.config) {
            note(format!("on this host, {stumble}"));
        }
    }
    print(b"configuration OK\n")
}
