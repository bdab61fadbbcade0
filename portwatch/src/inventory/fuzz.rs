//! The inventory under records and looks of any content; sock_diag and `/proc/net` with any bytes.

use std::collections::HashSet;

use portwatch_common::header::{EventKind, Header};
use zerocopy::FromBytes as _;

use super::netlink::{attribute, attributes, messages, refusal};
use super::proc_net::{self, ALWAYS, instead_of};
use super::sock_diag::{Row, Table, inet_row, packet_row, tcp_socket, unix_row};
use super::{
    Change, DEFAULT_LIMIT, Inventory, MergeReason, Snapshot, holders, is_listener, is_synthetic,
};
use crate::decode::decode;
use crate::decode::fuzz::{assert_sound_name, assert_sound_sock, own_bytes};
use crate::decode::record::{Held, Record};
use crate::enrich::proc_parse;
use crate::event::{Family, Owner};
use crate::time::BootNs;

/// Stands between records for something that the daemon does: the kind that no record has.
const DEED: EventKind = EventKind(0);

/// The property of the target `inventory`. The bytes are ring records, one behind the other; a header of
/// kind 0 merges the holders that came before it, or decides what waits.
pub fn inventory(bytes: &[u8]) {
    let mut roomy = Replay::new(DEFAULT_LIMIT);
    let mut tight = Replay::new(2);
    let mut rest = bytes;
    while let Some(own) = own_bytes(rest).filter(|own| !own.is_empty()) {
        rest = rest.get(own.len()..).unwrap_or_default();
        roomy.step(own);
        tight.step(own);
        let living = roomy.begun.checked_sub(roomy.ended);
        assert_eq!(living, Some(roomy.inventory.len()), "what was told differs");
        assert!(tight.inventory.len() <= 2);
        roomy.inventory.table.assert_consistent();
        tight.inventory.table.assert_consistent();
    }
}

struct Replay {
    inventory: Inventory,
    held: Vec<Held>,
    begun: usize,
    ended: usize,
}

impl Replay {
    fn new(limit: usize) -> Self {
        Self {
            inventory: Inventory::new(limit),
            held: Vec::new(),
            begun: 0,
            ended: 0,
        }
    }

    fn step(&mut self, bytes: &[u8]) {
        let changes = match decode(bytes) {
            Ok(Record::Opened(seen)) => self.inventory.opened(*seen),
            Ok(Record::Closed(seen)) => self.inventory.closed(*seen),
            Ok(Record::Held(held)) => {
                self.held.push(*held);
                return;
            }
            Ok(_) => return,
            Err(_) => match Header::read_from_prefix(bytes) {
                Ok((header, _)) if header.kind == DEED => self.deed(&header),
                _ => return,
            },
        };
        self.read(&changes);
    }

    fn deed(&mut self, header: &Header) -> Vec<Change> {
        let at = BootNs(header.boot_ns);
        let reason = match header.reserved {
            0 => MergeReason::Start,
            1 => MergeReason::Gap,
            2 => MergeReason::Beat,
            3 => MergeReason::Glance,
            4 => MergeReason::Hint,
            _ => return self.decide_what_waits(at, header.cpu),
        };
        let rows = std::mem::take(&mut self.held);
        let look = Snapshot::of_descriptors(at, rows, header.cpu & 1 == 0);
        self.inventory.merge(&look, reason).changes
    }

    /// What sock_diag would decide: every other one lives, in the order that `bits` has.
    fn decide_what_waits(&mut self, at: BootNs, bits: u32) -> Vec<Change> {
        let lives =
            |index: usize| bits.rotate_right(u32::try_from(index % 32).unwrap_or(0)) & 1 == 1;
        let suspects = self.inventory.suspects().iter().enumerate();
        let alive: HashSet<u64> = suspects
            .filter(|(index, _)| lives(*index))
            .map(|(_, suspect)| suspect.inode)
            .collect();
        let mut changes = self.inventory.resolve_suspects(&alive, at);
        for (index, id) in self.inventory.tentative_due(at).into_iter().enumerate() {
            if lives(index) {
                changes.extend(self.inventory.confirm(id, None, at));
            } else {
                self.inventory.refute(id);
            }
        }
        changes
    }

    fn read(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Opened { .. } | Change::Present { .. } => self.begun += 1,
                Change::Closed { .. } => self.ended += 1,
                Change::Changed { previous, .. } => assert!(!previous.is_empty()),
            }
        }
    }
}

/// The property of the target `netlink`.
pub fn netlink(bytes: &[u8]) {
    assert!(messages(bytes).count() <= bytes.len() / 16 + 1);
    assert!(attributes(bytes).count() <= bytes.len() / 4 + 1);
    let _ = refusal(bytes);
    for message in messages(bytes) {
        answer(message.payload);
    }
    answer(bytes);
    let value = bytes.get(..1000).unwrap_or(bytes);
    assert!(attributes(&attribute(7, value)).eq([(7, value)]));
}

fn answer(payload: &[u8]) {
    for (kind, protocol) in [(1, 6), (1, 262), (2, 17), (2, 136)] {
        let _ = tcp_socket(payload, 1);
        inet_row(payload, kind, protocol, 1)
            .iter()
            .for_each(assert_sound_row);
    }
    packet_row(payload, 1).iter().for_each(assert_sound_row);
    if let Some(row) = unix_row(payload, 1) {
        assert!(is_listener(&row.sock, row.unix.as_ref()));
        assert_sound_row(&row);
    }
}

