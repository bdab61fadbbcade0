//! What snapshots make of the inventory, beside live records.

use std::collections::HashSet;

use portwatch_common::socket::TcpState;

use super::fixture::{closing, held, opening, tcp, udp, unix_path, unix_stream};
use super::live_test::kinds;
use super::snapshot::{Unheld, View};
use super::{Change, Inventory, MergeReason, Snapshot, synthetic_id};
use crate::decode::record::{Held, ListenerSeen, SockInfo};
use crate::event::{Mechanism, Protocol};
use crate::time::BootNs;

fn walk(began: u64, held: Vec<Held>) -> Snapshot {
    Snapshot::of_descriptors(BootNs(began), held, true)
}

fn merge(inventory: &mut Inventory, snapshot: &Snapshot) -> Vec<Change> {
    inventory.merge(snapshot, MergeReason::Beat).changes
}

/// The same socket as sock_diag knows it.
fn by_inode(sock: SockInfo) -> SockInfo {
    SockInfo {
        id: synthetic_id(sock.inode.unwrap_or_default()),
        cookie: Some(1),
        ..sock
    }
}

#[test]
fn a_hundred_thousand_sockets_are_each_known_and_their_holder_is_kept_once() {
    let mut inventory = Inventory::default();
    let count = 100_000;
    let rows: Vec<_> = (1..=count)
        .map(|n| held(11, tcp(n, n, (n % 60_000 + 1) as u16), 7, n as u32))
        .collect();
    let merged = inventory.merge(&walk(10, rows.clone()), MergeReason::Start);
    assert_eq!((merged.found, merged.checked), (count, count));
    assert_eq!(merged.changes.len(), inventory.len());
    let holders: HashSet<_> = inventory
        .iter()
        .filter_map(|listener| listener.holder.as_ref().map(std::sync::Arc::as_ptr))
        .collect();
    assert_eq!(holders.len(), 1);
    assert!(inventory.iter().all(|listener| listener.owners.len() == 1));
    let again = inventory.merge(&walk(20, rows), MergeReason::Beat);
    assert_eq!((again.changes, again.vanished), (Vec::new(), 0));
    assert!(inventory.suspects().is_empty());
}

#[test]
fn what_was_there_before_is_present_once() {
    let mut inventory = Inventory::default();
    let mut connection = tcp(3, 13, 80);
    connection.state = TcpState::ESTABLISHED;
    let mut named = held(11, unix_stream(2, 12), 7, 4);
    named.unix = Some(unix_path("/run/x"));
    let rows = vec![
        held(11, tcp(1, 11, 80), 7, 3),
        named,
        held(11, connection, 7, 5),
    ];
    let merged = inventory.merge(&walk(10, rows.clone()), MergeReason::Start);
    assert_eq!(kinds(&merged.changes), "PP");
    assert_eq!((merged.found, merged.checked), (2, 3));
    let first = merged.changes[0].listener();
    assert_eq!(first.mechanism, Mechanism::Snapshot);
    assert_eq!(first.who().map(|who| who.task.key.pid), Some(7));
    assert_eq!(merged.changes[1].listener().unix, Some(unix_path("/run/x")));
    assert_eq!(kinds(&merge(&mut inventory, &walk(20, rows))), "");
    let closed = inventory.closed(closing(30, tcp(1, 11, 80)));
    assert!(matches!(
        closed.as_slice(),
        [Change::Closed {
            duration_ns: None,
            ..
        }]
    ));
}

#[test]
fn what_live_records_told_is_not_told_again() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(15, tcp(1, 11, 80)));
    let rows = vec![held(16, tcp(1, 11, 80), 100, 3)];
    assert_eq!(kinds(&merge(&mut inventory, &walk(10, rows))), "");
    let fd = inventory.iter().next().and_then(|it| it.owners[0].fd);
    assert_eq!(fd, Some(3), "the snapshot knows the descriptor");
}

#[test]
fn a_late_opening_record_completes_a_present_listener() {
    let mut inventory = Inventory::default();
    let rows = vec![held(16, tcp(1, 11, 80), 100, 3)];
    assert_eq!(kinds(&merge(&mut inventory, &walk(10, rows))), "P");
    assert_eq!(kinds(&inventory.opened(opening(15, tcp(1, 11, 80)))), "");
    let closed = inventory.closed(closing(35, tcp(1, 11, 80)));
    assert!(matches!(
        closed.as_slice(),
        [Change::Closed {
            duration_ns: Some(20),
            ..
        }]
    ));
}

