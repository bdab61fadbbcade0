//! From what the inventory tells to what readers are told. Pure but for the look-ups that are passed in.

use std::sync::Arc;

use super::errno;
use crate::decode::record::{ListenerSeen, SockInfo, UnixName};
use crate::enrich::Enricher;
use crate::event::{Event, EventType, Host, Mechanism, Previous, Sensor, Socket};
use crate::inventory::{Change, Interfaces, Listener, described, exposure};
use crate::text::escape;
use crate::time::{BootNs, WallClock};

/// What an event needs to know of the host.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// The host.
    pub(super) host: Arc<Host>,
    /// Its network namespace.
    pub(super) netns: u32,
    /// Its interfaces.
    pub(super) interfaces: Interfaces,
    /// The wall clock.
    pub(super) clock: WallClock,
}

impl Surroundings {
    /// An event with nothing in it yet.
    pub(super) fn event(&self, kind: EventType, at: BootNs) -> Event {
        Event::new(kind, self.clock.rfc3339(at), Arc::clone(&self.host))
    }

    /// The event of a change, without its process.
    pub(super) fn change(&self, change: &Change, enricher: &mut Enricher, now: BootNs) -> Event {
        let listener = change.listener();
        let kind = match change {
            Change::Opened { .. } => EventType::ListenerOpened,
            Change::Present { .. } => EventType::ListenerPresent,
            Change::Changed { .. } => EventType::ListenerChanged,
            Change::Closed { .. } => EventType::ListenerClosed,
        };
        let mut event = self.event(kind, change.at());
        event.socket = Some(self.listener_socket(listener, enricher, now));
        event.sensor = Some(sensor(change.mechanism()));
        if !is_alone(listener) {
            event.owners.clone_from(&listener.owners);
        }
        match change {
            Change::Changed { previous, .. } => {
                if previous.owners.is_some() {
                    // Who holds it now is the news, even where `process` is the only one.
                    event.owners.clone_from(&listener.owners);
                }
                event.previous = Some(Previous {
                    backlog: previous.backlog,
                    owners: previous.owners.clone().unwrap_or_default(),
                    interface: previous
                        .ifindex
                        .map(|index| self.interface(listener.sock.netns, index)),
                });
            }
            Change::Closed { duration_ns, .. } => {
                event.duration_ms = duration_ns.map(|ns| ns / 1_000_000);
                event.owners.clear();
            }
            Change::Opened { .. } => event.owners.clear(),
            Change::Present { .. } => {}
        }
        event
    }

    /// The event of a listener as `ls` shows it, without its process.
    pub(super) fn listed(
        &self,
        listener: &Listener,
        enricher: &mut Enricher,
        now: BootNs,
    ) -> Event {
        let (kind, at) = match listener.opened_at {
            Some(at) => (EventType::ListenerOpened, at),
            None => (EventType::ListenerPresent, listener.first_seen),
        };
        let mut event = self.event(kind, at);
        event.socket = Some(self.listener_socket(listener, enricher, now));
        event.sensor = Some(sensor(listener.mechanism));
        event.owners.clone_from(&listener.owners);
        event
    }

    /// The event of a refused bind or listen, without its process.
    pub(super) fn refused(
        &self,
        seen: &ListenerSeen,
        enricher: &mut Enricher,
        now: BootNs,
    ) -> Event {
        let mut event = self.event(EventType::BindFailed, seen.at);
        let mut socket = self.socket(&seen.sock, seen.unix.as_ref());
        socket.backlog = None;
        self.add_service(&mut socket, &seen.sock, enricher, now);
        event.socket = Some(socket);
        event.error = Some(errno::name(seen.errno));
        event.sensor = Some(sensor(seen.mechanism));
        event
    }

    /// A socket without its service.
    pub(super) fn socket(&self, sock: &SockInfo, unix: Option<&UnixName>) -> Socket {
        let (path, path_as_bound, abstract_name) = match unix {
            None => (None, None, None),
            Some(UnixName::Abstract(name)) => (None, None, Some(escape(name))),
            Some(UnixName::Path { as_bound, resolved }) => {
                let path = escape(resolved.as_ref().unwrap_or(as_bound));
                let bound = escape(as_bound);
                let differs = bound != path;
                (Some(path), differs.then_some(bound), None)
            }
        };
        Socket {
            path,
            path_as_bound,
            abstract_name,
            ..described(
                sock,
                self.bound_interface(sock),
                exposure(sock, unix, self.netns, &self.interfaces),
            )
        }
    }

