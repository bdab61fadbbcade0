//! The one catalogue of an event's fields: name, short names, type, and how to read each.
//!
//! The filter language, its error messages and the generated documentation all work from it. A test
//! holds it to the JSON Schema: every leaf of the schema is here.

use std::borrow::Cow;

use super::words::Word;
use super::{
    Ancestor, Check, CheckProtocol, Event, EventType, Exposure, Family, Gap, GapCause, Heartbeat,
    Mechanism, Owner, Policy, PolicyState, Previous, Process, Protocol, Reconciled, Response,
    ResponseAction, RingName, Scan, ScanShape, Sensor, Severity, Socket, SocketType, State, Storm,
    StormKind,
};

/// What a field holds, and so which comparisons make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// Text, escaped as events escape it.
    Text,
    /// A whole number from 0 to `max`.
    Number {
        /// The largest value that the field can hold.
        max: u64,
    },
    /// True or false.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, which rise in this order.
    Ranked(&'static [&'static str]),
    /// An IPv4 or IPv6 address.
    Address,
    /// A moment: RFC 3339.
    Time,
}

/// What a field of one event holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'e> {
    /// Text, a word, an address or a time, as JSON has it.
    Text(Cow<'e, str>),
    /// A number.
    Number(u64),
    /// True or false.
    Flag(bool),
    /// The field is in a list, and holds all of these; never empty.
    Many(Vec<Value<'e>>),
}

/// Reads a field; `None` when the event does not have it.
pub type Getter = for<'e> fn(&'e Event) -> Option<Value<'e>>;

/// One field.
#[derive(Debug)]
pub struct Field {
    /// Full name: the path of keys in the event's JSON.
    pub name: &'static str,
    /// Short names, the preferred one first.
    pub aliases: &'static [&'static str],
    /// What it holds.
    pub kind: FieldType,
    /// How to read it.
    pub get: Getter,
}

impl Field {
    /// The name to show: the preferred short name, or else the full one.
    #[must_use]
    pub fn short_name(&self) -> &'static str {
        self.aliases.first().copied().unwrap_or(self.name)
    }
}

/// Names are unique in the catalogue, so they are the identity.
impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
impl Eq for Field {}

/// The field of that full or short name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Field> {
    FIELDS
        .iter()
        .find(|field| field.name == name || field.aliases.contains(&name))
}

/// Every full and short name.
pub fn names() -> impl Iterator<Item = &'static str> {
    FIELDS
        .iter()
        .flat_map(|field| field.aliases.iter().copied().chain([field.name]))
}

/// Two names that stand for something which JSON does not hold as a key of its own.
pub const DERIVED: [&str; 2] = ["parent", "command"];

const U64: FieldType = FieldType::Number { max: u64::MAX };
const U32: FieldType = FieldType::Number {
    max: u32::MAX as u64,
};
const U16: FieldType = FieldType::Number {
    max: u16::MAX as u64,
};

const fn f(
    name: &'static str,
    aliases: &'static [&'static str],
    kind: FieldType,
    get: Getter,
) -> Field {
    Field {
        name,
        aliases,
        kind,
        get,
    }
}