#[test]
fn a_socket_closed_after_the_look_began_does_not_come_back() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(5, tcp(1, 11, 80)));
    inventory.closed(closing(12, tcp(1, 11, 80)));
    let mut without_inode = tcp(2, 12, 81);
    without_inode.inode = None;
    inventory.closed(closing(12, without_inode));
    let rows = vec![
        held(11, tcp(1, 11, 80), 100, 3),
        held(11, tcp(2, 12, 81), 100, 4),
    ];
    assert_eq!(kinds(&merge(&mut inventory, &walk(10, rows.clone()))), "");
    // A later look sees what is there again.
    assert_eq!(kinds(&merge(&mut inventory, &walk(20, rows))), "PP");
}

#[test]
fn a_socket_replaced_after_the_look_began_does_not_come_back() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(5, tcp(1, 11, 80)));
    assert_eq!(kinds(&inventory.opened(opening(12, tcp(1, 12, 80)))), "XO");
    inventory.closed(closing(13, tcp(1, 12, 80)));
    let rows = vec![held(11, tcp(1, 11, 80), 100, 3)];
    assert_eq!(kinds(&merge(&mut inventory, &walk(10, rows))), "");
}

#[test]
fn what_a_complete_look_misses_is_verified_before_it_is_closed() {
    let mut inventory = Inventory::default();
    for (id, inode) in [(1, 11), (2, 12)] {
        inventory.opened(opening(5, tcp(id, inode, 80)));
    }
    inventory.opened(opening(15, tcp(3, 13, 81)));
    let mut cut_short = walk(10, Vec::new());
    cut_short.complete = false;
    assert_eq!(kinds(&merge(&mut inventory, &cut_short)), "");
    assert!(inventory.suspects().is_empty());

    assert_eq!(kinds(&merge(&mut inventory, &walk(10, Vec::new()))), "");
    let inodes: Vec<u64> = inventory.suspects().iter().map(|s| s.inode).collect();
    assert_eq!(inodes, [11, 12], "13 was opened after the look began");
    let changes = inventory.resolve_suspects(&HashSet::from([12]), BootNs(30));
    assert_eq!(kinds(&changes), "X");
    assert_eq!(changes[0].listener().sock.inode, Some(11));
    assert_eq!(changes[0].mechanism(), Mechanism::Reconcile);
    assert_eq!(inventory.len(), 2);
}

#[test]
fn a_socket_in_flight_lives_on_and_loses_its_holder_after_two_looks() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(5, tcp(1, 11, 80)));
    let alive = HashSet::from([11]);
    merge(&mut inventory, &walk(10, Vec::new()));
    assert_eq!(kinds(&inventory.resolve_suspects(&alive, BootNs(11))), "");
    merge(&mut inventory, &walk(20, Vec::new()));
    let changes = inventory.resolve_suspects(&alive, BootNs(21));
    assert_eq!(kinds(&changes), "C");
    assert!(changes[0].listener().owners.is_empty());
}

#[test]
fn a_suspect_that_spoke_meanwhile_is_left_alone() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(5, tcp(1, 11, 80)));
    merge(&mut inventory, &walk(10, Vec::new()));
    let mut again = tcp(1, 11, 80);
    again.backlog = 1;
    inventory.opened(opening(12, again));
    assert_eq!(
        kinds(&inventory.resolve_suspects(&HashSet::new(), BootNs(13))),
        ""
    );
}

#[test]
fn a_kernels_own_socket_stays_though_no_look_shows_it() {
    let mut inventory = Inventory::default();
    let mut sock = tcp(1, 0, 2049);
    sock.inode = None;
    let mut seen = opening(5, sock);
    seen.who.task.is_kthread = true;
    inventory.opened(seen);
    assert_eq!(kinds(&merge(&mut inventory, &walk(10, Vec::new()))), "");
    assert_eq!((inventory.len(), inventory.suspects().len()), (1, 0));
}

#[test]
fn a_look_at_sockets_decides_by_itself() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(5, tcp(1, 11, 80)));
    inventory.opened(opening(5, tcp(2, 12, 81)));
    let mut elsewhere = tcp(3, 13, 82);
    elsewhere.netns = 9;
    inventory.opened(opening(5, elsewhere));
    let snapshot = Snapshot {
        view: View::Sockets,
        namespaces: HashSet::from([1]),
        unheld: vec![Unheld {
            at: BootNs(11),
            sock: by_inode(tcp(2, 12, 81)),
            unix: None,
        }],
        ..walk(10, Vec::new())
    };
    let changes = merge(&mut inventory, &snapshot);
    assert_eq!(kinds(&changes), "X");
    assert_eq!(changes[0].listener().sock.inode, Some(11));
    let inodes: Vec<u64> = inventory.suspects().iter().map(|s| s.inode).collect();
    assert_eq!(inodes, [13], "its namespace was not visited");
}

