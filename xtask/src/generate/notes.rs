//! For each key of an event: its unit, and when it is not there.

use anyhow::{Context as _, Result};

/// Unit and absence of a key.
pub(super) struct Note {
    /// What the number counts, or the form of the text; empty where the type says it all.
    pub(super) unit: &'static str,
    /// When it is not there, with its object there.
    pub(super) absent: &'static str,
}

/// The note on this key. A key that may be absent must have one.
pub(super) fn of(path: &str) -> Result<Note> {
    let note = NOTES.iter().find(|note| note.0 == path);
    let &(_, unit, absent) = note.with_context(|| {
        format!("no note says when {path} is absent: xtask/src/generate/notes.rs")
    })?;
    Ok(Note { unit, absent })
}

const NEVER: &str = "never";
const NOT_TOLD: &str = "of other types";
const NOT_CHECKED: &str =
    "other types than `listener.down` and `listener.recovered`; rules without `check`";
const SENSORS: &str = "`sensor.*`, `gap*`";

/// Every key, in the order of the JSON.
#[rustfmt::skip] // One line a key: it is a table.
const NOTES: &[(&str, &str, &str)] = &[
    ("schema", "", NEVER),
    ("id", "UUIDv7", NEVER),
    ("seq", "lines", NEVER),
    ("ts", "RFC 3339, ns", NEVER),
    ("type", "", NEVER),
    ("severity", "", NEVER),
    ("message", "at most 1000 characters", NEVER),
    ("host", "", NEVER),
    ("host.name", "", NEVER),
    ("host.id", "32 hexadecimal digits", "the host has no machine id"),
    ("host.boot_id", "UUID", "`/proc` does not tell it"),
    ("host.kernel", "", NEVER),
    ("socket", "", "`sensor.*`, `gap*`; `listener.down` of what was never seen"),
    ("socket.family", "", NEVER),
    ("socket.type", "", NEVER),
    ("socket.protocol", "", NEVER),
    ("socket.address", "", "unix and packet sockets; nothing is bound yet"),
    ("socket.port", "", "sockets without ports: unix, packet, raw"),
    ("socket.peer_address", "", "anything but `connection.state`; no peer yet, or none any more"),
    ("socket.peer_port", "", "as `peer_address`"),
    ("socket.path", "", "not a unix socket with a path"),
    ("socket.path_as_bound", "", "the same as `path`"),
    ("socket.abstract", "", "not a unix socket with an abstract name"),
    ("socket.backlog", "connections", "sockets that do not listen: datagrams, raw, packet; refused binds"),
    ("socket.cookie", "", "the kernel had given it none yet"),
    ("socket.inode", "", "the socket has no file: of the kernel, or not accepted yet"),
    ("socket.netns", "", "in no event of this version"),
    ("socket.interface", "", "bound to no interface; its name is not known"),
    ("socket.ifindex", "", "bound to no interface"),
    ("socket.protocol_number", "", "neither a raw nor a packet socket"),
    ("socket.v6only", "", "not IPv6"),
    ("socket.reuseport", "", "not shared"),
    ("socket.service", "", "the port has no name in `/etc/services`"),
    ("socket.exposure", "", "in no event of this version"),
    ("process", "", "the socket is the kernel's own, or its holder is not known; `sensor.*`, `gap*`"),
    ("process.pid", "", NEVER),
    ("process.tid", "", "not seen in the act: found by looking, or `connection.state`"),
    ("process.ppid", "", "not known any more"),
    ("process.name", "at most 15 bytes, escaped", NEVER),
    ("process.exe", "", "a kernel thread, or `unresolved`"),
    ("process.exe_deleted", "", "the file is there, or nobody could tell"),
    ("process.exe_memfd", "", "the executable is a file"),
    ("process.args", "", "gone before they could be read; a kernel thread"),
    ("process.args_truncated", "", "`args` is all of them"),
    ("process.cwd", "", "not readable"),
    ("process.start_time", "RFC 3339, ns", "not known any more"),
    ("process.uid", "", "not known any more"),
    ("process.user", "", "the user data base does not know `uid`, or did not answer in time"),
    ("process.gid", "", "not known any more"),
    ("process.group", "", "the group data base does not know `gid`, or did not answer in time"),
    ("process.loginuid", "", "nobody logged in: a service"),
    ("process.sha256", "64 hexadecimal digits", "hashing is off, took too long, or the file cannot be read"),
    ("process.package", "", "no package owns the file, or the data base did not answer in time"),
    ("process.unit", "", "of no systemd unit"),
    ("process.container", "", "in no container that is known by its cgroup"),
    ("process.container.id", "hexadecimal digits or a name", NEVER),
    ("process.container.runtime", "", "the cgroup does not tell it"),
    ("process.ancestors", "at most 8 from the kernel", "none is known; pid 1"),
    ("process.ancestors.pid", "", NEVER),
    ("process.ancestors.name", "at most 15 bytes, escaped", NEVER),
    ("process.ancestors.exe", "", "not known any more"),
    ("process.unresolved", "", "the process could be resolved"),
    ("owners", "", "`listener.opened`, `listener.closed`; elsewhere where `process` alone holds it, as far as is known"),
    ("owners.pid", "", NEVER),
    ("owners.name", "at most 15 bytes, escaped", NEVER),
    ("owners.fd", "", "not known"),
    ("policy", "", "types that are not judged: `bind.failed`, `connection.state`, `sensor.*`, `gap*`"),
    ("policy.state", "", NEVER),
    ("policy.rule", "", NEVER),
    ("previous", "", NOT_TOLD),
    ("previous.backlog", "connections", "it did not change"),
    ("previous.owners", "", "they did not change, or nobody held it"),
    ("previous.owners.pid", "", NEVER),
    ("previous.owners.name", "at most 15 bytes, escaped", NEVER),
    ("previous.owners.fd", "", "not known"),
    ("previous.interface", "", "it did not change, or there was none"),
    ("old_state", "", NOT_TOLD),
    ("new_state", "", NOT_TOLD),
    ("duration_ms", "milliseconds", "of other types; the beginning was not seen"),
    ("check", "", NOT_CHECKED),
    ("check.protocol", "", NEVER),
    ("check.target", "", NEVER),
    ("check.error", "", "it answers"),
    ("check.failures", "checks in a row", "it answers"),
    ("error", "errno name", NOT_TOLD),
    ("gap", "", NOT_TOLD),
    ("gap.ring", "", NEVER),
    ("gap.cause", "", "told by an earlier version"),
    ("gap.lost", "events", NEVER),
    ("gap.from", "RFC 3339, ns", NEVER),
    ("gap.to", "RFC 3339, ns", NEVER),
    ("gap.probe", "", "another ring than `probe`"),
    ("gap.cgroups", "at most 16", "another ring than `critical`, or nobody knows whose they were"),
    ("gap.cgroups.id", "", NEVER),
    ("gap.cgroups.path", "", "the cgroup is gone"),
    ("gap.cgroups.lost", "events", NEVER),
    ("reconciled", "", NOT_TOLD),
    ("reconciled.found", "listeners", NEVER),
    ("reconciled.vanished", "listeners", NEVER),
    ("reconciled.changed", "listeners", NEVER),
    ("reconciled.checked", "sockets", NEVER),
    ("reconciled.took_us", "microseconds", NEVER),
    ("sensor", "", "`listener.down`, `listener.recovered`, `gap*`"),
    ("sensor.mechanism", "", "`sensor.ready`; nothing watches the signal"),
    ("sensor.latency_us", "microseconds", SENSORS),
    ("sensor.signal", "", "types but `sensor.degraded`"),
    ("sensor.reason", "", "types but `sensor.degraded`"),
    ("sensor.blind_to", "", "types but `sensor.degraded`; nothing is missed"),
    ("sensor.remedy", "", "types but `sensor.degraded`; nothing helps"),
    ("sensor.mechanisms", "", "types but `sensor.ready`"),
    ("sensor.mechanisms.signal", "", NEVER),
    ("sensor.mechanisms.mechanism", "", NEVER),
];
