//! What makes two listeners the same for an administrator: where, by which program. Never a pid. Pure.

use std::fmt;
use std::ops::RangeInclusive;

use super::fold::fold;
use crate::event::words::Word as _;
use crate::event::{Event, Family, Process, Protocol, Socket};

/// A listener as the baseline knows it. A text that is not known is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Is it in the network namespace of the host?
    pub is_host: bool,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its address; of a packet socket its interface.
    pub address: String,
    /// Its port, [`EPHEMERAL`], or what a raw or packet socket receives.
    pub port: String,
    /// Path, or `@` and abstract name, of a unix socket: what differs from run to run folded.
    pub name: String,
    /// The executable. Empty for sockets of the kernel.
    pub exe: String,
}

/// The port of a listener that the kernel chose one for, as a rule: it differs each time.
pub const EPHEMERAL: &str = "ephemeral";

/// What the host adds to what an event says.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Network namespace of the host.
    pub netns: u32,
    /// Ports that the kernel chooses (`ip_local_port_range`).
    pub ephemeral: RangeInclusive<u16>,
}

impl Frame {
    /// The host as it is now.
    #[must_use]
    pub fn of_host(netns: u32) -> Self {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        let range = text.ok().and_then(|text| range(&text));
        Self {
            netns,
            ephemeral: range.unwrap_or(DEFAULT_RANGE),
        }
    }
}

/// The kernel's own default.
const DEFAULT_RANGE: RangeInclusive<u16> = 32768..=60999;

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

impl Identity {
    /// The identity of an event's listener. None when it must not be taken for any other: its program is not
    /// known, or never was a file, so that the next of that name may be anything.
    #[must_use]
    pub fn of(event: &Event, frame: &Frame) -> Option<Self> {
        let socket = event.socket.as_ref()?;
        let exe = match &event.process {
            Some(process) => program(process)?,
            // Nobody holds it: the kernel itself does.
            None => "",
        };
        let pids = event.process.as_ref().map(pids).unwrap_or_default();
        Some(Self {
            is_host: socket.netns.is_none_or(|netns| netns == frame.netns),
            protocol: socket.protocol,
            address: address(socket),
            port: port(socket, frame),
            name: name(socket, &pids),
            exe: exe.to_owned(),
        })
    }

    /// The same place, whoever listens there.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        let place = |one: &Self| (one.is_host, one.protocol);
        place(self) == place(other)
            && self.address == other.address
            && self.port == other.port
            && self.name == other.name
    }
}

/// The executable, by which a process is known again.
fn program(process: &Process) -> Option<&str> {
    if process.exe_memfd == Some(true) {
        return None;
    }
    match &process.exe {
        Some(exe) => Some(exe),
        None => process
            .unresolved
            .as_deref()
            .filter(|why| *why == crate::enrich::KERNEL_THREAD)
            .map(|_| ""),
    }
}

fn pids(process: &Process) -> Vec<u32> {
    let parents = process.ancestors.iter().map(|parent| parent.pid);
    // Numbers as small as those of the first processes are in too many names.
    std::iter::once(process.pid)
        .chain(process.ppid)
        .chain(parents)
        .filter(|&pid| pid > 9)
        .collect()
}

fn address(socket: &Socket) -> String {
    let text = match socket.family {
        Family::Packet => socket.interface.as_deref(),
        _ => socket.address.as_deref(),
    };
    text.unwrap_or_default().to_owned()
}

fn port(socket: &Socket, frame: &Frame) -> String {
    match socket.port {
        Some(port) if frame.ephemeral.contains(&port) => EPHEMERAL.to_owned(),
        Some(port) => port.to_string(),
        None => socket
            .protocol_number
            .map(|number| number.to_string())
            .unwrap_or_default(),
    }
}

fn name(socket: &Socket, pids: &[u32]) -> String {
    if let Some(path) = &socket.path {
        return fold(path, pids);
    }
    match &socket.abstract_name {
        // Five hexadecimal digits are the kernel's choice (autobind).
        Some(name) if name.len() == 5 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            "@*".to_owned()
        }
        Some(name) => format!("@{}", fold(name, pids)),
        None => String::new(),
    }
}

