//! The part of a reading of storms that no probe keeps: queues, half-open connections, counters of the namespaces, and
//! whose sockets their peer has closed. Looked at on a blocking thread.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use portwatch_common::socket::TcpState;

use crate::decode::record::TaskInfo;
use crate::inventory::tcp::{self, Looked, Spaces};
use crate::storm::{
    ListenerKey, ListenerReading, NamespaceReading, PortUse, ProcessReading, Reading,
};

/// Sockets that their peer has closed, from which on their processes are looked for.
pub(super) const CLOSE_WAIT_FLOOR: i64 = 32;
/// The same, of which owners are looked for, at most.
const CLOSE_WAIT_MAX: usize = 65_536;
/// Local ports below are those of services, where nobody has moved the range.
const EPHEMERAL: u16 = 16_384;
/// Peers that are told apart when local ports run out.
const PEERS_MAX: usize = 65_536;
/// A start that `/proc` tells has the clock tick's grain, ns; and a pid that comes again has another one.
const GRAIN: u64 = 20_000_000;

/// Queues of a listener.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    /// Of the fullest socket: how many wait for `accept`, and how many may.
    fullest: (u32, u32),
    /// Of all sockets of the port, each of which gets its part of the SYNs.
    backlog: u32,
}

/// What a look outside of the probes' maps found.
#[derive(Default)]
pub(super) struct Outside {
    looked: Looked,
    half_open: HashMap<ListenerKey, u32>,
    queues: HashMap<ListenerKey, Queue>,
    close_wait: HashMap<u32, (TaskInfo, u32)>,
    busiest: HashMap<u32, PortUse>,
}

/// Looks at sockets of these namespaces in these states (a bit each), listeners always among them.
///
/// # Errors
/// `/proc` cannot be read at all.
pub(super) fn look_outside(spaces: &Spaces, states: u32) -> std::io::Result<Outside> {
    let mut half_open: HashMap<ListenerKey, u32> = HashMap::new();
    let mut queues: HashMap<ListenerKey, Queue> = HashMap::new();
    let mut closed = HashSet::new();
    let mut towards: HashMap<(u32, IpAddr, u16), u32> = HashMap::new();
    let wants_busiest = states & 1 << TcpState::TIME_WAIT.0 != 0;
    let looked = spaces.look(states, &mut |socket| {
        let key = ListenerKey {
            netns: socket.netns,
            is_v6: socket.is_v6,
            port: socket.port,
        };
        match socket.state {
            TcpState::LISTEN => {
                let queue = queues.entry(key).or_default();
                queue.fullest = queue.fullest.max(socket.queue);
                queue.backlog = queue.backlog.saturating_add(socket.queue.1);
            }
            TcpState::SYN_RECV => *half_open.entry(key).or_default() += 1,
            TcpState::CLOSE_WAIT if socket.inode != 0 && closed.len() < CLOSE_WAIT_MAX => {
                closed.insert(u64::from(socket.inode));
            }
            _ => {}
        }
        let is_taken = matches!(socket.state, TcpState::TIME_WAIT | TcpState::ESTABLISHED);
        // What a service's port has seen takes no other port, and the kernel takes those of loopback again.
        let is_outward = socket.port >= EPHEMERAL && !socket.peer.is_loopback();
        if wants_busiest && is_taken && is_outward {
            let peer = (socket.netns, socket.peer, socket.peer_port);
            if towards.len() < PEERS_MAX || towards.contains_key(&peer) {
                *towards.entry(peer).or_default() += 1;
            }
        }
    });
    let mut busiest: HashMap<u32, PortUse> = HashMap::new();
    for ((netns, peer, port), taken) in towards {
        let one = PortUse { peer, port, taken };
        let most = busiest.entry(netns).or_insert(one);
        if taken > most.taken {
            *most = one;
        }
    }
    if states & 1 << TcpState::SYN_RECV.0 != 0 {
        for key in queues.keys() {
            half_open.entry(*key).or_default();
        }
    }
    let mut close_wait: HashMap<u32, (TaskInfo, u32)> = HashMap::new();
    if closed.len() >= usize::try_from(CLOSE_WAIT_FLOOR).unwrap_or_default() {
        for owner in tcp::owners(&closed)?.into_values() {
            close_wait.entry(owner.key.pid).or_insert((owner, 0)).1 += 1;
        }
    }
    Ok(Outside {
        looked,
        half_open,
        queues,
        close_wait,
        busiest,
    })
}

impl Outside {
    /// A namespace was not where it had been found.
    pub(super) const fn has_moved(&self) -> bool {
        self.looked.has_moved
    }
}