/// Every field, in the order of the JSON.
#[rustfmt::skip] // One line a field: it is a table.
pub static FIELDS: &[Field] = &{
    use FieldType::{Address, Flag, Ranked, Text, Time, Word as OneOf};
    [
    f("schema", &[], Text, |e| plain(&e.schema)),
    f("id", &[], Text, |e| plain(&e.id)),
    f("seq", &[], U64, |e| number(Some(e.seq))),
    f("ts", &["time"], Time, |e| plain(&e.ts)),
    f("type", &[], OneOf(EventType::WORDS), |e| word(Some(e.kind))),
    f("severity", &[], Ranked(Severity::WORDS), |e| word(Some(e.severity))),
    f("message", &[], Text, |e| plain(&e.message)),
    f("host.name", &["host"], Text, |e| plain(&e.host.name)),
    f("host.id", &[], Text, |e| text(&e.host.id)),
    f("host.boot_id", &["boot_id"], Text, |e| text(&e.host.boot_id)),
    f("host.kernel", &["kernel"], Text, |e| plain(&e.host.kernel)),
    f("socket.family", &["family"], OneOf(Family::WORDS), |e| word(Some(socket(e)?.family))),
    f("socket.type", &["socktype"], OneOf(SocketType::WORDS), |e| word(Some(socket(e)?.kind))),
    f("socket.protocol", &["proto", "protocol"], OneOf(Protocol::WORDS), |e| word(Some(socket(e)?.protocol))),
    f("socket.address", &["address", "addr"], Address, |e| text(&socket(e)?.address)),
    f("socket.port", &["port"], U16, |e| number(socket(e)?.port)),
    f("socket.peer_address", &["peer"], Address, |e| text(&socket(e)?.peer_address)),
    f("socket.peer_port", &["peer_port"], U16, |e| number(socket(e)?.peer_port)),
    f("socket.path", &["path"], Text, |e| text(&socket(e)?.path)),
    f("socket.path_as_bound", &[], Text, |e| text(&socket(e)?.path_as_bound)),
    f("socket.abstract", &["abstract"], Text, |e| text(&socket(e)?.abstract_name)),
    f("socket.backlog", &["backlog"], U32, |e| number(socket(e)?.backlog)),
    f("socket.cookie", &["cookie"], U64, |e| number(socket(e)?.cookie)),
    f("socket.inode", &["inode"], U64, |e| number(socket(e)?.inode)),
    f("socket.netns", &["netns"], U32, |e| number(socket(e)?.netns)),
    f("socket.interface", &["interface"], Text, |e| text(&socket(e)?.interface)),
    f("socket.ifindex", &["ifindex"], U32, |e| number(socket(e)?.ifindex)),
    f("socket.protocol_number", &[], U16, |e| number(socket(e)?.protocol_number)),
    f("socket.v6only", &["v6only"], Flag, |e| flag(socket(e)?.v6only)),
    f("socket.reuseport", &["reuseport"], Flag, |e| flag(socket(e)?.reuseport)),
    f("socket.service", &["service"], Text, |e| text(&socket(e)?.service)),
    f("socket.exposure", &["exposure"], Ranked(Exposure::WORDS), |e| word(socket(e)?.exposure)),
    f("process.pid", &["pid"], U32, |e| number(Some(process(e)?.pid))),
    f("process.tid", &["tid"], U32, |e| number(process(e)?.tid)),
    f("process.ppid", &["ppid"], U32, |e| number(process(e)?.ppid)),
    f("process.name", &["name"], Text, |e| plain(&process(e)?.name)),
    f("process.exe", &["exe"], Text, |e| text(&process(e)?.exe)),
    f("process.exe_deleted", &["exe_deleted"], Flag, |e| flag(process(e)?.exe_deleted)),
    f("process.exe_memfd", &["exe_memfd"], Flag, |e| flag(process(e)?.exe_memfd)),
    f("process.args", &["args"], Text, |e| many(process(e)?.args.iter().flatten(), |arg| plain(arg))),
    f("process.args_truncated", &[], Flag, |e| flag(process(e)?.args_truncated)),
    f("process.cwd", &["cwd"], Text, |e| text(&process(e)?.cwd)),
    f("process.start_time", &["start_time"], Time, |e| text(&process(e)?.start_time)),
    f("process.uid", &["uid"], U32, |e| number(process(e)?.uid)),
    f("process.user", &["user"], Text, |e| text(&process(e)?.user)),
    f("process.gid", &["gid"], U32, |e| number(process(e)?.gid)),
    f("process.group", &["group"], Text, |e| text(&process(e)?.group)),
    f("process.loginuid", &["loginuid"], U32, |e| number(process(e)?.loginuid)),
    f("process.sha256", &["sha256"], Text, |e| text(&process(e)?.sha256)),
    f("process.package", &["package"], Text, |e| text(&process(e)?.package)),
    f("process.unit", &["unit"], Text, |e| text(&process(e)?.unit)),
    f("process.container.id", &["container"], Text, |e| plain(&process(e)?.container.as_ref()?.id)),
    f("process.container.runtime", &["runtime"], Text, |e| text(&process(e)?.container.as_ref()?.runtime)),
    f("process.ancestors.pid", &[], U32, |e| ancestors(e, |a| number(Some(a.pid)))),
    f("process.ancestors.name", &["ancestor"], Text, |e| ancestors(e, |a| plain(&a.name))),
    f("process.ancestors.exe", &[], Text, |e| ancestors(e, |a| text(&a.exe))),
    f("process.unresolved", &["unresolved"], Text, |e| text(&process(e)?.unresolved)),
    f("parent", &[], Text, |e| plain(&process(e)?.ancestors.first()?.name)),
    f("command", &["cmdline"], Text, |e| Some(Value::Text(process(e)?.args.as_ref()?.join(" ").into()))),
    f("owners.pid", &[], U32, |e| many(&e.owners, |o| number(Some(o.pid)))),
    f("owners.name", &["owner"], Text, |e| many(&e.owners, |o| plain(&o.name))),
    f("owners.fd", &[], U32, |e| many(&e.owners, |o| number(o.fd))),
    f("policy.state", &["policy"], OneOf(PolicyState::WORDS), |e| word(Some(policy(e)?.state))),
    f("policy.rule", &["rule"], Text, |e| plain(&policy(e)?.rule)),
    f("previous.backlog", &[], U32, |e| number(previous(e)?.backlog)),
    f("previous.owners.pid", &[], U32, |e| previous_owners(e, |o| number(Some(o.pid)))),
    f("previous.owners.name", &[], Text, |e| previous_owners(e, |o| plain(&o.name))),
    f("previous.owners.fd", &[], U32, |e| previous_owners(e, |o| number(o.fd))),
    f("previous.interface", &[], Text, |e| text(&previous(e)?.interface)),
    f("old_state", &[], OneOf(State::WORDS), |e| word(e.old_state)),
    f("new_state", &["state"], OneOf(State::WORDS), |e| word(e.new_state)),
    f("duration_ms", &["duration"], U64, |e| number(e.duration_ms)),
    f("check.protocol", &["check"], OneOf(CheckProtocol::WORDS), |e| word(Some(check(e)?.protocol))),
    f("check.target", &[], Text, |e| plain(&check(e)?.target)),
    f("check.error", &[], Text, |e| text(&check(e)?.error)),
    f("check.failures", &[], U32, |e| number(check(e)?.failures)),
    f("error", &[], Text, |e| text(&e.error)),
    f("gap.ring", &["ring"], OneOf(RingName::WORDS), |e| word(Some(gap(e)?.ring))),
    f("gap.cause", &["cause"], OneOf(GapCause::WORDS), |e| word(gap(e)?.cause)),
    f("gap.lost", &["lost"], U64, |e| number(Some(gap(e)?.lost))),
    f("gap.from", &[], Time, |e| plain(&gap(e)?.from)),
    f("gap.to", &[], Time, |e| plain(&gap(e)?.to)),
    f("gap.probe", &["probe"], Text, |e| text(&gap(e)?.probe)),
    f("gap.cgroups.id", &[], U64, |e| many(&gap(e)?.cgroups, |c| number(Some(c.id)))),
    f("gap.cgroups.path", &[], Text, |e| many(&gap(e)?.cgroups, |c| text(&c.path))),
    f("gap.cgroups.lost", &[], U64, |e| many(&gap(e)?.cgroups, |c| number(Some(c.lost)))),
    f("reconciled.found", &[], U64, |e| number(Some(reconciled(e)?.found))),
    f("reconciled.vanished", &[], U64, |e| number(Some(reconciled(e)?.vanished))),
    f("reconciled.changed", &[], U64, |e| number(Some(reconciled(e)?.changed))),
    f("reconciled.checked", &[], U64, |e| number(Some(reconciled(e)?.checked))),
    f("reconciled.took_us", &[], U64, |e| number(Some(reconciled(e)?.took_us))),
    f("sensor.mechanism", &["mechanism"], OneOf(Mechanism::WORDS), |e| word(sensor(e)?.mechanism)),
    f("sensor.latency_us", &["latency_us"], U64, |e| number(sensor(e)?.latency_us)),
    f("sensor.signal", &["signal"], Text, |e| text(&sensor(e)?.signal)),
    f("sensor.reason", &["reason"], Text, |e| text(&sensor(e)?.reason)),
    f("sensor.blind_to", &[], Text, |e| text(&sensor(e)?.blind_to)),
    f("sensor.remedy", &[], Text, |e| text(&sensor(e)?.remedy)),
    f("sensor.mechanisms.signal", &[], Text, |e| many(&sensor(e)?.mechanisms, |m| plain(&m.signal))),
    f("sensor.mechanisms.mechanism", &[], OneOf(Mechanism::WORDS), |e| many(&sensor(e)?.mechanisms, |m| word(Some(m.mechanism)))),
    f("storm.kind", &["storm"], OneOf(StormKind::WORDS), |e| word(Some(storm(e)?.kind))),
    f("storm.episode", &["episode"], U64, |e| number(Some(storm(e)?.episode))),
    f("storm.key", &[], Text, |e| plain(&storm(e)?.key)),
    f("storm.netns", &[], U32, |e| number(storm(e)?.netns)),
    f("storm.rate", &["rate"], U64, |e| number(storm(e)?.rate)),
    f("storm.level", &["level"], U64, |e| number(storm(e)?.level)),
    f("storm.peak", &["peak"], U64, |e| number(Some(storm(e)?.peak))),
    f("storm.threshold", &[], U64, |e| number(Some(storm(e)?.threshold))),
    f("storm.total", &[], U64, |e| number(Some(storm(e)?.total))),
    f("storm.completed", &[], U64, |e| number(storm(e)?.completed)),
    f("storm.ratio", &["ratio"], U32, |e| number(storm(e)?.ratio)),
    f("storm.half_open", &["half_open"], U32, |e| number(storm(e)?.half_open)),
    f("storm.accept_queue", &[], U32, |e| number(storm(e)?.accept_queue)),
    f("storm.accept_queue_max", &[], U32, |e| number(storm(e)?.accept_queue_max)),
    f("storm.cookies_sent", &[], U64, |e| number(storm(e)?.cookies_sent)),
    f("storm.peers.prefix", &[], Text, |e| many(&storm(e)?.peers, |p| plain(&p.prefix))),
    f("storm.peers.count", &[], U64, |e| many(&storm(e)?.peers, |p| number(Some(p.count)))),
    f("storm.peers.share", &[], U32, |e| many(&storm(e)?.peers, |p| number(Some(p.share)))),
    f("storm.advice", &[], Text, |e| plain(&storm(e)?.advice)),
    f("storm.reason", &[], Text, |e| text(&storm(e)?.reason)),
    f("scan.shape", &["scan"], OneOf(ScanShape::WORDS), |e| word(Some(scan(e)?.shape))),
    f("scan.source", &["source"], Address, |e| text(&scan(e)?.source)),
    f("scan.sources", &[], U32, |e| number(Some(scan(e)?.sources))),
    f("scan.netns", &[], U32, |e| number(Some(scan(e)?.netns))),
    f("scan.namespaces", &[], U32, |e| number(Some(scan(e)?.namespaces))),
    f("scan.protocol", &[], OneOf(Protocol::WORDS), |e| word(Some(scan(e)?.protocol))),
    f("scan.ports", &[], U32, |e| number(Some(scan(e)?.ports))),
    f("scan.knocks", &[], U64, |e| number(Some(scan(e)?.knocks))),
    f("scan.sample", &[], U16, |e| many(&scan(e)?.sample, |port| number(Some(*port)))),
    f("scan.first", &[], Time, |e| plain(&scan(e)?.first)),
    f("scan.last", &[], Time, |e| plain(&scan(e)?.last)),
    f("scan.advice", &[], Text, |e| plain(&scan(e)?.advice)),
    f("response.action", &["response"], OneOf(ResponseAction::WORDS), |e| word(Some(response(e)?.action))),
    f("response.dry_run", &["dry_run"], Flag, |e| flag(Some(response(e)?.dry_run))),
    f("response.prefixes", &[], Text, |e| many(&response(e)?.prefixes, |prefix| plain(prefix))),
    f("response.set", &[], Text, |e| plain(&response(e)?.set)),
    f("response.timeout_s", &[], U64, |e| number(response(e)?.timeout_s)),
    f("response.cause", &[], Text, |e| plain(&response(e)?.cause)),
    f("response.episode", &[], U64, |e| number(response(e)?.episode)),
    f("response.error", &[], Text, |e| text(&response(e)?.error)),
    f("heartbeat.uptime_ms", &["uptime_ms"], U64, |e| number(Some(heartbeat(e)?.uptime_ms))),
    f("heartbeat.every_ms", &[], U64, |e| number(Some(heartbeat(e)?.every_ms))),
    f("heartbeat.events.type", &[], OneOf(EventType::WORDS), |e| many(&heartbeat(e)?.events, |c| word(Some(c.kind)))),
    f("heartbeat.events.count", &[], U64, |e| many(&heartbeat(e)?.events, |c| number(Some(c.count)))),
    f("heartbeat.gaps", &[], U64, |e| number(Some(heartbeat(e)?.gaps))),
    f("heartbeat.lost", &[], U64, |e| number(Some(heartbeat(e)?.lost))),
    f("heartbeat.sinks.name", &[], Text, |e| many(&heartbeat(e)?.sinks, |s| plain(&s.name))),
    f("heartbeat.sinks.delivered", &[], U64, |e| many(&heartbeat(e)?.sinks, |s| number(Some(s.delivered)))),
    f("heartbeat.sinks.queued", &[], U64, |e| many(&heartbeat(e)?.sinks, |s| number(Some(s.queued)))),
    f("heartbeat.sinks.refused", &[], U64, |e| many(&heartbeat(e)?.sinks, |s| number(Some(s.refused)))),
    f("heartbeat.sinks.lost", &[], U64, |e| many(&heartbeat(e)?.sinks, |s| number(Some(s.lost)))),
    f("heartbeat.sinks.head", &[], Text, |e| many(&heartbeat(e)?.sinks, |s| text(&s.head))),
    ]
};

