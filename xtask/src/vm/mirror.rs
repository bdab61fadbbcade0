//! Where this machine gets Debian packages, and the keys that vouch for them: read, never assumed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

const KEYRINGS: &str = "/usr/share/keyrings";

/// The archive that this machine's apt configuration names.
pub(crate) fn debian() -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        let found = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => one_line(&text),
            Some("sources") => deb822(&text),
            _ => None,
        };
        if let Some(uri) = found {
            return Ok(uri);
        }
    }
    bail!("/etc/apt names no Debian archive to fetch kernels from; give --kernel PATH")
}

/// Debian's archive keys on this machine, as apt's `signed-by` takes them.
pub(crate) fn keyrings() -> Result<String> {
    let entries = fs::read_dir(KEYRINGS).into_iter().flatten().flatten();
    let mut files: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            let gpg = Path::new(name)
                .extension()
                .is_some_and(|extension| extension == "gpg");
            gpg && name.starts_with("debian-archive-") && !name.contains("removed")
        })
        .map(|name| format!("{KEYRINGS}/{name}"))
        .collect();
    files.sort();
    if files.is_empty() {
        bail!(
            "no Debian archive keys in {KEYRINGS}; install debian-archive-keyring, or give --kernel PATH"
        );
    }
    Ok(files.join(","))
}

/// `deb [options] URI SUITE COMPONENT…`
fn one_line(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line
            .split('#')
            .next()?
            .trim()
            .strip_prefix("deb ")?
            .trim_start();
        let line = match line.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => line,
        };
        let mut words = line.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        (words.any(|component| component == "main") && is_debian(uri, suite)).then(|| tidy(uri))
    })
}

/// Paragraphs of `Key: value`.
fn deb822(text: &str) -> Option<String> {
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| [line, "\n"])
        .collect();
    text.split("\n\n").find_map(|paragraph| {
        let field = |key: &str| {
            paragraph.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.trim().eq_ignore_ascii_case(key).then(|| value.trim())
            })
        };
        if field("Enabled") == Some("no") {
            return None;
        }
        let uri = field("URIs")?.split_whitespace().next()?;
        let suite = field("Suites")?.split_whitespace().next()?;
        let main = field("Components")?
            .split_whitespace()
            .any(|component| component == "main");
        (main && field("Types")?.contains("deb") && is_debian(uri, suite)).then(|| tidy(uri))
    })
}

/// Main archives end in `/debian` wherever they are mirrored; the security archive has other suites.
fn is_debian(uri: &str, suite: &str) -> bool {
    tidy(uri).ends_with("/debian") && !suite.contains("security")
}

fn tidy(uri: &str) -> String {
    uri.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_found_in_either_format() {
        let list = "# deb http://old.example/debian sid main\n\
             deb http://mirror.example/debian-security bookworm-security main\n\
             deb [arch=amd64 signed-by=/k] http://mirror.example/debian/ bookworm main contrib\n";
        assert_eq!(
            one_line(list).as_deref(),
            Some("http://mirror.example/debian")
        );
        let sources = "Types: deb\nURIs: https://packages.example/node\nSuites: nodistro\nComponents: main\n\n\
             Types: deb deb-src\n# a comment: not a field\nURIs: http://mirror.example/debian\n\
             Suites: bookworm bookworm-updates\nComponents: main\n";
        assert_eq!(
            deb822(sources).as_deref(),
            Some("http://mirror.example/debian")
        );
    }

    #[test]
    fn other_archives_are_not_taken_for_debian() {
        assert_eq!(
            one_line("deb http://archive.example/ubuntu noble main\n"),
            None
        );
        assert_eq!(
            deb822(
                "Types: deb\nURIs: http://m.example/debian\nSuites: sid\nComponents: main\nEnabled: no\n"
            ),
            None
        );
    }
}
