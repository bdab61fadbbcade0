//! The counters that each network namespace keeps by itself, as `/proc/PID/net` tells them. Pure.

/// What is read of `netstat`, `snmp` and `sockstat`. What this kernel does not count is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mib {
    /// TcpExt `SyncookiesSent`.
    pub cookies_sent: Option<u64>,
    /// TcpExt `SyncookiesRecv`.
    pub cookies_received: Option<u64>,
    /// TcpExt `ListenOverflows`.
    pub listen_overflows: Option<u64>,
    /// TcpExt `ListenDrops`.
    pub listen_drops: Option<u64>,
    /// TcpExt `TCPReqQFullDoCookies` and `TCPReqQFullDrop`.
    pub syn_queue_full: Option<u64>,
    /// Tcp `OutRsts`.
    pub resets_sent: Option<u64>,
    /// Tcp `EstabResets`.
    pub reset_connections: Option<u64>,
    /// Tcp `AttemptFails`.
    pub failed_attempts: Option<u64>,
    /// Udp `NoPorts`.
    pub udp_no_ports: Option<u64>,
    /// `tw` of TCP's line in `sockstat`.
    pub time_wait: Option<u32>,
    /// `orphan` of the same; of the whole host, whichever namespace is asked.
    pub orphans: Option<u32>,
}

impl Mib {
    /// Reads the three files; one that could not be read is empty.
    #[must_use]
    pub fn parse(netstat: &str, snmp: &str, sockstat: &str) -> Self {
        let extended = |name| in_table(netstat, "TcpExt:", name);
        let tcp = |name| in_table(snmp, "Tcp:", name);
        let full = [
            extended("TCPReqQFullDoCookies"),
            extended("TCPReqQFullDrop"),
        ];
        Self {
            cookies_sent: extended("SyncookiesSent"),
            cookies_received: extended("SyncookiesRecv"),
            listen_overflows: extended("ListenOverflows"),
            listen_drops: extended("ListenDrops"),
            syn_queue_full: full.into_iter().flatten().reduce(u64::wrapping_add),
            resets_sent: tcp("OutRsts"),
            reset_connections: tcp("EstabResets"),
            failed_attempts: tcp("AttemptFails"),
            udp_no_ports: in_table(snmp, "Udp:", "NoPorts"),
            time_wait: in_line(sockstat, "tw"),
            orphans: in_line(sockstat, "orphan"),
        }
    }
}

/// The first and last port that `connect` chooses from, as the sysctl has them: how many that are.
#[must_use]
pub fn ephemeral_ports(range: &str) -> Option<u32> {
    let mut numbers = range.split_ascii_whitespace().map(str::parse::<u16>);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    u32::from(last)
        .checked_sub(u32::from(first))?
        .checked_add(1)
}

/// A line of names, and behind it one of as many numbers, both with the same title.
fn in_table(text: &str, title: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(title));
    let names = lines.next()?.split_ascii_whitespace();
    let mut both = names.zip(lines.next()?.split_ascii_whitespace());
    let (_, value) = both.find(|(known, _)| *known == name)?;
    value.parse().ok()
}

/// `TCP: inuse 5 orphan 0 tw 0 …`.
fn in_line(text: &str, name: &str) -> Option<u32> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Mib, ephemeral_ports};

    const NETSTAT: &str = "TcpExt: SyncookiesSent SyncookiesRecv ListenOverflows ListenDrops TCPReqQFullDoCookies TCPReqQFullDrop\n\
        TcpExt: 7 1 2 3 4 5\nIpExt: InNoRoutes\nIpExt: 9\n";
    const SNMP: &str = "Tcp: AttemptFails EstabResets OutRsts\nTcp: 11 12 13\nUdp: InDatagrams NoPorts\nUdp: 1 14\n";
    const SOCKSTAT: &str =
        "sockets: used 200\nTCP: inuse 5 orphan 15 tw 16 alloc 8 mem 1\nUDP: inuse 2 mem 1\n";

    #[test]
    fn counters_are_found_by_name() {
        let mib = Mib::parse(NETSTAT, SNMP, SOCKSTAT);
        let expected = Mib {
            cookies_sent: Some(7),
            cookies_received: Some(1),
            listen_overflows: Some(2),
            listen_drops: Some(3),
            syn_queue_full: Some(9),
            resets_sent: Some(13),
            reset_connections: Some(12),
            failed_attempts: Some(11),
            udp_no_ports: Some(14),
            time_wait: Some(16),
            orphans: Some(15),
        };
        assert_eq!(mib, expected);
        assert_eq!(Mib::parse("", "", ""), Mib::default());
    }

    #[test]
    fn this_kernel_has_them_all() {
        let read = |name| std::fs::read_to_string(format!("/proc/self/net/{name}")).expect("read");
        let mib = Mib::parse(&read("netstat"), &read("snmp"), &read("sockstat"));
        assert!(mib.cookies_sent.is_some() && mib.syn_queue_full.is_some());
        assert!(mib.resets_sent.is_some() && mib.udp_no_ports.is_some());
        assert!(mib.time_wait.is_some() && mib.orphans.is_some());
    }

    #[test]
    fn a_range_has_both_ends() {
        assert_eq!(ephemeral_ports("32768\t60999\n"), Some(28_232));
        assert_eq!(ephemeral_ports("5 5"), Some(1));
        assert_eq!(ephemeral_ports("9 5"), None);
        assert_eq!(ephemeral_ports(""), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", more in "TcpExt: .{0,40}\nTcpExt: .{0,40}") {
            let _ = Mib::parse(&text, &more, &text);
            let _ = Mib::parse(&more, &text, &more);
            let _ = ephemeral_ports(&text);
        }
    }
}
