//! The process table that outlives processes: which image, name and parent a process had, bounded.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::proc_parse::{Layout, Slot, TICK_NS};
use crate::decode::record::{ExecSeen, ImageInfo, LifeSeen, ProcessKey};
use crate::time::BootNs;

/// What the fixed part of an entry costs in the maps together, in bytes (rounded up).
const ENTRY_BYTES: usize = 256;
/// Longest name kept (`TASK_COMM_LEN` without its NUL).
const NAME_LEN: usize = portwatch_common::task::COMM_LEN - 1;

/// Bounds of a [`ProcessTable`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most processes kept, living and dead.
    pub entries: usize,
    /// Most dead ones of those.
    pub dead: usize,
    /// Most memory used, in bytes, images included.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 32_768,
            dead: 4_096,
            bytes: 8 << 20,
        }
    }
}

/// Processes by pid and start. Starts are compared in ticks, because /proc knows no finer ones.
#[derive(Debug)]
pub struct ProcessTable {
    entries: HashMap<Slot, Entry>,
    /// Who goes first when room is needed: the dead by their death, then the living by their last use.
    order: BTreeMap<Rank, Slot>,
    living: HashMap<u32, Slot>,
    image_bytes: Arc<AtomicUsize>,
    stamp: u64,
    /// Images that were learned before this may have been replaced unseen.
    doubted: u64,
    limits: Limits,
}

#[derive(Debug)]
struct Entry {
    key: ProcessKey,
    parent: Option<ProcessKey>,
    image: Option<Arc<Kept>>,
    rank: Rank,
    name: Name,
    /// When the image was learned.
    learned: u64,
    asked_proc: bool,
    /// The memory of the image, when /proc was read for it.
    layout: Option<Layout>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Dead(BootNs, u64),
    Living(u64),
}

