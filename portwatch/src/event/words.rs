//! The words that events use for each enumeration, and all of them in order.

use super::{
    CheckProtocol, EventType, Exposure, Family, GapCause, Mechanism, PolicyState, Protocol,
    ResponseAction, RingName, ScanShape, Severity, SocketType, State, StormKind,
};

/// An enumeration that an event writes as one word.
pub trait Word: Copy + 'static {
    /// Every word, in the order of declaration (for ordered enumerations: rising).
    const WORDS: &'static [&'static str];
    /// Every value, in the same order.
    const ALL: &'static [Self];

    /// The word of this value, exactly as JSON has it.
    fn word(self) -> &'static str;

    /// Where this value stands in [`Word::ALL`].
    fn place(self) -> u8;
}

/// Pairs variants with words; the match keeps the list complete.
macro_rules! words {
    ($($name:ident { $($variant:ident = $word:literal,)* })*) => {$(
        impl Word for $name {
            const WORDS: &'static [&'static str] = &[$($word,)*];
            const ALL: &'static [Self] = &[$(Self::$variant,)*];
            fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
            fn place(self) -> u8 {
                self as u8
            }
        }
    )*};
}

words! {
    EventType {
        ListenerOpened = "listener.opened",
        ListenerClosed = "listener.closed",
        ListenerPresent = "listener.present",
        ListenerChanged = "listener.changed",
        BindFailed = "bind.failed",
        ConnectionState = "connection.state",
        ListenerDown = "listener.down",
        ListenerRecovered = "listener.recovered",
        SensorReady = "sensor.ready",
        SensorDegraded = "sensor.degraded",
        Gap = "gap",
        GapReconciled = "gap.reconciled",
        StormStarted = "storm.started",
        StormUpdated = "storm.updated",
        StormEnded = "storm.ended",
        ScanDetected = "scan.detected",
        StormResponse = "storm.response",
        Heartbeat = "heartbeat",
    }
    Severity {
        Debug = "debug",
        Info = "info",
        Notice = "notice",
        Warning = "warning",
        Critical = "critical",
    }
    Family { Ipv4 = "ipv4", Ipv6 = "ipv6", Unix = "unix", Packet = "packet", Vsock = "vsock", }
    SocketType { Stream = "stream", Dgram = "dgram", Raw = "raw", Seqpacket = "seqpacket", }
    Protocol {
        Tcp = "tcp",
        Mptcp = "mptcp",
        Udp = "udp",
        Udplite = "udplite",
        Sctp = "sctp",
        Raw = "raw",
        Icmp = "icmp",
        Unix = "unix",
        Packet = "packet",
        Vsock = "vsock",
    }
    Exposure {
        Loopback = "loopback",
        LinkLocal = "link-local",
        PrivateInterface = "private-interface",
        PublicInterface = "public-interface",
        AllInterfaces = "all-interfaces",
        OtherNamespace = "other-namespace",
    }
    State {
        Established = "ESTABLISHED",
        SynSent = "SYN_SENT",
        SynRecv = "SYN_RECV",
        FinWait1 = "FIN_WAIT1",
        FinWait2 = "FIN_WAIT2",
        TimeWait = "TIME_WAIT",
        Close = "CLOSE",
        CloseWait = "CLOSE_WAIT",
        LastAck = "LAST_ACK",
        Listen = "LISTEN",
        Closing = "CLOSING",
        NewSynRecv = "NEW_SYN_RECV",
    }
    Mechanism {
        Fexit = "fexit",
        Fentry = "fentry",
        Kretprobe = "kretprobe",
        Kprobe = "kprobe",
        TpBtf = "tp_btf",
        Tracepoint = "tracepoint",
        Cgroup = "cgroup",
        Iterator = "iterator",
        Snapshot = "snapshot",
        Reconcile = "reconcile",
    }
    PolicyState {
        New = "new",
        Baseline = "baseline",
        Allowed = "allowed",
        Denied = "denied",
        Expected = "expected",
    }
    GapCause {
        RingFull = "ring-full",
        Unaccounted = "unaccounted",
        Undelivered = "undelivered",
        TableFull = "table-full",
        ProbeSkipped = "probe-skipped",
        SlowReader = "slow-reader",
        BufferFull = "buffer-full",
        Damaged = "damaged",
        Refused = "refused",
        Unwritten = "unwritten",
    }
    CheckProtocol {
        Connect = "connect",
        Tls = "tls",
        Ssh = "ssh",
        Smtp = "smtp",
        Smtps = "smtps",
        Http = "http",
        Https = "https",
        Imap = "imap",
        Imaps = "imaps",
        Pop3 = "pop3",
        Pop3s = "pop3s",
        Redis = "redis",
        Dns = "dns",
    }
    StormKind {
        SynFlood = "syn-flood",
        ConnectionStorm = "connection-storm",
        ConnectStorm = "connect-storm",
        ResetStorm = "reset-storm",
        RefusedStorm = "refused-storm",
        CloseWaitLeak = "close-wait-leak",
        TimeWaitPressure = "time-wait-pressure",
        AcceptQueueOverflow = "accept-queue-overflow",
    }
    ScanShape {
        Vertical = "vertical",
        Distributed = "distributed",
        Horizontal = "horizontal",
    }
    ResponseAction {
        Block = "block",
        Unblock = "unblock",
    }
    RingName {
        Critical = "critical",
        Process = "process",
        Bulk = "bulk",
        Probe = "probe",
        Client = "client",
        Sink = "sink",
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;

    fn agrees_with_json<W: Word + Serialize + DeserializeOwned>() {
        for word in W::WORDS {
            let value: W = serde_json::from_value((*word).into()).expect("a word that JSON knows");
            assert_eq!(value.word(), *word);
            assert_eq!(serde_json::to_value(value).expect("a word"), *word);
            assert_eq!(W::ALL[usize::from(value.place())].word(), *word);
        }
    }

    #[test]
    fn words_are_those_of_json() {
        agrees_with_json::<EventType>();
        agrees_with_json::<Severity>();
        agrees_with_json::<Family>();
        agrees_with_json::<SocketType>();
        agrees_with_json::<Protocol>();
        agrees_with_json::<Exposure>();
        agrees_with_json::<State>();
        agrees_with_json::<Mechanism>();
        agrees_with_json::<PolicyState>();
        agrees_with_json::<CheckProtocol>();
        agrees_with_json::<RingName>();
        agrees_with_json::<GapCause>();
        agrees_with_json::<StormKind>();
        agrees_with_json::<ScanShape>();
        agrees_with_json::<ResponseAction>();
    }
}