/// The place: `0.0.0.0:80/tcp`, `/run/x.sock`, `packets on eth0`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            port,
            name,
            protocol,
            ..
        } = self;
        let any = |text: &str| if text.is_empty() { "*" } else { text }.to_owned();
        match protocol {
            Protocol::Unix => write!(f, "{}", any(name))?,
            Protocol::Packet if address.is_empty() => write!(f, "packets on every interface")?,
            Protocol::Packet => write!(f, "packets on {address}")?,
            _ if address.contains(':') => {
                write!(f, "[{address}]:{}/{}", any(port), protocol.word())?;
            }
            _ => write!(f, "{}:{}/{}", any(address), any(port), protocol.word())?,
        }
        if !self.is_host {
            write!(f, " in another network namespace")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{EPHEMERAL, Frame, Identity, range};
    use crate::event::{Event, EventType, Family, Process, Protocol};
    use crate::sink::testing;

    const FRAME: Frame = Frame {
        netns: 1,
        ephemeral: 32768..=60999,
    };

    fn event(change: impl FnOnce(&mut Event)) -> Event {
        let mut event = testing::listener(EventType::ListenerPresent, 80, 812, "/usr/bin/app");
        event.process.as_mut().expect("a process").ppid = Some(700);
        change(&mut event);
        event
    }

    fn unix(path: Option<&str>, name: Option<&str>) -> Option<Identity> {
        let event = event(|event| {
            let socket = event.socket.as_mut().expect("a socket");
            socket.family = Family::Unix;
            socket.protocol = Protocol::Unix;
            (socket.address, socket.port) = (None, None);
            socket.path = path.map(str::to_owned);
            socket.abstract_name = name.map(str::to_owned);
        });
        Identity::of(&event, &FRAME)
    }

    #[test]
    fn the_range_of_the_kernel_is_read() {
        assert_eq!(range("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(range("1 2 3"), Some(1..=2));
        assert_eq!(range(""), None);
        assert!(Frame::of_host(1).ephemeral.contains(&50_000));
    }

    #[test]
    fn names_are_told_without_what_differs() {
        let name = |path, text| unix(path, text).expect("an identity").name;
        assert_eq!(name(Some("/run/app.812/s"), None), "/run/app.*/s");
        assert_eq!(name(Some("/run/app.700/s"), None), "/run/app.*/s");
        assert_eq!(name(None, Some("0a1f2")), "@*");
        assert_eq!(name(None, Some("/tmp/x-812")), "@/tmp/x-*");
        assert_eq!(
            unix(Some("/run/s"), None).expect("one").to_string(),
            "/run/s"
        );
    }

    #[test]
    fn a_port_that_the_kernel_chose_is_any_and_a_namespace_counts() {
        let of = |port, netns| {
            let event = event(|event| {
                let socket = event.socket.as_mut().expect("a socket");
                socket.address = Some("::1".to_owned());
                (socket.port, socket.netns) = (Some(port), netns);
            });
            Identity::of(&event, &FRAME).expect("an identity")
        };
        assert_eq!(of(40_000, Some(1)).port, EPHEMERAL);
        assert_eq!(of(80, Some(1)).to_string(), "[::1]:80/tcp");
        assert_eq!(
            of(80, Some(2)).to_string(),
            "[::1]:80/tcp in another network namespace"
        );
        assert_ne!(of(80, Some(1)), of(80, Some(2)));
        assert_eq!(of(80, None), of(80, Some(1)));
    }

    /// What cannot be known again must not be approved: the next of the kind may be anything.
    #[test]
    fn who_is_not_known_has_no_identity() {
        let with = |change: fn(&mut Process)| {
            let event = event(|event| change(event.process.as_mut().expect("a process")));
            Identity::of(&event, &FRAME)
        };
        assert!(with(|process| process.exe_memfd = Some(true)).is_none());
        assert!(with(|process| process.exe = None).is_none());
        let of_kernel = with(|process| {
            process.exe = None;
            process.unresolved = Some("kernel thread".to_owned());
        });
        assert_eq!(of_kernel.expect("an identity").exe, "");
        let upgraded = with(|process| process.exe_deleted = Some(true));
        assert_eq!(upgraded, with(|_| {}));
    }
}
