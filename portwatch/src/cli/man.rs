//! `portwatch man`: manual pages, from the definition of the command line.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use super::args::Args;

/// A manual page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The command it describes: empty for portwatch itself, or `tail` and so on.
    pub subcommand: String,
    /// Name of its file, for example `portwatch-tail.1`.
    pub file: String,
    /// The page in roff.
    pub roff: Vec<u8>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ManError {
    /// No such command.
    #[error("there is no command `{name}` to have a manual page; there are {known}")]
    Unknown {
        /// What was asked for, escaped.
        name: String,
        /// The commands.
        known: String,
    },
    /// Writing failed.
    #[error("cannot write manual pages to {place}: {source}")]
    Io {
        /// Where.
        place: String,
        /// Why.
        source: io::Error,
    },
}

/// Every page, portwatch(1) first.
///
/// # Errors
/// Never in practice: the pages are made in memory.
pub fn pages() -> io::Result<Vec<Page>> {
    // A manual page is the long help: what `-h` leaves out belongs in it.
    let show = |arg: clap::Arg| arg.hide_short_help(false);
    let mut root = Args::command()
        .mut_args(show)
        .mut_subcommands(|sub| sub.mut_args(show));
    root = root.disable_help_subcommand(true);
    root.build();
    let mut pages = vec![page(&root, "")?];
    for command in root
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
    {
        pages.push(page(command, command.get_name())?);
        for nested in command
            .get_subcommands()
            .filter(|one| one.get_name() != "help")
        {
            let name = format!("{}-{}", command.get_name(), nested.get_name());
            pages.push(page(nested, &name)?);
        }
    }
    Ok(pages)
}

/// Prints one page: that of a command, or of portwatch itself.
///
/// # Errors
/// When there is no such command, or the output cannot be written.
pub fn print(subcommand: Option<&str>, out: &mut dyn Write) -> Result<(), ManError> {
    let failed = |source| ManError::Io {
        place: "the output".to_owned(),
        source,
    };
    let wanted = subcommand.unwrap_or_default();
    let pages = pages().map_err(failed)?;
    match pages.iter().find(|page| page.subcommand == wanted) {
        Some(page) => out.write_all(&page.roff).map_err(failed),
        None => {
            let known = pages.iter().skip(1).map(|page| page.subcommand.as_str());
            Err(ManError::Unknown {
                name: wanted.escape_debug().to_string(),
                known: known.collect::<Vec<_>>().join(", "),
            })
        }
    }
}

/// Writes every page into a directory, and says which files these are.
///
/// # Errors
/// When a file cannot be written.
pub fn write_all(dir: &Path) -> Result<Vec<PathBuf>, ManError> {
    let failed = |path: &Path| {
        let place = path.display().to_string();
        move |source| ManError::Io { place, source }
    };
    std::fs::create_dir_all(dir).map_err(failed(dir))?;
    let mut written = Vec::new();
    for page in pages().map_err(failed(dir))? {
        let path = dir.join(&page.file);
        std::fs::write(&path, &page.roff).map_err(failed(&path))?;
        written.push(path);
    }
    Ok(written)
}

fn page(command: &clap::Command, subcommand: &str) -> io::Result<Page> {
    let man = clap_mangen::Man::new(command.clone())
        .manual("portwatch")
        .date("");
    let mut roff = Vec::new();
    man.render_title(&mut roff)?;
    man.render_name_section(&mut roff)?;
    man.render_synopsis_section(&mut roff)?;
    man.render_description_section(&mut roff)?;
    man.render_options_section(&mut roff)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut roff)?;
    }
    let extra = command
        .get_after_long_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    extra
        .split("\n\n")
        .try_for_each(|paragraph| section(paragraph, &mut roff))?;
    Ok(Page {
        subcommand: subcommand.to_owned(),
        file: man.get_filename(),
        roff,
    })
}

/// A paragraph under a heading line becomes a section, its lines kept as they are (man(7)).
fn section(paragraph: &str, roff: &mut Vec<u8>) -> io::Result<()> {
    let (heading, body) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
    let heading = heading.trim_end_matches(':').to_uppercase();
    writeln!(roff, ".SH \"{heading}\"\n.nf")?;
    for line in body.lines() {
        let line = line
            .replace('\\', "\\e")
            .replace('-', "\\-")
            .replace('\'', "\\(aq");
        // The zero-width character keeps a leading full stop from being a request.
        writeln!(roff, "\\&{}", line.trim_start())?;
    }
    writeln!(roff, ".fi")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_each_command() {
        let dir = tempfile::tempdir().expect("a directory");
        let written = write_all(dir.path()).expect("pages");
        let names: Vec<_> = written
            .iter()
            .map(|path| {
                path.file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        assert!(names.starts_with(&["portwatch.1".to_owned(), "portwatch-run.1".to_owned()]));
        assert_eq!(names.len(), 27, "{names:?}");
        let tail = std::fs::read_to_string(dir.path().join("portwatch-tail.1")).expect("a page");
        for part in [
            "portwatch\\-tail",
            ".SH \"EXAMPLES\"",
            "How much the probes say",
            "\\&portwatch tail \\-\\-count 1 \\(aqport == 8080\\(aq",
        ] {
            assert!(tail.contains(part), "{part} is not in {tail}");
        }
    }

    #[test]
    fn one_page_is_printed_or_the_known_ones_are_named() {
        let mut out = Vec::new();
        print(Some("tail"), &mut out).expect("a page");
        assert!(String::from_utf8(out).expect("roff").starts_with(".ie"));
        let error = print(Some("tial"), &mut io::sink()).expect_err("no such command");
        assert!(
            error.to_string().contains("`tial`")
                && error.to_string().contains("run, tail, history, ls")
        );
    }
}
