//! Service names by port and protocol, from /etc/services or a small table of our own.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::text_file::TextFile;
use crate::event::Protocol;
use crate::text::escape;
use crate::time::BootNs;

/// Most names kept.
const NAMES_MAX: usize = 16_384;

/// Names for when the host has no /etc/services: the ports that every administrator knows
/// (IANA Service Name and Transport Protocol Port Number Registry).
const WELL_KNOWN: [(u16, Transport, &str); 28] = [
    (21, Transport::Tcp, "ftp"),
    (22, Transport::Tcp, "ssh"),
    (23, Transport::Tcp, "telnet"),
    (25, Transport::Tcp, "smtp"),
    (53, Transport::Tcp, "domain"),
    (53, Transport::Udp, "domain"),
    (67, Transport::Udp, "bootps"),
    (68, Transport::Udp, "bootpc"),
    (80, Transport::Tcp, "http"),
    (110, Transport::Tcp, "pop3"),
    (111, Transport::Tcp, "sunrpc"),
    (111, Transport::Udp, "sunrpc"),
    (123, Transport::Udp, "ntp"),
    (143, Transport::Tcp, "imap2"),
    (161, Transport::Udp, "snmp"),
    (389, Transport::Tcp, "ldap"),
    (443, Transport::Tcp, "https"),
    (443, Transport::Udp, "https"),
    (445, Transport::Tcp, "microsoft-ds"),
    (514, Transport::Udp, "syslog"),
    (631, Transport::Tcp, "ipp"),
    (636, Transport::Tcp, "ldaps"),
    (873, Transport::Tcp, "rsync"),
    (993, Transport::Tcp, "imaps"),
    (995, Transport::Tcp, "pop3s"),
    (2049, Transport::Tcp, "nfs"),
    (3306, Transport::Tcp, "mysql"),
    (5432, Transport::Tcp, "postgresql"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Transport {
    Tcp,
    Udp,
    Sctp,
}

/// The host's service names.
#[derive(Debug)]
pub struct Services {
    file: TextFile,
    names: HashMap<(u16, Transport), Arc<str>>,
}

impl Services {
    /// The file in `etc`.
    #[must_use]
    pub fn new(etc: &Path) -> Self {
        let well_known = WELL_KNOWN
            .iter()
            .map(|&(port, transport, name)| ((port, transport), name.into()));
        Self {
            file: TextFile::new(etc.join("services")),
            names: well_known.collect(),
        }
    }

    /// The name of the service at a port, escaped. Looks at the file at most once a second.
    pub fn name(&mut self, port: u16, protocol: Protocol, now: BootNs) -> Option<Arc<str>> {
        if let Some(text) = self.file.changed(now) {
            self.names = parse(&text);
        }
        let transport = match protocol {
            Protocol::Tcp | Protocol::Mptcp => Transport::Tcp,
            Protocol::Udp | Protocol::Udplite => Transport::Udp,
            Protocol::Sctp => Transport::Sctp,
            _ => return None,
        };
        self.names.get(&(port, transport)).cloned()
    }
}

/// `name port/protocol alias… # comment`; the first line for a port decides.
pub(super) fn parse(text: &[u8]) -> HashMap<(u16, Transport), Arc<str>> {
    let mut names = HashMap::new();
    for line in text.split(|&b| b == b'\n') {
        let line = line.split(|&b| b == b'#').next().unwrap_or_default();
        let mut words = line
            .split(u8::is_ascii_whitespace)
            .filter(|w| !w.is_empty());
        let (Some(name), Some(place)) = (words.next(), words.next()) else {
            continue;
        };
        let place = std::str::from_utf8(place).ok();
        let Some((port, transport)) = place.and_then(|place| place.split_once('/')) else {
            continue;
        };
        let transport = match transport {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            "sctp" => Transport::Sctp,
            _ => continue,
        };
        if let Ok(port) = port.parse()
            && names.len() < NAMES_MAX
        {
            names
                .entry((port, transport))
                .or_insert_with(|| escape(name).into());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::{any, proptest};

    use super::{Services, parse};
    use crate::event::Protocol;
    use crate::time::BootNs;

    #[test]
    fn the_file_decides_by_its_first_line_for_a_port() {
        let etc = tempfile::tempdir().expect("dir");
        let text = "# comment\nhttp\t\t80/tcp\twww # World\nother 80/tcp\nfoo 80/udp\nbad x/tcp\nfar 99999/tcp\n m3ua 2905/sctp\n";
        std::fs::write(etc.path().join("services"), text).expect("write");
        let mut services = Services::new(etc.path());
        let mut name = |port, protocol| services.name(port, protocol, BootNs(1));
        assert_eq!(name(80, Protocol::Tcp).as_deref(), Some("http"));
        assert_eq!(name(80, Protocol::Mptcp).as_deref(), Some("http"));
        assert_eq!(name(80, Protocol::Udplite).as_deref(), Some("foo"));
        assert_eq!(name(2905, Protocol::Sctp).as_deref(), Some("m3ua"));
        assert_eq!(
            name(22, Protocol::Tcp),
            None,
            "the host's file is the truth"
        );
        assert_eq!(name(80, Protocol::Unix), None);
    }

    #[test]
    fn without_a_file_the_well_known_ports_have_names() {
        let mut services = Services::new(Path::new("/nonexistent"));
        let mut name = |port, protocol| services.name(port, protocol, BootNs(1));
        assert_eq!(name(22, Protocol::Tcp).as_deref(), Some("ssh"));
        assert_eq!(name(53, Protocol::Udp).as_deref(), Some("domain"));
        assert_eq!(name(22, Protocol::Udp), None);
    }

    proptest! {
        #[test]
        fn no_file_panics(bytes in any::<Vec<u8>>()) {
            assert!(parse(&bytes).len() <= bytes.len());
        }
    }
}
