//! One listener as the inventory knows it, and the changes that the inventory tells of.

use std::sync::Arc;

use crate::decode::record::{ListenerSeen, SockId, SockInfo, TaskInfo, UnixName, Who};
use crate::event::{Mechanism, Owner, Process};
use crate::text::escape;
use crate::time::BootNs;

/// A socket that can receive, now.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// The socket; `sock.id` is the inventory's key for it.
    pub sock: SockInfo,
    /// Its unix name.
    pub unix: Option<UnixName>,
    /// Who was seen opening it.
    pub opener: Option<Arc<Who>>,
    /// Who stands for it when nobody was seen opening it: of the holders the one that
    /// started first, and pid 1 only when it is alone.
    pub holder: Option<Arc<Who>>,
    /// The resolved process, once the pipeline has set it.
    pub process: Option<Arc<Process>>,
    /// Every process that holds it, by pid.
    pub owners: Vec<Owner>,
    /// When it was seen opening.
    pub opened_at: Option<BootNs>,
    /// When it was first known.
    pub first_seen: BootNs,
    /// How it became known.
    pub mechanism: Mechanism,
}

impl Listener {
    /// A listener that was seen opening. A kernel thread is its opener, but holds no descriptor.
    pub(super) fn opened(seen: ListenerSeen) -> Self {
        let owners = if seen.who.task.is_kthread {
            Vec::new()
        } else {
            vec![owner(&seen.who.task, None)]
        };
        Self {
            sock: seen.sock,
            unix: seen.unix,
            opener: Some(Arc::new(seen.who)),
            holder: None,
            process: None,
            owners,
            opened_at: Some(seen.at),
            first_seen: seen.at,
            mechanism: seen.mechanism,
        }
    }

    /// The inventory's key.
    #[must_use]
    pub const fn id(&self) -> SockId {
        self.sock.id
    }

    /// Whom events name as the process: the opener, who answers for the socket even after it has handed
    /// it on (`owners` tells that); else the holder that stands for it.
    #[must_use]
    pub fn who(&self) -> Option<&Arc<Who>> {
        self.opener.as_ref().or(self.holder.as_ref())
    }
}

/// What a [`Change::Changed`] replaced; absent is unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Previous {
    /// Backlog.
    pub backlog: Option<u32>,
    /// Bound interface; `Some(None)` was every interface.
    pub ifindex: Option<Option<u32>>,
    /// IP protocol or ethertype.
    pub protocol_number: Option<Option<u16>>,
    /// Local address.
    pub local: Option<Option<std::net::IpAddr>>,
    /// Holders.
    pub owners: Option<Vec<Owner>>,
}

impl Previous {
    /// Nothing was different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Something that readers of the inventory must be told. The listener is as of this change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Seen opening.
    Opened {
        /// The listener.
        listener: Arc<Listener>,
    },
    /// Found, not seen opening.
    Present {
        /// The listener.
        listener: Arc<Listener>,
        /// When the snapshot passed it.
        at: BootNs,
    },
    /// Backlog, interface, protocol number, address or holders are different.
    Changed {
        /// The listener after the change.
        listener: Arc<Listener>,
        /// What was before.
        previous: Previous,
        /// When it was seen.
        at: BootNs,
        /// How it was seen.
        mechanism: Mechanism,
    },
    /// It can no longer receive.
    Closed {
        /// The listener as it was.
        listener: Arc<Listener>,
        /// When; for a reconciliation, when it was known to be gone.
        at: BootNs,
        /// How it was seen.
        mechanism: Mechanism,
        /// Nanoseconds that it listened, when its opening was seen.
        duration_ns: Option<u64>,
    },
}

impl Change {
    /// A closing, with the duration when the opening was seen.
    pub(super) fn closed(listener: Arc<Listener>, at: BootNs, mechanism: Mechanism) -> Self {
        let duration_ns = listener.opened_at.map(|opened| at.since(opened));
        Self::Closed {
            listener,
            at,
            mechanism,
            duration_ns,
        }
    }

    /// The listener it is about.
    #[must_use]
    pub fn listener(&self) -> &Listener {
        match self {
            Self::Opened { listener }
            | Self::Present { listener, .. }
            | Self::Changed { listener, .. }
            | Self::Closed { listener, .. } => listener,
        }
    }

    /// The same, for what is learned of it when it is told.
    pub fn listener_mut(&mut self) -> &mut Listener {
        Arc::make_mut(match self {
            Self::Opened { listener }
            | Self::Present { listener, .. }
            | Self::Changed { listener, .. }
            | Self::Closed { listener, .. } => listener,
        })
    }

    /// When it happened or was found.
    #[must_use]
    pub fn at(&self) -> BootNs {
        match self {
            Self::Opened { listener } => listener.first_seen,
            Self::Present { at, .. } | Self::Changed { at, .. } | Self::Closed { at, .. } => *at,
        }
    }

    /// How it was seen.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        match self {
            Self::Opened { listener } | Self::Present { listener, .. } => listener.mechanism,
            Self::Changed { mechanism, .. } | Self::Closed { mechanism, .. } => *mechanism,
        }
    }
}

/// A holder as events show it. One that has taken its own name away is called `?`.
pub(super) fn owner(task: &TaskInfo, fd: Option<u32>) -> Owner {
    let name = if task.comm.is_empty() {
        "?".to_owned()
    } else {
        escape(&task.comm)
    };
    Owner {
        pid: task.key.pid,
        name,
        fd,
    }
}

/// Who stands for a listener that nobody was seen opening: of its holders the one that started first,
/// because a master starts before the workers that inherit from it (pids wrap, start times do not);
/// but pid 1 only when it holds the socket alone, because under socket activation the service that it
/// passed the socket to is the one that answers.
pub(super) fn choose_holder<'a>(
    holders: impl IntoIterator<Item = &'a TaskInfo>,
) -> Option<&'a TaskInfo> {
    holders
        .into_iter()
        .min_by_key(|task| (task.key.pid == 1, task.key.start, task.key.pid))
}

#[cfg(test)]
mod tests {
    use super::{choose_holder, owner};
    use crate::inventory::fixture::task;
    use crate::time::BootNs;

    #[test]
    fn a_holder_always_has_a_name() {
        let mut nameless = task(7);
        assert_eq!(owner(&nameless, Some(3)).name, "p7");
        nameless.comm.clear();
        assert_eq!(owner(&nameless, Some(3)).name, "?");
    }

    #[test]
    fn the_oldest_holder_stands_for_a_listener_but_not_init() {
        let mut init = task(1);
        init.key.start = BootNs(0);
        let mut master = task(900);
        master.key.start = BootNs(10);
        let mut worker = task(300);
        worker.key.start = BootNs(20);
        let all = [worker, init.clone(), master];
        assert_eq!(choose_holder(&all).map(|task| task.key.pid), Some(900));
        assert_eq!(choose_holder([&init]).map(|task| task.key.pid), Some(1));
        assert_eq!(choose_holder([]), None);
    }
}
