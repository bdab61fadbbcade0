//! What a rule may look at: taken from an event once, for all rules.

use std::net::IpAddr;

use crate::event::{Event, Exposure, Process, Protocol, Socket};

/// What one event says of a listener. What it does not say is `None`.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'e> {
    /// The event, for expressions.
    pub event: &'e Event,
    pub(super) protocol: Protocol,
    pub(super) port: Option<u16>,
    pub(super) address: Option<IpAddr>,
    pub(super) exposure: Option<Exposure>,
    pub(super) is_host_namespace: Option<bool>,
    pub(super) socket: &'e Socket,
    pub(super) process: Option<&'e Process>,
    /// The executable, unless it never was a file: then its name is what its maker liked.
    pub(super) exe: Option<&'e str>,
}

impl<'e> Facts<'e> {
    /// Of an event that is about a socket; `host_netns` is the network namespace of the host itself.
    #[must_use]
    pub fn of(event: &'e Event, host_netns: u32) -> Option<Self> {
        let socket = event.socket.as_ref()?;
        let address = socket.address.as_deref();
        let process = event.process.as_ref();
        let is_file = |process: &&Process| process.exe_memfd != Some(true);
        Some(Self {
            event,
            protocol: socket.protocol,
            port: socket.port,
            address: address.and_then(|text| text.parse().ok()),
            exposure: socket.exposure,
            is_host_namespace: socket.netns.map(|netns| netns == host_netns),
            socket,
            process,
            exe: process
                .filter(is_file)
                .and_then(|process| process.exe.as_deref()),
        })
    }

    /// Name of a unix socket: its path, or `@` and its abstract name.
    pub(super) fn has_path(&self, is_it: impl Fn(&str) -> bool) -> bool {
        if let Some(path) = &self.socket.path {
            return is_it(path);
        }
        let name = self.socket.abstract_name.as_ref();
        name.is_some_and(|name| is_it(&format!("@{name}")))
    }
}
