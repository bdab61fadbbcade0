//! What each rung of the ladder of mechanisms is expected to see. The table is the claim; the scenarios
//! hold portwatch to it in both directions: what is promised must come, what is not must be admitted.

use super::event::Event;

/// The best mechanism in use for listeners, from the best to the last resort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// BPF trampolines at function exit.
    Fexit,
    /// Return probes.
    Kretprobe,
    /// cgroup hooks for inet sockets, system call tracepoints for the other families.
    Cgroup,
    /// BTF-typed raw tracepoints only.
    TpBtf,
    /// Perf tracepoints only.
    Tracepoint,
    /// Nothing but looking again and again.
    Reconcile,
}

impl Rung {
    /// Every rung, best first.
    pub const ALL: [Self; 6] = [
        Self::Fexit,
        Self::Kretprobe,
        Self::Cgroup,
        Self::TpBtf,
        Self::Tracepoint,
        Self::Reconcile,
    ];

    /// The name that `--rung` takes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fexit => "fexit",
            Self::Kretprobe => "kretprobe",
            Self::Cgroup => "cgroup",
            Self::TpBtf => "tp_btf",
            Self::Tracepoint => "tracepoint",
            Self::Reconcile => "reconcile",
        }
    }

    /// The rung with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rung| rung.name() == name)
    }

    /// The best rung among the mechanisms that a `sensor.ready` lists for the signals of listeners.
    #[must_use]
    pub fn in_use(ready: &Event) -> Self {
        let listed = ready
            .at("sensor.mechanisms")
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let of_listeners = listed.iter().filter(|entry| {
            let signal = entry
                .get("signal")
                .and_then(|signal| signal.as_str())
                .unwrap_or_default();
            // These have a single mechanism, whichever rung is forced on the others.
            !signal.starts_with("process")
                && !signal.ends_with("knock")
                && ![
                    "tcp.syn",
                    "tcp.synack",
                    "tcp.reset",
                    "tcp.state",
                    "sctp.listen",
                    "inventory",
                ]
                .contains(&signal)
        });
        let names: Vec<&str> = of_listeners
            .filter_map(|entry| entry.get("mechanism")?.as_str())
            .collect();
        Self::ALL
            .into_iter()
            .find(|rung| names.contains(&rung.name()))
            .unwrap_or(Self::Reconcile)
    }

    /// What this rung sees of a capability.
    #[must_use]
    pub const fn sees(self, capability: Capability) -> Sees {
        use Capability as C;
        use Sees::{ByReconcile, Exactly, No};
        match (self, capability) {
            // Holders change in silence: fork, SCM_RIGHTS and exec pass no hook on any rung.
            (_, C::Owners) => ByReconcile,
            (
                Self::Reconcile,
                C::InetRefusal
                | C::UnixRefusal
                | C::ShortLived
                | C::States
                | C::UdpClient
                | C::Reuseport
                | C::Sctp,
            ) => No,
            (Self::Reconcile, _) => ByReconcile,
            (Self::Fexit | Self::Kretprobe, _) => Exactly,
            // `listen` on a listener changes no state and passes no cgroup hook.
            (_, C::Backlog) => ByReconcile,
            // Nothing tells of the release of sockets that are not inet.
            (_, C::UnixClose | C::PacketClose) => ByReconcile,
            (Self::Cgroup, _) => Exactly,
            // System call tracepoints do not see io_uring; typed ones still see the state of a listen change.
            (_, C::UdpUring) | (Self::Tracepoint, C::TcpUring) => ByReconcile,
            // Only TCP changes state when it is released.
            (_, C::UdpClose | C::RawClose) => ByReconcile,
            (Self::TpBtf | Self::Tracepoint, _) => Exactly,
        }
    }
}

/// Something that portwatch can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// A TCP, MPTCP or SCTP socket listens.
    TcpListen,
    /// A TCP socket listens, through io_uring.
    TcpUring,
    /// An SCTP socket listens.
    Sctp,
    /// It no longer does.
    TcpClose,
    /// `listen` again with another backlog.
    Backlog,
    /// A UDP or UDP-Lite socket was bound.
    UdpBind,
    /// A UDP client, whose port the kernel chose without a bind, is no listener.
    UdpClient,
    /// A listener shares its port with others.
    Reuseport,
    /// A UDP bind through io_uring.
    UdpUring,
    /// It was closed.
    UdpClose,
    /// A unix socket listens or was bound.
    Unix,
    /// It was closed.
    UnixClose,
    /// A packet socket was opened or bound.
    Packet,
    /// It was closed.
    PacketClose,
    /// A raw IP socket was opened.
    Raw,
    /// It was closed.
    RawClose,
    /// A bind or listen of an inet socket was refused.
    InetRefusal,
    /// A bind of a unix socket was refused.
    UnixRefusal,
    /// The holders of a listener changed.
    Owners,
    /// Listeners that live less than a millisecond.
    ShortLived,
    /// TCP state changes.
    States,
}