    /// The name of the interface that the socket is bound to.
    pub(super) fn bound_interface(&self, sock: &SockInfo) -> Option<String> {
        sock.ifindex
            .map(|index| self.interface(sock.netns, Some(index)))
    }

    fn listener_socket(&self, listener: &Listener, enricher: &mut Enricher, now: BootNs) -> Socket {
        let mut socket = self.socket(&listener.sock, listener.unix.as_ref());
        socket.peer_address = None;
        socket.peer_port = None;
        self.add_service(&mut socket, &listener.sock, enricher, now);
        socket
    }

    #[expect(clippy::unused_self, reason = "belongs to the making of a socket")]
    fn add_service(
        &self,
        socket: &mut Socket,
        sock: &SockInfo,
        enricher: &mut Enricher,
        now: BootNs,
    ) {
        socket.service = sock
            .port
            .and_then(|port| enricher.service(port, sock.protocol, now))
            .map(|name| name.to_string());
    }

    /// Interfaces of other namespaces have indexes of their own, which are not looked up.
    fn interface(&self, netns: u32, index: Option<u32>) -> String {
        match index {
            None => "any".to_owned(),
            Some(index) => match self.interfaces.name(index) {
                Some(name) if netns == self.netns => escape(name.as_bytes()),
                _ => format!("#{index}"),
            },
        }
    }
}

/// Is the process that the event names the only holder?
fn is_alone(listener: &Listener) -> bool {
    let named = listener.who().map(|who| who.task.key.pid);
    matches!(listener.owners.as_slice(), [owner] if Some(owner.pid) == named)
}

/// The mechanism of an event; its latency is known when it is published.
pub(super) fn sensor(mechanism: Mechanism) -> Sensor {
    Sensor {
        mechanism: Some(mechanism),
        ..Sensor::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::daemon::look::surroundings;
    use crate::decode::record::Who;
    use crate::enrich::{EnrichConfig, Enricher};
    use crate::event::{Mechanism, Owner};
    use crate::inventory::fixture::{task, tcp};
    use crate::inventory::{Change, Listener, Previous};
    use crate::time::BootNs;

    fn owner(pid: u32) -> Owner {
        Owner {
            pid,
            name: "p".to_owned(),
            fd: Some(3),
        }
    }

    /// Held by process 7 alone, which nobody saw opening it.
    fn held() -> Listener {
        let who = Who {
            task: task(7),
            image: None,
            ancestors: Vec::new(),
        };
        Listener {
            sock: tcp(1, 1, 80),
            unix: None,
            opener: None,
            holder: Some(Arc::new(who)),
            process: None,
            owners: vec![owner(7)],
            opened_at: None,
            first_seen: BootNs(1),
            mechanism: Mechanism::Reconcile,
        }
    }

    fn owners_of(change: &Change) -> Vec<u32> {
        let (mut enricher, _answers) = Enricher::new(EnrichConfig::default());
        let event = surroundings().change(change, &mut enricher, BootNs::now());
        event.owners.iter().map(|owner| owner.pid).collect()
    }

    fn changed(previous: Previous) -> Change {
        Change::Changed {
            listener: held().into(),
            previous,
            at: BootNs(2),
            mechanism: Mechanism::Reconcile,
        }
    }

    #[test]
    fn new_holders_are_named_even_where_the_process_is_the_only_one() {
        let present = Change::Present {
            listener: held().into(),
            at: BootNs(2),
        };
        assert!(owners_of(&present).is_empty(), "`process` says it");
        let backlog = changed(Previous {
            backlog: Some(5),
            ..Previous::default()
        });
        assert!(owners_of(&backlog).is_empty(), "`process` says it");
        let holders = changed(Previous {
            owners: Some(vec![owner(6), owner(7)]),
            ..Previous::default()
        });
        assert_eq!(owners_of(&holders), [7]);
    }
}