impl ProcessTable {
    /// An empty table.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            living: HashMap::new(),
            image_bytes: Arc::default(),
            stamp: 0,
            doubted: 0,
            limits,
        }
    }

    /// A process replaced its image. Even an image that could not be read whole replaces the old one,
    /// which is certainly wrong now.
    pub fn on_exec(&mut self, exec: &ExecSeen) {
        let parent = self.current(exec.task.ppid);
        let image = self.keep(exec.image.clone());
        let learned = self.next_stamp();
        let entry = self.entry(exec.task.key, exec.at);
        entry.name = Name::new(&exec.task.comm);
        entry.image = Some(image);
        entry.learned = learned;
        entry.parent = entry.parent.or(parent);
        entry.asked_proc = false;
        self.evict();
    }

    /// A process was made; it runs its parent's image until it replaces it.
    pub fn on_fork(&mut self, fork: &LifeSeen) {
        let parent = fork.parent.or_else(|| self.current(fork.task.ppid));
        let of_parent = parent.and_then(|key| self.entries.get(&key.into()));
        let inherited = of_parent.and_then(|entry| entry.image.clone());
        // What is doubted in the parent is in the child.
        let learned = of_parent.map_or(0, |entry| entry.learned);
        let entry = self.entry(fork.task.key, fork.at);
        entry.parent = parent;
        // Its own exec may have come first, through another ring.
        if entry.image.is_none() {
            entry.image = inherited;
            entry.learned = learned;
            entry.name = Name::new(&fork.task.comm);
        }
        self.evict();
    }

    /// A process ended. It is kept until the room is needed.
    pub fn on_exit(&mut self, exit: &LifeSeen) {
        let entry = self.entry(exit.task.key, exit.at);
        if is_another(entry.key, exit.task.key) {
            return;
        }
        entry.name = Name::new(&exit.task.comm);
        self.bury(exit.task.key.into(), exit.at);
        self.evict();
    }

    /// Records of new images were lost: every image that is known now may have been replaced since. It is
    /// not told any more until it is learned anew.
    pub fn doubt(&mut self) {
        self.doubted = self.next_stamp();
    }

    /// Is what is known of this process's image in doubt?
    #[must_use]
    pub fn is_doubted(&self, key: ProcessKey) -> bool {
        self.find(key)
            .is_some_and(|entry| entry.image.is_some() && entry.learned < self.doubted)
    }

    /// What another source (/proc, a listener's record) knows of a process. It fills what is missing or
    /// in doubt and replaces nothing else, because lifecycle records are newer.
    pub fn learn(
        &mut self,
        key: ProcessKey,
        name: &[u8],
        parent: Option<ProcessKey>,
        image: Option<&ImageInfo>,
        now: BootNs,
    ) {
        let kept = image
            .filter(|_| self.image(key).is_none_or(|known| known.exe.is_none()))
            .map(|image| self.keep(image.clone()));
        let learned = self.next_stamp();
        let entry = self.entry(key, now);
        if entry.name.is_empty() {
            entry.name = Name::new(name);
        }
        entry.parent = entry.parent.or(parent);
        if kept.is_some() {
            entry.image = kept;
            entry.learned = learned;
        }
        self.evict();
    }

    /// What /proc says of a living process now, where nothing tells of new images, or records of them
    /// were lost. `image` comes without
    /// arguments, because reading them may wait: those that are known stay, as long as the layout shows
    /// that they are of this image.
    pub(super) fn renew(
        &mut self,
        key: ProcessKey,
        name: &[u8],
        image: ImageInfo,
        layout: Option<Layout>,
        now: BootNs,
    ) {
        let learned = self.next_stamp();
        let entry = self.entry(key, now);
        entry.learned = learned;
        let known = entry.image.clone();
        let known = known.filter(|known| {
            layout.is_some() && entry.layout == layout && known.image.exe_inode == image.exe_inode
        });
        entry.name = Name::new(name);
        entry.layout = layout;
        let image = match &known {
            Some(known) => ImageInfo {
                args: known.image.args.clone(),
                args_truncated: known.image.args_truncated,
                ..image
            },
            None => image,
        };
        if known.is_none_or(|known| known.image != image) {
            let kept = self.keep(image);
            if let Some(entry) = self.entries.get_mut(&key.into()) {
                entry.image = Some(kept);
            }
        }
        self.evict();
    }

    /// The layout of a process, read before the image that was learned.
    pub(super) fn learn_layout(&mut self, key: ProcessKey, layout: Option<Layout>) {
        if let Some(entry) = self.entries.get_mut(&key.into()) {
            entry.layout = entry.layout.or(layout);
        }
    }

    /// The arguments were read later than the rest of the image.
    pub fn learn_args(&mut self, key: ProcessKey, args: &[Vec<u8>], truncated: bool) {
        let Some(image) = self.image(key).filter(|image| image.args.is_none()) else {
            return;
        };
        let image = ImageInfo {
            args: Some(args.to_vec()),
            args_truncated: truncated,
            ..image.clone()
        };
        let kept = self.keep(image);
        if let Some(entry) = self.entries.get_mut(&key.into()) {
            entry.image = Some(kept);
        }
        self.evict();
    }

    /// The image a process runs, or ran last; none that is in doubt.
    #[must_use]
    pub fn image(&self, key: ProcessKey) -> Option<&ImageInfo> {
        let entry = self.find(key)?;
        let kept = entry.image.as_deref()?;
        (entry.learned >= self.doubted).then_some(&kept.image)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self, key: ProcessKey) -> Option<&[u8]> {
        let entry = self.find(key)?;
        Some(entry.name.bytes()).filter(|name| !name.is_empty())
    }

    /// The process that made it.
    #[must_use]
    pub fn parent(&self, key: ProcessKey) -> Option<ProcessKey> {
        self.find(key)?.parent
    }

    /// The living process with this pid.
    #[must_use]
    pub fn current(&self, pid: u32) -> Option<ProcessKey> {
        let slot = self.living.get(&pid)?;
        self.entries.get(slot).map(|entry| entry.key)
    }

    /// Notes a use, so that of the living those in use stay longest.
    pub fn touch(&mut self, key: ProcessKey) {
        self.stamp += 1;
        let slot = Slot::from(key);
        if let Some(entry) = self.entries.get_mut(&slot)
            && matches!(entry.rank, Rank::Living(_))
        {
            self.order.remove(&entry.rank);
            entry.rank = Rank::Living(self.stamp);
            self.order.insert(entry.rank, slot);
        }
    }

    /// True once for each image of a process: whether /proc may still be asked for it.
    pub(super) fn may_ask_proc(&mut self, key: ProcessKey) -> bool {
        self.entries
            .get_mut(&key.into())
            .is_none_or(|entry| !std::mem::replace(&mut entry.asked_proc, true))
    }

    /// Processes kept, living and dead.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Memory in use, in bytes, to within the maps' spare room.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries.len() * ENTRY_BYTES + self.image_bytes.load(Ordering::Relaxed)
    }

    /// The entry of exactly this process.
    fn find(&self, key: ProcessKey) -> Option<&Entry> {
        let entry = self.entries.get(&key.into())?;
        (!is_another(entry.key, key)).then_some(entry)
    }

    /// The entry of a process, made when there is none. One of a process that had the same pid earlier in
    /// the same tick gives way.
    fn entry(&mut self, key: ProcessKey, at: BootNs) -> &mut Entry {
        let slot = Slot::from(key);
        if let Some(entry) = self.entries.get(&slot)
            && is_another(entry.key, key)
            && entry.key.start < key.start
        {
            self.order.remove(&entry.rank);
            self.entries.remove(&slot);
        }
        let rank = match self.entries.get(&slot) {
            Some(entry) => entry.rank,
            None => self.admit(slot, at),
        };
        let entry = self.entries.entry(slot).or_insert(Entry {
            key,
            parent: None,
            image: None,
            rank,
            name: Name::default(),
            learned: 0,
            asked_proc: false,
            layout: None,
        });
        // A start in nanoseconds is better than one that /proc cut to ticks.
        entry.key.start = entry.key.start.max(key.start);
        entry
    }

    /// Places a new process in the order. A living one that has the same pid must have ended unseen:
    /// of the two, the one that started earlier is dead.
    fn admit(&mut self, slot: Slot, at: BootNs) -> Rank {
        let rank = match self.living.get(&slot.pid).copied() {
            Some(other) if other.ticks > slot.ticks => Rank::Dead(at, self.next_stamp()),
            other => {
                if let Some(other) = other {
                    self.bury(other, at);
                }
                self.living.insert(slot.pid, slot);
                Rank::Living(self.next_stamp())
            }
        };
        self.order.insert(rank, slot);
        rank
    }

    fn bury(&mut self, slot: Slot, at: BootNs) {
        let stamp = self.next_stamp();
        if self.living.get(&slot.pid) == Some(&slot) {
            self.living.remove(&slot.pid);
        }
        if let Some(entry) = self.entries.get_mut(&slot)
            && matches!(entry.rank, Rank::Living(_))
        {
            self.order.remove(&entry.rank);
            entry.rank = Rank::Dead(at, stamp);
            self.order.insert(entry.rank, slot);
        }
    }

    fn evict(&mut self) {
        // The last one stays: it is the one just entered, whatever it weighs.
        while self.entries.len() > self.limits.entries.max(1)
            || self.entries.len() - self.living.len() > self.limits.dead.max(1)
            || (self.entries.len() > 1 && self.bytes() > self.limits.bytes)
        {
            let Some((_, slot)) = self.order.pop_first() else {
                return;
            };
            self.entries.remove(&slot);
            if self.living.get(&slot.pid) == Some(&slot) {
                self.living.remove(&slot.pid);
            }
        }
    }

    fn keep(&self, image: ImageInfo) -> Arc<Kept> {
        let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let args = image.args.iter().flatten();
        let bytes = size_of::<Kept>()
            + text(&image.exe)
            + text(&image.cwd)
            + args.map(|a| a.len() + 40).sum::<usize>();
        self.image_bytes.fetch_add(bytes, Ordering::Relaxed);
        Arc::new(Kept {
            image,
            bytes,
            total: Arc::clone(&self.image_bytes),
        })
    }

    fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }
}

/// Two processes that had the same pid within one tick: told by their starts, where both are known to
/// the nanosecond.
fn is_another(known: ProcessKey, key: ProcessKey) -> bool {
    let is_exact = |key: ProcessKey| !key.start.0.is_multiple_of(TICK_NS);
    is_exact(known) && is_exact(key) && known.start.0 != key.start.0
}

/// An image and its weight, which is given back when the last process that shares it is forgotten.
#[derive(Debug)]
struct Kept {
    image: ImageInfo,
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A process name in place, without an allocation of its own.
#[derive(Clone, Copy, Debug, Default)]
struct Name {
    len: u8,
    text: [u8; NAME_LEN],
}

impl Name {
    fn new(comm: &[u8]) -> Self {
        let mut name = Self::default();
        for (to, from) in name.text.iter_mut().zip(comm) {
            *to = *from;
            name.len += 1;
        }
        name
    }

    fn bytes(&self) -> &[u8] {
        self.text.get(..usize::from(self.len)).unwrap_or_default()
    }

    const fn is_empty(self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests;