fn socket(event: &Event) -> Option<&Socket> {
    event.socket.as_ref()
}

fn process(event: &Event) -> Option<&Process> {
    event.process.as_ref()
}

fn policy(event: &Event) -> Option<&Policy> {
    event.policy.as_ref()
}

fn check(event: &Event) -> Option<&Check> {
    event.check.as_ref()
}

fn previous(event: &Event) -> Option<&Previous> {
    event.previous.as_ref()
}

fn gap(event: &Event) -> Option<&Gap> {
    event.gap.as_ref()
}

fn reconciled(event: &Event) -> Option<&Reconciled> {
    event.reconciled.as_ref()
}

fn heartbeat(event: &Event) -> Option<&Heartbeat> {
    event.heartbeat.as_ref()
}

fn sensor(event: &Event) -> Option<&Sensor> {
    event.sensor.as_ref()
}

fn storm(event: &Event) -> Option<&Storm> {
    event.storm.as_ref()
}

fn scan(event: &Event) -> Option<&Scan> {
    event.scan.as_ref()
}

fn response(event: &Event) -> Option<&Response> {
    event.response.as_ref()
}

fn ancestors<'e>(
    event: &'e Event,
    read: fn(&'e Ancestor) -> Option<Value<'e>>,
) -> Option<Value<'e>> {
    many(&process(event)?.ancestors, read)
}