/// Adds what was looked at elsewhere.
pub(super) fn complete(reading: &mut Reading, mut outside: Outside) {
    for listener in &mut reading.listeners {
        listener.half_open = outside.half_open.remove(&listener.key);
        let queue = outside.queues.remove(&listener.key);
        listener.accept_queue = queue.map(|queue| queue.fullest);
        listener.backlog = queue.map(|queue| queue.backlog);
    }
    // Without probes there are no cells, but queues.
    for (key, queue) in outside.queues {
        reading.listeners.push(ListenerReading {
            key,
            syns: None,
            accepted: None,
            unanswered: None,
            resets: None,
            half_open: outside.half_open.remove(&key),
            accept_queue: Some(queue.fullest),
            backlog: Some(queue.backlog),
            peers: Vec::new(),
        });
    }
    for process in &mut reading.processes {
        let of = outside.close_wait.get(&process.pid);
        if of.is_some_and(|(task, _)| process.start.abs_diff(task.key.start.0) < GRAIN) {
            let removed = outside.close_wait.remove(&process.pid);
            process.close_wait = removed.map(|(_, count)| count);
        }
        // All of them were looked at, or there are too few of them to look.
        process.close_wait.get_or_insert(0);
    }
    for (task, count) in outside.close_wait.into_values() {
        reading.processes.push(ProcessReading {
            pid: task.key.pid,
            start: task.key.start.0,
            connects: None,
            failed: None,
            close_wait: Some(count),
            peers: Vec::new(),
        });
    }
    reading.namespaces = outside
        .looked
        .spaces
        .into_iter()
        .map(|(netns, space)| NamespaceReading {
            netns,
            cookies_sent: space.mib.cookies_sent,
            cookies_received: space.mib.cookies_received,
            listen_overflows: space.mib.listen_overflows,
            listen_drops: space.mib.listen_drops,
            syn_queue_full: space.mib.syn_queue_full,
            resets_sent: space.mib.resets_sent,
            refused: space.mib.failed_attempts,
            reset_connections: space.mib.reset_connections,
            udp_no_ports: space.mib.udp_no_ports,
            time_wait: space.mib.time_wait,
            orphans: space.mib.orphans,
            ephemeral_ports: space.ephemeral_ports,
            busiest: outside.busiest.get(&netns).copied(),
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use portwatch_common::socket::TcpState;

    use super::{Outside, Queue, Spaces, complete};
    use crate::decode::record::{ProcessKey, TaskInfo};
    use crate::storm::{ListenerKey, ListenerReading, ProcessReading, Reading};
    use crate::time::BootNs;

    fn task(pid: u32, start: u64) -> TaskInfo {
        TaskInfo {
            key: ProcessKey {
                pid,
                start: BootNs(start),
            },
            tid: pid,
            ppid: 1,
            uid: 0,
            gid: 0,
            loginuid: None,
            cgroup_id: 0,
            comm: b"leaky".to_vec(),
            is_kthread: false,
        }
    }

    fn process(pid: u32, start: u64) -> ProcessReading {
        ProcessReading {
            pid,
            start,
            connects: Some(1),
            failed: None,
            close_wait: None,
            peers: Vec::new(),
        }
    }

    #[test]
    fn queues_join_their_cells_and_stand_alone_without() {
        let key = |port| ListenerKey {
            netns: 1,
            is_v6: false,
            port,
        };
        let queue = |fullest, backlog| Queue { fullest, backlog };
        let mut reading = Reading::default();
        reading.listeners.push(ListenerReading {
            key: key(80),
            syns: Some(9),
            accepted: Some(1),
            unanswered: None,
            resets: None,
            half_open: None,
            accept_queue: None,
            backlog: None,
            peers: Vec::new(),
        });
        let outside = Outside {
            queues: [(key(80), queue((3, 128), 256)), (key(81), queue((0, 5), 5))].into(),
            half_open: [(key(80), 7)].into(),
            ..Outside::default()
        };
        complete(&mut reading, outside);
        let known = &reading.listeners[0];
        assert_eq!(
            (known.half_open, known.accept_queue, known.backlog),
            (Some(7), Some((3, 128)), Some(256))
        );
        let other = &reading.listeners[1];
        assert_eq!(
            (other.key, other.syns, other.accept_queue),
            (key(81), None, Some((0, 5)))
        );
    }

    #[test]
    fn a_pid_that_came_again_is_another_process() {
        let mut reading = Reading {
            processes: vec![process(7, 1_000_000_000), process(8, 5_000_000_000)],
            ..Reading::default()
        };
        let outside = Outside {
            close_wait: [
                (7, (task(7, 1_000_000_000), 40)),
                (8, (task(8, 9_000_000_000), 50)),
            ]
            .into(),
            ..Outside::default()
        };
        complete(&mut reading, outside);
        let told: Vec<_> = reading
            .processes
            .iter()
            .map(|one| (one.pid, one.start, one.close_wait))
            .collect();
        assert_eq!(
            told,
            [
                (7, 1_000_000_000, Some(40)),
                (8, 5_000_000_000, Some(0)),
                (8, 9_000_000_000, Some(50)),
            ]
        );
    }

    #[test]
    fn listeners_are_always_looked_at() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let spaces = Spaces::find().expect("found");
        let outside = super::look_outside(&spaces, 1 << TcpState::LISTEN.0).expect("looked");
        assert!(outside.queues.keys().any(|key| key.port == port));
        assert!(outside.half_open.is_empty(), "nobody asked");
        assert!(!outside.looked.spaces.is_empty());
    }
}