#[test]
fn a_synthetic_key_gives_way_to_the_address() {
    let mut inventory = Inventory::default();
    let rows = vec![held(11, by_inode(tcp(1, 11, 80)), 7, 3)];
    assert_eq!(kinds(&merge(&mut inventory, &walk(10, rows.clone()))), "P");
    let real = tcp(1, 11, 80);
    let seen = vec![held(21, real.clone(), 7, 3)];
    assert_eq!(kinds(&merge(&mut inventory, &walk(20, seen))), "");
    assert!(inventory.suspects().is_empty());
    assert!(inventory.get(real.id).is_some());
    // And the other way round: a look by inode finds the entry that has an address.
    assert_eq!(kinds(&merge(&mut inventory, &walk(30, rows))), "");
    assert_eq!(kinds(&inventory.closed(closing(40, real))), "X");
}

#[test]
fn owners_change_when_two_looks_agree() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(5, tcp(1, 11, 80)));
    let both = |at| {
        vec![
            held(at, tcp(1, 11, 80), 200, 3),
            held(at, tcp(1, 11, 80), 100, 9),
        ]
    };
    assert_eq!(kinds(&merge(&mut inventory, &walk(10, both(11)))), "");
    // A passing holder that the second look no longer shows is never told of.
    let one = vec![held(21, tcp(1, 11, 80), 100, 9)];
    assert_eq!(kinds(&merge(&mut inventory, &walk(20, one))), "");
    assert_eq!(kinds(&merge(&mut inventory, &walk(30, both(31)))), "");
    let mut turned = both(41);
    turned.reverse();
    let changes = merge(&mut inventory, &walk(40, turned));
    let [
        Change::Changed {
            listener, previous, ..
        },
    ] = changes.as_slice()
    else {
        panic!("{changes:?}");
    };
    let pids: Vec<u32> = listener.owners.iter().map(|owner| owner.pid).collect();
    assert_eq!(pids, [100, 200]);
    assert_eq!(previous.owners.as_ref().map(Vec::len), Some(1));
    assert_eq!(listener.who().map(|who| who.task.key.pid), Some(100));
}

#[test]
fn a_missed_second_listen_shows_in_the_backlog() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(5, tcp(1, 11, 80)));
    let mut sock = tcp(1, 11, 80);
    sock.backlog = 7;
    let row = |at, sock: &SockInfo| vec![held(at, sock.clone(), 100, 3)];
    let changes = merge(&mut inventory, &walk(10, row(11, &sock)));
    assert_eq!(kinds(&changes), "C");
    assert_eq!(changes[0].listener().sock.backlog, 7);
    // A row from before a live change says nothing.
    sock.backlog = 9;
    inventory.opened(opening(25, sock));
    assert_eq!(
        kinds(&merge(&mut inventory, &walk(20, row(21, &tcp(1, 11, 80))))),
        ""
    );
    // Nor does a row of `/proc/net`, which has no backlog.
    let text = Snapshot {
        view: View::Sockets,
        ..walk(30, row(31, &tcp(1, 11, 80)))
    };
    assert_eq!(kinds(&merge(&mut inventory, &text)), "");
}

#[test]
fn a_missed_shutdown_closes() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(5, tcp(1, 11, 80)));
    let mut shut = tcp(1, 11, 80);
    shut.state = TcpState::CLOSE;
    let rows = vec![held(11, shut, 100, 3)];
    assert_eq!(kinds(&merge(&mut inventory, &walk(10, rows))), "X");
}

#[test]
fn a_datagram_socket_that_connects_stays_a_listener() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(5, udp(1, 11, 53)));
    let mut connected = udp(1, 11, 53);
    connected.peer = connected.local;
    let rows = vec![held(11, connected, 100, 3)];
    assert_eq!(kinds(&merge(&mut inventory, &walk(10, rows))), "");
    assert!(inventory.suspects().is_empty());
}

#[test]
fn an_address_that_was_used_again_unseen_is_told_as_two() {
    let mut inventory = Inventory::default();
    inventory.opened(opening(5, tcp(1, 11, 80)));
    let rows = vec![held(11, tcp(1, 12, 81), 100, 3)];
    assert_eq!(kinds(&merge(&mut inventory, &walk(10, rows))), "XP");
    // The look may also be the older one.
    inventory.opened(opening(25, tcp(1, 13, 82)));
    let rows = vec![held(21, tcp(1, 12, 81), 100, 3)];
    assert_eq!(kinds(&merge(&mut inventory, &walk(20, rows))), "");
}

