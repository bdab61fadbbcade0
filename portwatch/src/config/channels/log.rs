//! `[syslog]` and `[journald]`: notices to a log of this host. Pure.

use std::path::PathBuf;

use toml::de::DeValue;

use super::{Apply, absolute};
use crate::alert::syslog::FACILITIES;
use crate::alert::{journald, syslog};
use crate::config::values::{set, string};

/// `[syslog]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// Number of the facility.
    pub facility: u8,
    /// What lines begin with.
    pub tag: String,
    /// Where the log listens.
    pub socket: PathBuf,
}

impl Default for Syslog {
    fn default() -> Self {
        Self {
            facility: FACILITIES[0].1,
            tag: "portwatch".to_owned(),
            socket: syslog::SOCKET.into(),
        }
    }
}

/// `[journald]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journald {
    /// Where the journal listens.
    pub socket: PathBuf,
}

impl Default for Journald {
    fn default() -> Self {
        Self {
            socket: journald::SOCKET.into(),
        }
    }
}

pub(super) const SYSLOG: &[(&str, Apply<Syslog>)] = &[
    ("facility", |log, value| {
        set(&mut log.facility, facility(value))
    }),
    ("tag", |log, value| set(&mut log.tag, tag(value))),
    ("socket", |log, value| set(&mut log.socket, absolute(value))),
];

pub(super) const JOURNALD: &[(&str, Apply<Journald>)] = &[("socket", |journal, value| {
    set(&mut journal.socket, absolute(value))
})];

pub(in crate::config) fn facility(value: &DeValue<'_>) -> Result<u8, String> {
    let known = FACILITIES.iter();
    let mut found = known.filter(|(name, _)| value.as_str() == Some(*name));
    found.next().map(|(_, number)| *number).ok_or_else(|| {
        let names: Vec<&str> = FACILITIES.iter().map(|(name, _)| *name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

pub(in crate::config) fn tag(value: &DeValue<'_>) -> Result<String, String> {
    let tag = string(value)?;
    let is_right = tag.len() <= 32
        && tag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte));
    match is_right {
        true => Ok(tag),
        false => Err("expected at most 32 letters, digits, `-`, `_`, `.` and `/`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::channels::Kind;
    use crate::config::channels::tests::{one_mistake, parsed};

    #[test]
    fn they_need_nothing_and_every_key_is_taken() {
        let (channels, mistakes) = parsed("[syslog]\n[journald]\n");
        assert_eq!(mistakes, [""; 0]);
        let socket = |at: usize| match &channels[at].kind {
            Kind::Syslog(log) => log.socket.clone(),
            Kind::Journald(journal) => journal.socket.clone(),
            other => panic!("{other:?}"),
        };
        let mut sockets = [socket(0), socket(1)];
        sockets.sort();
        assert_eq!(sockets[0], Path::new("/dev/log"));
        assert_eq!(sockets[1], Path::new("/run/systemd/journal/socket"));
        let (channels, mistakes) = parsed(
            "[syslog]\nfacility = \"authpriv\"\ntag = \"pw\"\nsocket = \"/run/log\"\nmessages = 10\n",
        );
        assert_eq!(mistakes, [""; 0]);
        let Kind::Syslog(log) = &channels[0].kind else {
            panic!("{channels:?}")
        };
        assert_eq!((log.facility, log.tag.as_str()), (10, "pw"));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (input, expected) in [
            ("[syslog]\nfacility = \"kern\"", "expected one of daemon,"),
            ("[syslog]\ntag = \"a b\"", "at most 32 letters"),
            ("[syslog]\nsocket = \"log\"", "absolute path"),
            ("[journald]\ntag = \"a\"", "`tag` belongs to [syslog]"),
            ("[journalds]\n", "did you mean [journald]?"),
        ] {
            let mistake = one_mistake(&format!("{input}\n"));
            assert!(mistake.contains(expected), "{input}: {mistake}");
        }
    }
}
