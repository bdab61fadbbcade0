//! Writes the documents that follow from code: the events' reference, their JSON Schema, and pinned events.

mod events;
mod golden;
mod notes;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use portwatch::cli::schema;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail when a file is not what would be written
    #[arg(long)]
    check: bool,
}

/// Writes or checks every generated document.
pub(crate) fn run(args: &Args) -> Result<()> {
    let documents = documents()?;
    if args.check {
        return check(&documents);
    }
    for Document { path, text } in documents {
        let full = root().join(&path);
        if let Some(dir) = full.parent() {
            std::fs::create_dir_all(dir)
                .with_context(|| format!("cannot make {}", dir.display()))?;
        }
        std::fs::write(&full, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// A generated file.
struct Document {
    /// Relative to the repository.
    path: PathBuf,
    text: String,
}

fn documents() -> Result<Vec<Document>> {
    let schema = schema::event_schema();
    let document = |path: &str, text| Document {
        path: path.into(),
        text,
    };
    let mut documents = vec![
        document(
            "docs/schema/portwatch.event-1.json",
            schema::event_schema_text(),
        ),
        document("docs/events.md", events::reference(&schema)?),
    ];
    documents.extend(golden::files().map(|(path, text)| document(path, text)));
    Ok(documents)
}

fn check(documents: &[Document]) -> Result<()> {
    let is_stale = |document: &&Document| {
        let found = std::fs::read_to_string(root().join(&document.path));
        found.map_or(true, |found| found != document.text)
    };
    let stale: Vec<_> = documents
        .iter()
        .filter(is_stale)
        .map(|document| document.path.display().to_string())
        .collect();
    if !stale.is_empty() {
        bail!(
            "out of date: {}; run `cargo xtask gen` and commit",
            stale.join(", ")
        );
    }
    Ok(())
}

/// The repository: the parent of this crate.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_documents_are_fresh() {
        check(&documents().expect("documents")).expect("fresh");
    }

    #[test]
    fn a_stale_document_is_named() {
        let stale = Document {
            path: "docs/events.md".into(),
            text: "old".to_owned(),
        };
        let error = check(&[stale]).expect_err("stale").to_string();
        assert!(
            error.contains("docs/events.md") && error.contains("cargo xtask gen"),
            "{error}"
        );
    }
}
