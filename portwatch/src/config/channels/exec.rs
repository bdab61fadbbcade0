//! `[exec]`: which program to run, and as whom. Pure.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::{Apply, span};
use crate::config::values::{set, string};

/// Most words of a command, and most bytes of one.
const WORDS: usize = 64;
const LENGTH: usize = 4096;

/// `[exec]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The program by its absolute path, and its arguments.
    pub command: Vec<String>,
    /// As whom it runs; without, as the daemon.
    pub user: Option<String>,
    /// How long it may take.
    pub timeout: Duration,
}

impl Default for Exec {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            user: None,
            timeout: Duration::from_secs(30),
        }
    }
}

impl Exec {
    /// The program, and its arguments.
    #[must_use]
    pub fn parts(&self) -> (PathBuf, Vec<String>) {
        let mut words = self.command.iter();
        let program = words.next().map(PathBuf::from).unwrap_or_default();
        (program, words.cloned().collect())
    }
}

pub(super) const KEYS: &[(&str, Apply<Exec>)] = &[
    ("command", |exec, value| {
        set(&mut exec.command, command(value))
    }),
    ("user", |exec, value| {
        set(&mut exec.user, user(value).map(Some))
    }),
    ("timeout", |exec, value| {
        set(&mut exec.timeout, span(value, 1, 600))
    }),
];

/// What no single key can tell.
pub(super) fn check(exec: &Exec, wrong: &mut dyn FnMut(&str)) {
    if exec.command.is_empty() {
        wrong("a program is needed: `command = [\"/usr/local/bin/notify\"]`");
    }
}

fn command(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let expected = || {
        "expected a list: the absolute path of a program, and its arguments as they stand; no \
         shell reads them"
            .to_owned()
    };
    let DeValue::Array(values) = value else {
        return Err(expected());
    };
    let words = values.iter().map(|word| word.get_ref().as_str());
    let words: Option<Vec<String>> = words.map(|word| word.map(str::to_owned)).collect();
    let words = words.ok_or_else(expected)?;
    if !words
        .first()
        .is_some_and(|program| program.starts_with('/'))
    {
        return Err(expected());
    }
    let is_long = words.len() > WORDS || words.iter().any(|word| word.len() > LENGTH);
    if is_long || words.iter().any(|word| word.contains('\0')) {
        return Err(format!(
            "expected at most {WORDS} words of at most {LENGTH} bytes, without NUL"
        ));
    }
    Ok(words)
}

fn user(value: &DeValue<'_>) -> Result<String, String> {
    let name = string(value)?;
    let is_right = name.len() <= 32
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.$".contains(&byte));
    match is_right {
        true => Ok(name),
        false => Err("expected the name of a user".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use crate::config::channels::Kind;
    use crate::config::channels::tests::{one_mistake, parsed};

    #[test]
    fn every_key_is_taken() {
        let (channels, mistakes) = parsed(
            "[exec]\ncommand = [\"/usr/local/bin/notify\", \"$HOME; ls\", \"\"]\nuser = \"nobody\"\ntimeout = \"5s\"\n",
        );
        assert_eq!(mistakes, [""; 0]);
        let Kind::Exec(exec) = &channels[0].kind else {
            panic!("{channels:?}")
        };
        let (program, arguments) = exec.parts();
        assert_eq!(program, PathBuf::from("/usr/local/bin/notify"));
        assert_eq!(arguments, ["$HOME; ls", ""]);
        assert_eq!(exec.timeout, Duration::from_secs(5));
    }

    #[test]
    fn what_is_wrong_or_missing_is_told() {
        for (keys, expected) in [
            ("", "a program is needed"),
            ("command = \"/bin/true\"", "expected a list"),
            ("command = []", "expected a list"),
            ("command = [\"notify\"]", "absolute path"),
            ("command = [\"/bin/true\", 1]", "expected a list"),
            ("command = [\"/bin/true\", \"\\u0000\"]", "without NUL"),
            (
                "command = [\"/bin/true\"]\nuser = \"a b\"",
                "name of a user",
            ),
            (
                "command = [\"/bin/true\"]\ntimeout = \"0s\"",
                "1 s to 600 s",
            ),
            ("commnad = [\"/bin/true\"]", "did you mean `command`?"),
        ] {
            let mistake = one_mistake(&format!("[exec]\n{keys}\n"));
            assert!(mistake.contains(expected), "{keys}: {mistake}");
        }
    }
}