/// `/proc/net`, and `/proc/PID/stat` in the one line before `status`, for the target `procfs`.
pub(crate) fn proc_texts(bytes: &[u8]) {
    let tables = Table::all().into_iter().filter_map(instead_of);
    for text in tables.chain(ALWAYS) {
        let rows = proc_net::rows(text, 1, bytes);
        rows.iter().for_each(assert_sound_row);
    }

    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(bytes.len());
    let (stat, status) = bytes.split_at(end);
    let task = holders::parse_task(7, stat, status, b"1000");
    if let (Some(task), Some(stat)) = (task, proc_parse::stat(stat)) {
        assert_eq!(task.comm, stat.comm, "two readers of stat disagree");
        assert_eq!((task.ppid, task.key.start), (stat.ppid, stat.start));
        assert_eq!(task.is_kthread, stat.is_kthread);
        let ids = proc_parse::ids(status);
        assert_eq!(
            ids,
            Some((task.uid, task.gid)),
            "two readers of status disagree"
        );
    }
}

/// A holder as events show it, for `daemon::fuzz`.
pub(crate) fn owner(held: &Held) -> Owner {
    super::listener::owner(&held.holder, Some(held.fd))
}

fn assert_sound_row(row: &Row) {
    assert_sound_sock(&row.sock);
    assert!(is_synthetic(row.sock.id) && row.sock.inode.is_some());
    assert!(row.unix.is_none() || row.sock.family == Family::Unix);
    row.unix.iter().for_each(assert_sound_name);
}

/// Lives of sockets: opened, found, merged, closed.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    use zerocopy::{FromZeros as _, IntoBytes as _};

    let deed = |reserved, cpu, boot_ns| {
        let mut header = Header::new_zeroed();
        header.kind = DEED;
        header.len = 32;
        (header.reserved, header.cpu, header.boot_ns) = (reserved, cpu, boot_ns);
        header.as_bytes().to_vec()
    };
    let samples = crate::decode::fuzz::seeds();
    let of = |wanted: &str| {
        let found = samples.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, bytes)| bytes.clone()).expect("a sample")
    };
    let at = |mut bytes: Vec<u8>, boot_ns: u64| {
        bytes[8..16].copy_from_slice(&boot_ns.to_ne_bytes());
        bytes
    };
    let (opened, held, closed) = (of("opened"), of("held"), of("closed"));
    vec![
        (
            "opened-closed",
            [opened.clone(), at(closed.clone(), 90)].concat(),
        ),
        (
            "found-vanished",
            [
                held.clone(),
                deed(0, 0, 70),
                deed(2, 0, 100),
                deed(9, 0, 110),
            ]
            .concat(),
        ),
        (
            "opened-in-flight",
            [
                opened,
                held,
                deed(3, 0, 70),
                deed(2, 0, 100),
                deed(9, 1, 110),
                deed(4, 1, 120),
                closed,
            ]
            .concat(),
        ),
        (
            "tentative",
            [of("tentative"), deed(9, 1, 9_000_000)].concat(),
        ),
        ("refuted", [of("tentative"), deed(9, 0, 9_000_000)].concat()),
        (
            "subflow",
            [of("mptcp"), of("subflow"), deed(1, 0, 99)].concat(),
        ),
    ]
}

/// Answers in the form of each table.
#[cfg(test)]
pub(crate) fn netlink_seeds() -> Vec<(&'static str, Vec<u8>)> {
    use super::netlink::message;

    let inet = {
        let mut reply = vec![2, 10, 0, 0, 0x1f, 0x90, 0, 0, 127, 0, 0, 1];
        reply.resize(72, 0);
        reply[44..52].copy_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0]);
        reply[60..64].copy_from_slice(&128_u32.to_ne_bytes());
        reply[68..72].copy_from_slice(&4242_u32.to_ne_bytes());
        [reply, attribute(11, &[1])].concat()
    };
    let unix = {
        let mut reply = vec![1, 1, 10, 0];
        reply.extend(4242_u32.to_ne_bytes());
        reply.extend([9, 0, 0, 0, 0, 0, 0, 0]);
        let lengths = [1_u32.to_ne_bytes(), 128_u32.to_ne_bytes()].concat();
        [reply, attribute(0, b"/run/x"), attribute(4, &lengths)].concat()
    };
    let packet = {
        let mut reply = vec![17, 3, 3, 0];
        reply.extend(4242_u32.to_ne_bytes());
        reply.extend([9, 0, 0, 0, 0, 0, 0, 0]);
        [reply, attribute(0, &2_u32.to_ne_bytes())].concat()
    };
    let abstract_name = [&unix[..16], &attribute(0, b"\0a\0b")].concat();
    let dump = [&inet, &unix, &packet]
        .map(|reply| message(20, 2, 7, reply))
        .concat();
    vec![
        ("dump", [dump, message(3, 0, 7, &[0; 4])].concat()),
        ("error", message(2, 0, 7, &(-2_i32).to_ne_bytes())),
        ("abstract", message(20, 2, 7, &abstract_name)),
        ("inet", inet),
        ("unix", unix),
        ("packet", packet),
    ]
}