#[test]
fn a_look_validates_what_waits() {
    let mut inventory = Inventory::default();
    let wait = |at, sock| ListenerSeen {
        tentative: true,
        ..opening(at, sock)
    };
    inventory.opened(wait(5, tcp(1, 11, 0)));
    inventory.opened(wait(5, tcp(2, 12, 0)));
    inventory.opened(wait(15, tcp(3, 13, 0)));
    let rows = vec![held(11, by_inode(tcp(1, 11, 40_000)), 100, 3)];
    let changes = merge(&mut inventory, &walk(10, rows));
    assert_eq!(kinds(&changes), "O");
    assert_eq!(changes[0].listener().sock.port, Some(40_000));
    let inodes: Vec<u64> = inventory.suspects().iter().map(|s| s.inode).collect();
    assert_eq!(inodes, [12]);
    assert_eq!(
        kinds(&inventory.resolve_suspects(&HashSet::new(), BootNs(12))),
        ""
    );
    assert_eq!(
        inventory.tentative_due(BootNs(u64::MAX)),
        [tcp(3, 13, 0).id]
    );
}

#[test]
fn an_mptcp_socket_is_paired_with_its_subflow() {
    let mut inventory = Inventory::default();
    let mut subflow = tcp(1, 11, 80);
    subflow.protocol = Protocol::Mptcp;
    inventory.opened(opening(5, subflow.clone()));
    let mut itself = tcp(2, 12, 80);
    itself.protocol = Protocol::Mptcp;
    itself.protocol_number = Some(262);
    itself.backlog = 0;
    let rows = |at| vec![held(at, itself.clone(), 100, 3)];
    assert_eq!(kinds(&merge(&mut inventory, &walk(10, rows(11)))), "");
    assert_eq!(kinds(&merge(&mut inventory, &walk(20, rows(21)))), "");
    assert!(inventory.suspects().is_empty());
    // Gone without a word: the socket that the program held is asked for.
    merge(&mut inventory, &walk(30, Vec::new()));
    assert_eq!(inventory.suspects()[0].inode, 12);
    assert_eq!(
        kinds(&inventory.resolve_suspects(&HashSet::from([12]), BootNs(31))),
        ""
    );
    assert_eq!(kinds(&inventory.closed(closing(40, subflow))), "X");
    assert_eq!(kinds(&inventory.closed(closing(41, itself))), "");

    let mut other = tcp(4, 14, 80);
    other.protocol = Protocol::Mptcp;
    other.reuseport = true;
    inventory.opened(opening(50, other.clone()));
    let mut stranger = tcp(5, 15, 80);
    stranger.protocol = Protocol::Mptcp;
    stranger.protocol_number = Some(262);
    let changes = merge(&mut inventory, &walk(45, vec![held(51, stranger, 999, 3)]));
    assert_eq!(kinds(&changes), "P", "a shared port may have two listeners");
}

#[test]
fn an_mptcp_socket_that_shares_its_subflows_file_is_one_listener() {
    let mut inventory = Inventory::default();
    let mut subflow = tcp(1, 11, 80);
    subflow.protocol = Protocol::Mptcp;
    let mut itself = tcp(2, 11, 80);
    itself.protocol = Protocol::Mptcp;
    itself.protocol_number = Some(262);
    let rows = |at| vec![held(at, itself.clone(), 100, 3)];
    inventory.opened(opening(5, subflow.clone()));
    assert_eq!(kinds(&merge(&mut inventory, &walk(10, rows(11)))), "");
    assert_eq!(
        inventory.get(subflow.id).map(super::Listener::id),
        Some(subflow.id)
    );
    assert_eq!(kinds(&inventory.closed(closing(15, itself.clone()))), "X");
    assert_eq!(kinds(&inventory.closed(closing(15, subflow.clone()))), "");

    assert_eq!(kinds(&merge(&mut inventory, &walk(20, rows(21)))), "P");
    assert_eq!(kinds(&inventory.opened(opening(19, subflow))), "");
    assert_eq!(inventory.len(), 1);
}

#[test]
fn a_full_table_leaves_out_what_only_a_look_shows() {
    let mut inventory = Inventory::new(1);
    let rows = vec![
        held(11, tcp(1, 11, 80), 7, 3),
        held(11, tcp(2, 12, 81), 7, 4),
    ];
    assert_eq!(kinds(&merge(&mut inventory, &walk(10, rows))), "P");
    assert_eq!(inventory.counts().untracked, 1);
}