impl Capability {
    /// The signal whose mechanism decides how it is met; none where no mechanism does.
    #[must_use]
    pub const fn signal(self) -> Option<&'static str> {
        Some(match self {
            Self::TcpListen | Self::TcpUring | Self::Reuseport | Self::ShortLived => "tcp.listen",
            Self::TcpClose | Self::States => "tcp.state",
            Self::Sctp => "sctp.listen",
            Self::Backlog => "tcp.backlog",
            Self::UdpBind | Self::UdpClient | Self::UdpUring => "udp.bind",
            Self::UdpClose => "udp.close",
            Self::Unix => "unix.bind",
            Self::UnixClose => "unix.close",
            Self::Packet => "packet.open",
            Self::PacketClose => "packet.close",
            Self::Raw => "raw.open",
            Self::RawClose => "raw.close",
            Self::InetRefusal | Self::UnixRefusal => "bind.failed",
            Self::Owners => return None,
        })
    }

    /// Words, one of which a statement about the loss of this capability cannot do without.
    #[must_use]
    pub const fn words(self) -> &'static [&'static str] {
        match self {
            Self::TcpListen => &["tcp", "listen"],
            Self::TcpClose | Self::UdpClose | Self::RawClose => &["clos", "release"],
            Self::Backlog => &["backlog", "repeated listen", "listen again"],
            Self::UdpBind => &["udp"],
            Self::UdpClient => &["client"],
            Self::Reuseport => &["reuseport"],
            Self::TcpUring | Self::UdpUring => &["io_uring"],
            Self::Sctp => &["sctp listeners"],
            Self::Unix | Self::UnixClose => &["unix"],
            Self::Packet | Self::PacketClose => &["packet"],
            Self::Raw => &["raw"],
            Self::InetRefusal | Self::UnixRefusal => &["refus", "fail"],
            Self::Owners => &["owner", "holder"],
            Self::ShortLived => &["short"],
            Self::States => &["state"],
        }
    }
}

/// The signals that a `sensor.ready` lists without any mechanism but looking again.
#[must_use]
pub fn looked_for(ready: &Event) -> Vec<String> {
    let listed = ready.at("sensor.mechanisms").as_array();
    let signals = listed.into_iter().flatten().filter_map(|entry| {
        let signal = entry.get("signal")?.as_str()?;
        (entry.get("mechanism")?.as_str()? == "reconcile").then(|| signal.to_owned())
    });
    signals.collect()
}

/// How a capability is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// At once, with the right actor.
    Exactly,
    /// At the next look.
    ByReconcile,
    /// Not at all, and portwatch says so.
    No,
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Capability, Event, Rung, Sees};

    #[test]
    fn the_best_listener_mechanism_names_the_rung() {
        let line = br#"{"type":"sensor.ready","sensor":{"mechanisms":[
            {"signal":"process.exec","mechanism":"tp_btf"},
            {"signal":"unix.bind","mechanism":"tracepoint"},
            {"signal":"udp.bind","mechanism":"cgroup"}]}}"#;
        let ready = Event::parse(line, 0, Instant::now()).expect("JSON");
        assert_eq!(Rung::in_use(&ready), Rung::Cgroup);
        let line = br#"{"type":"sensor.ready","sensor":{"mechanisms":[
            {"signal":"tcp.listen","mechanism":"tracepoint"},
            {"signal":"tcp.state","mechanism":"tp_btf"},
            {"signal":"sctp.listen","mechanism":"tp_btf"},
            {"signal":"inventory","mechanism":"iterator"}]}}"#;
        let ready = Event::parse(line, 0, Instant::now()).expect("JSON");
        assert_eq!(Rung::in_use(&ready), Rung::Tracepoint);
        assert_eq!(Rung::named("tp_btf"), Some(Rung::TpBtf));
    }

    #[test]
    fn lower_rungs_never_see_more() {
        let all = [
            Capability::TcpListen,
            Capability::TcpUring,
            Capability::Sctp,
            Capability::TcpClose,
            Capability::Backlog,
            Capability::UdpBind,
            Capability::UdpClient,
            Capability::Reuseport,
            Capability::UdpUring,
            Capability::UdpClose,
            Capability::Unix,
            Capability::UnixClose,
            Capability::Packet,
            Capability::PacketClose,
            Capability::Raw,
            Capability::RawClose,
            Capability::InetRefusal,
            Capability::UnixRefusal,
            Capability::Owners,
            Capability::ShortLived,
            Capability::States,
        ];
        let worth = |sees| match sees {
            Sees::Exactly => 2,
            Sees::ByReconcile => 1,
            Sees::No => 0,
        };
        for capability in all {
            for pair in Rung::ALL.windows(2) {
                let [better, worse] = pair else { continue };
                assert!(
                    worth(better.sees(capability)) >= worth(worse.sees(capability)),
                    "{worse:?} claims more of {capability:?} than {better:?}"
                );
            }
        }
    }
}