fn previous_owners<'e>(
    event: &'e Event,
    read: fn(&'e Owner) -> Option<Value<'e>>,
) -> Option<Value<'e>> {
    many(&previous(event)?.owners, read)
}

#[expect(clippy::unnecessary_wraps, reason = "a getter returns an option")]
fn plain(text: &str) -> Option<Value<'_>> {
    Some(Value::Text(Cow::Borrowed(text)))
}

fn text(text: &Option<String>) -> Option<Value<'_>> {
    plain(text.as_deref()?)
}

fn number<'e, N: Into<u64>>(number: Option<N>) -> Option<Value<'e>> {
    number.map(|number| Value::Number(number.into()))
}

fn flag<'e>(flag: Option<bool>) -> Option<Value<'e>> {
    flag.map(Value::Flag)
}

fn word<'e, W: Word>(value: Option<W>) -> Option<Value<'e>> {
    plain(value?.word())
}

fn many<'e, T: 'e>(
    items: impl IntoIterator<Item = &'e T>,
    read: impl Fn(&'e T) -> Option<Value<'e>>,
) -> Option<Value<'e>> {
    let values: Vec<_> = items.into_iter().filter_map(read).collect();
    (!values.is_empty()).then_some(Value::Many(values))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::event::example::examples;

    /// Every leaf's path of keys in a value; lists are looked through.
    fn leaves(value: &serde_json::Value, path: &str, into: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    leaves(value, &path, into);
                }
            }
            serde_json::Value::Array(items) => {
                items.iter().for_each(|item| leaves(item, path, into));
            }
            _ => {
                into.insert(path.to_owned());
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let all: Vec<_> = names().collect();
        let unique: BTreeSet<_> = all.iter().collect();
        assert_eq!(all.len(), unique.len(), "{all:?}");
    }

    #[test]
    fn the_catalogue_reads_exactly_what_json_shows() {
        for event in examples() {
            let mut shown = BTreeSet::new();
            leaves(&serde_json::to_value(&event).expect("JSON"), "", &mut shown);
            let read: BTreeSet<_> = FIELDS
                .iter()
                .filter(|field| !DERIVED.contains(&field.name))
                .filter(|field| (field.get)(&event).is_some())
                .map(|field| field.name.to_owned())
                .collect();
            assert_eq!(read, shown, "in {}", event.kind.as_str());
        }
    }

    #[test]
    fn derived_fields_are_read_from_the_process() {
        let event = &examples()[0];
        let read = |name| (find(name).expect(name).get)(event);
        assert_eq!(read("parent"), Some(Value::Text("systemd".into())));
        assert_eq!(
            read("cmdline"),
            Some(Value::Text("nginx -g daemon on;".into()))
        );
    }
}
