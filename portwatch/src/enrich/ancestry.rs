//! The chain of parents, completed from the process table and from /proc.

use portwatch_common::task::MAX_ANCESTORS;

use super::Enricher;
use super::render;
use crate::decode::record::{ProcessKey, Who};
use crate::event::Ancestor;
use crate::time::BootNs;

impl Enricher {
    /// Parents of a process, nearest first: those of the record, else those that are known.
    pub(super) fn ancestors(&mut self, who: &Who, now: BootNs) -> Vec<Ancestor> {
        let chain = if who.ancestors.is_empty() {
            self.chain(who, now)
        } else {
            let recorded = who.ancestors.iter().take(MAX_ANCESTORS);
            recorded.map(|ancestor| ancestor.key).collect()
        };
        for (at, ancestor) in who.ancestors.iter().enumerate() {
            let parent = who.ancestors.get(at + 1).map(|parent| parent.key);
            self.table
                .learn(ancestor.key, &ancestor.comm, parent, None, now);
        }
        // The swapper, pid 0, is above all and says nothing.
        let named = chain
            .into_iter()
            .enumerate()
            .filter(|(_, key)| key.pid != 0);
        let named = named.map(|(at, key)| {
            let recorded = who.ancestors.get(at).map(|ancestor| &*ancestor.comm);
            self.ancestor(key, recorded.unwrap_or_default(), now)
        });
        named.collect()
    }

    /// One parent; `recorded` is its name at the time of the event, empty where that is not known.
    fn ancestor(&mut self, key: ProcessKey, recorded: &[u8], now: BootNs) -> Ancestor {
        self.renew(key, now);
        let known = self
            .table
            .image(key)
            .is_some_and(|image| image.exe.is_some());
        if !known
            && self.table.may_ask_proc(key)
            && let Some(process) = self.proc.open_same(key)
            && let Ok(image) = process.image()
        {
            self.table.learn(key, b"", None, Some(&image), now);
        }
        let name = match recorded {
            [] => self.table.name(key).unwrap_or_default(),
            recorded => recorded,
        };
        let exe = self.table.image(key).and_then(|image| image.exe.as_deref());
        render::ancestor(key.pid, name, exe)
    }

    /// Step by step: the table where it knows the parent, /proc where that lives.
    fn chain(&mut self, who: &Who, now: BootNs) -> Vec<ProcessKey> {
        let mut chain = Vec::new();
        let mut child = who.task.key;
        let mut ppid = who.task.ppid;
        while ppid != 0 && chain.len() < MAX_ANCESTORS {
            let made_by = self.table.parent(child).filter(|key| key.pid == ppid);
            // Where nothing tells of ends, the table may take another's process for the parent.
            let told = self.execs_are_told;
            let known = |enricher: &Self| enricher.table.current(ppid);
            let Some(parent) = made_by
                .or_else(|| told.then(|| known(self)).flatten())
                .or_else(|| self.ask_parent(ppid, now))
                .or_else(|| known(self))
            else {
                break;
            };
            self.table.learn(child, b"", Some(parent), None, now);
            chain.push(parent);
            child = parent;
            // Nobody is above init.
            ppid = match self.table.parent(parent) {
                _ if parent.pid == 1 => 0,
                Some(next) => next.pid,
                None => self
                    .proc
                    .open_same(parent)
                    .and_then(|process| process.stat())
                    .map_or(0, |stat| stat.ppid),
            };
        }
        chain
    }

    fn ask_parent(&mut self, pid: u32, now: BootNs) -> Option<ProcessKey> {
        let stat = self.proc.open(pid)?.stat()?;
        let key = ProcessKey {
            pid,
            start: stat.start,
        };
        self.table.learn(key, &stat.comm, None, None, now);
        Some(key)
    }
}
