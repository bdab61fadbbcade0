//! Where the published definitions of ECS and OCSF are: `PORTWATCH_SCHEMAS`, or `shared/schemas` beside the project.

use std::path::{Path, PathBuf};

/// The text of a definition. `None`, and a word about it, where it is not at hand.
pub(crate) fn read(name: &str) -> Option<String> {
    let path = folder().join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            // A folder that was named is meant to be there.
            assert!(
                std::env::var_os("PORTWATCH_SCHEMAS").is_none(),
                "{}: {error}",
                path.display()
            );
            eprintln!(
                "skipped: {} is not there; PORTWATCH_SCHEMAS names the folder that has it",
                path.display()
            );
            None
        }
    }
}

fn folder() -> PathBuf {
    if let Some(named) = std::env::var_os("PORTWATCH_SCHEMAS") {
        return named.into();
    }
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/schemas")
}
