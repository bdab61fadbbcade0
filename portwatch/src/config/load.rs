//! Configuration files: which are read, in which order, and which are refused.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::diagnostic::{ConfigError, Diagnostic};
use super::{Config, Paths, parse};

/// Longest file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Most files in `conf.d`.
const MAX_FILES: usize = 256;

/// A configuration and where it comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The result.
    pub config: Config,
    /// The files that were read, in order; empty when only defaults apply.
    pub files: Vec<PathBuf>,
}

/// Reads the configuration file, then `conf.d/*.toml` beside it in sorted order; a later file wins key by
/// key. No file is no mistake, unless it was named.
///
/// # Errors
/// Every mistake in every file at once.
pub fn load(paths: &Paths) -> Result<Loaded, ConfigError> {
    let mut loaded = Loaded::default();
    let mut mistakes = Vec::new();
    let main = (paths.config.clone(), paths.is_config_explicit);
    let more = match list(&paths.config_dir()) {
        Ok(more) => more,
        Err(mistake) => {
            mistakes.push(mistake);
            Vec::new()
        }
    };
    let all = std::iter::once(main).chain(more.into_iter().map(|file| (file, true)));
    for (file, must_exist) in all {
        match read(&file) {
            Ok(text) => {
                mistakes.extend(parse::apply(&mut loaded.config, &file, &text));
                loaded.files.push(file);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {}
            Err(error) => mistakes.push(Diagnostic::unread(&file, &error)),
        }
    }
    if mistakes.is_empty() {
        Ok(loaded)
    } else {
        Err(ConfigError {
            diagnostics: mistakes,
        })
    }
}

/// The files of `conf.d`, sorted by name. Hidden files and other endings are not configuration.
fn list(dir: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let mistake = |error: io::Error| Diagnostic::unread(dir, &error);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(mistake(error)),
    };
    refuse_world_writable(&fs::metadata(dir).map_err(mistake)?).map_err(mistake)?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(mistake)?.path();
        let is_hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|ending| ending == "toml") {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(Diagnostic::whole(
                dir,
                format!("more than {MAX_FILES} files"),
            ));
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> io::Result<String> {
    // A FIFO must not make it wait.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    refuse_world_writable(&metadata)?;
    read_text(file)
}

fn read_text(file: File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!(
            "it has more than {MAX_FILE} bytes"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        io::Error::other(format!("it is not UTF-8 at byte {}", valid + 1))
    })
}

/// Whoever can write the configuration of a root daemon is root.
fn refuse_world_writable(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.mode() & 0o002 != 0 {
        return Err(io::Error::other(
            "everyone can write to it: run chmod o-w on it, then look at what it says",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::paths::Given;

    /// A directory with a main file (if any) and files in `conf.d`.
    fn tree(main: Option<&str>, more: &[(&str, &str)]) -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().expect("dir");
        let config = dir.path().join("portwatch.toml");
        if let Some(text) = main {
            fs::write(&config, text).expect("written");
        }
        if !more.is_empty() {
            fs::create_dir(dir.path().join("conf.d")).expect("made");
        }
        for (name, text) in more {
            fs::write(dir.path().join("conf.d").join(name), text).expect("written");
        }
        let given = Given {
            config: Some(config),
            ..Given::default()
        };
        let mut paths = Paths::resolve(given, |_| None);
        paths.is_config_explicit = false;
        (dir, paths)
    }

    fn mistakes(paths: &Paths) -> Vec<String> {
        let error = load(paths).expect_err("wrong");
        assert_eq!(error.exit_code(), 78);
        error.diagnostics.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn no_file_is_fine_unless_it_was_named() {
        let (_dir, mut paths) = tree(None, &[]);
        assert_eq!(load(&paths), Ok(Loaded::default()));
        paths.is_config_explicit = true;
        assert!(mistakes(&paths)[0].contains("portwatch.toml: not read: No such file"));
    }

    #[test]
    fn later_files_win_key_by_key() {
        let (_dir, paths) = tree(
            Some("[ring]\nbulk_kib = 64\ncritical_kib = 64\n"),
            &[
                ("20.toml", "[ring]\nbulk_kib = 256\n"),
                ("10.toml", "[ring]\nbulk_kib = 128\n"),
                ("99.toml.bak", "broken"),
                (".hidden.toml", "broken"),
            ],
        );
        let loaded = load(&paths).expect("right");
        assert_eq!(loaded.config.ring.bulk_kib, 256);
        assert_eq!(loaded.config.ring.critical_kib, 64);
        assert_eq!(loaded.files.len(), 3);
        assert!(loaded.files[1].ends_with("conf.d/10.toml"));
    }

    #[test]
    fn mistakes_of_all_files_come_together() {
        let (_dir, paths) = tree(Some("x = 1\n"), &[("a.toml", "y = 1\n"), ("b.toml", "\n")]);
        let mistakes = mistakes(&paths);
        assert_eq!(mistakes.len(), 2);
        assert!(mistakes[0].contains("portwatch.toml:1:1: "));
        assert!(mistakes[1].contains("conf.d/a.toml:1:1: "));
    }

    #[test]
    fn what_everyone_can_write_is_refused() {
        let (dir, paths) = tree(Some(""), &[("a.toml", "")]);
        fs::set_permissions(&paths.config, Permissions::from_mode(0o666)).expect("mode");
        assert!(mistakes(&paths)[0].contains("everyone can write to it"));
        fs::set_permissions(&paths.config, Permissions::from_mode(0o664)).expect("mode");
        load(&paths).expect("group-writable is the administrator's choice");
        let conf_d = dir.path().join("conf.d");
        fs::set_permissions(&conf_d, Permissions::from_mode(0o777)).expect("mode");
        assert!(mistakes(&paths)[0].contains("conf.d: not read: everyone can write to it"));
    }

    #[test]
    fn only_bounded_text_files_are_read() {
        let (_dir, paths) = tree(None, &[]);
        fs::write(&paths.config, b"a = \xff").expect("written");
        assert!(mistakes(&paths)[0].contains("not UTF-8 at byte 5"));
        fs::write(&paths.config, vec![b'#'; (1 << 20) + 1]).expect("written");
        assert!(mistakes(&paths)[0].contains("more than 1048576 bytes"));
        fs::remove_file(&paths.config).expect("removed");
        fs::create_dir(&paths.config).expect("made");
        assert!(mistakes(&paths)[0].contains("not a regular file"));
    }
}
