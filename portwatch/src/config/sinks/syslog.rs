//! `type = "syslog"`, `"relp"` and `"journald"`: receivers of log messages. Pure.

use std::path::PathBuf;
use std::time::Duration;

use super::way::{Address, Way, address};
use crate::alert::{journald, syslog};
use crate::config::channels::log::{facility, tag};
use crate::config::values::{Apply, absolute, set, span, truth};

/// A receiver of syslog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// Where it is; on this host when there is none.
    pub address: Option<Address>,
    /// Its socket on this host.
    pub socket: PathBuf,
    /// Each delivery is a connection, the end of which confirms it.
    pub confirm: bool,
    /// Number of the facility.
    pub facility: u8,
    /// Name of the program.
    pub tag: String,
    /// How it is reached.
    pub way: Way,
}

impl Default for Syslog {
    fn default() -> Self {
        Self {
            address: None,
            socket: syslog::SOCKET.into(),
            confirm: true,
            facility: syslog::FACILITIES[0].1,
            tag: "portwatch".to_owned(),
            way: Way::default(),
        }
    }
}

pub(super) const SYSLOG: &[(&str, Apply<Syslog>)] = &[
    ("address", |syslog, value| {
        set(&mut syslog.address, address(value).map(Some))
    }),
    ("socket", |syslog, value| {
        set(&mut syslog.socket, absolute(value))
    }),
    ("confirm", |syslog, value| {
        set(&mut syslog.confirm, truth(value))
    }),
    ("facility", |syslog, value| {
        set(&mut syslog.facility, facility(value))
    }),
    ("tag", |syslog, value| set(&mut syslog.tag, tag(value))),
];

/// RELP has no socket of a host, and confirms by itself.
pub(super) const RELP: &[(&str, Apply<Syslog>)] = &[
    ("address", |syslog, value| {
        set(&mut syslog.address, address(value).map(Some))
    }),
    ("facility", |syslog, value| {
        set(&mut syslog.facility, facility(value))
    }),
    ("tag", |syslog, value| set(&mut syslog.tag, tag(value))),
];

pub(super) fn check(syslog: &Syslog, needs_address: bool, wrong: &mut dyn FnMut(&str)) {
    match &syslog.address {
        None if needs_address => {
            wrong(
                "a sink of type relp needs an `address`, such as \"tls://siem.example.org:2514\"",
            );
        }
        None => {}
        Some(address) => {
            let permitted = syslog.way.permits(address.tls, address.is_here(), false);
            if let Err(why) = permitted {
                wrong(&why);
            }
        }
    }
}

/// A journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journald {
    /// Its socket.
    pub socket: PathBuf,
    /// How long it may take to take one entry.
    pub timeout: Duration,
}

impl Default for Journald {
    fn default() -> Self {
        Self {
            socket: journald::SOCKET.into(),
            timeout: Way::default().timeout,
        }
    }
}

pub(super) const JOURNALD: &[(&str, Apply<Journald>)] = &[
    ("socket", |journal, value| {
        set(&mut journal.socket, absolute(value))
    }),
    ("timeout", |journal, value| {
        set(&mut journal.timeout, span(value, 1, 120))
    }),
];
