//! `portwatch reload`: the daemon reads its configuration anew.

use super::exit::Exit;
use super::failure::Failure;
use super::print;
use crate::config::Paths;
use crate::interface::client::Client;

pub(super) fn run(paths: &Paths) -> Result<Exit, Failure> {
    let reloaded = Client::connect(&paths.runtime_dir)?.reload()?;
    print(format!("{reloaded}\n").as_bytes())
}
