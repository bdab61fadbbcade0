//! Where configuration, state and runtime files are: options, environment, defaults, in this order. Pure.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The three places that the program uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Configuration file; `conf.d` is looked for beside it.
    pub config: PathBuf,
    /// Somebody named the file, so that it has to exist.
    pub is_config_explicit: bool,
    /// What outlives the daemon.
    pub state_dir: PathBuf,
    /// Control socket and lock.
    pub runtime_dir: PathBuf,
}

/// What the command line says; an absent option leaves it to the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--runtime-dir`.
    pub runtime_dir: Option<PathBuf>,
}

impl Paths {
    /// Resolves each place; `env` looks an environment variable up. An empty variable counts as unset.
    pub fn resolve(given: Given, env: impl Fn(&str) -> Option<OsString>) -> Self {
        let choose = |option: Option<PathBuf>, name: &str| {
            option.or_else(|| {
                env(name)
                    .filter(|value| !value.is_empty())
                    .map(PathBuf::from)
            })
        };
        let config = choose(given.config, "PORTWATCH_CONFIG");
        Self {
            is_config_explicit: config.is_some(),
            config: config.unwrap_or_else(|| "/etc/portwatch/portwatch.toml".into()),
            state_dir: choose(given.state_dir, "PORTWATCH_STATE_DIR")
                .unwrap_or_else(|| "/var/lib/portwatch".into()),
            runtime_dir: choose(given.runtime_dir, "PORTWATCH_RUNTIME_DIR")
                .unwrap_or_else(|| "/run/portwatch".into()),
        }
    }

    /// The directory of additional files.
    #[must_use]
    pub fn config_dir(&self) -> PathBuf {
        self.config
            .parent()
            .unwrap_or_else(|| Path::new(""))
            .join("conf.d")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_beats_environment_beats_default() {
        let env = |name: &str| match name {
            "PORTWATCH_STATE_DIR" | "PORTWATCH_RUNTIME_DIR" => Some(OsString::from("/env")),
            "PORTWATCH_CONFIG" => Some(OsString::new()),
            _ => None,
        };
        let given = Given {
            runtime_dir: Some("/option".into()),
            ..Given::default()
        };
        let paths = Paths::resolve(given, env);
        assert_eq!(paths.config, Path::new("/etc/portwatch/portwatch.toml"));
        assert!(!paths.is_config_explicit, "an empty variable names nothing");
        assert_eq!(paths.config_dir(), Path::new("/etc/portwatch/conf.d"));
        assert_eq!(paths.state_dir, Path::new("/env"));
        assert_eq!(paths.runtime_dir, Path::new("/option"));
    }

    #[test]
    fn a_bare_file_name_has_its_conf_d_here() {
        let given = Given {
            config: Some("my.toml".into()),
            ..Given::default()
        };
        let paths = Paths::resolve(given, |_| None);
        assert!(paths.is_config_explicit);
        assert_eq!(paths.config_dir(), Path::new("conf.d"));
    }
}
