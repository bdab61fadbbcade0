//! Whole hash maps in a few system calls. aya walks a map with two of them an entry, and has no name for the commands of
//! 5.6 that take hundreds at once.
//!
//! A walk goes bucket by bucket and ends behind the last one, whoever adds and removes entries meanwhile. What is added or
//! gives way while it goes may be missing; nothing is told twice but what was removed and came again.

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use aya::maps::{Map, MapInfo};

use super::load::LoadError;

/// `BPF_MAP_LOOKUP_BATCH`.
const LOOKUP: c_long = 24;
/// `BPF_MAP_LOOKUP_AND_DELETE_BATCH`.
const REMOVE: c_long = 25;
/// Bytes that are asked for at once. No call holds the kernel up for long, and buffers stay small on hosts with many CPUs.
const ROOM: usize = 256 * 1024;
/// Entries that are asked for at once.
const ENTRIES: std::ops::RangeInclusive<usize> = 16..=1024;
/// A bucket with more entries than that cannot be read.
const BUCKET: usize = 65_536;
const WORD: usize = size_of::<u64>();

/// A hash map of the kernel whose keys and values are whole words; readable from any thread.
#[derive(Debug)]
pub(super) struct Table {
    map: OwnedFd,
    key: usize,
    value: usize,
}

/// `union bpf_attr`, its part `batch`.
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: i32,
    elem_flags: u64,
    flags: u64,
}

impl Table {
    /// A second handle on a map of a loaded object, whose values have a copy for each of so many CPUs where it has that kind.
    ///
    /// # Errors
    /// When it is no hash map, its sizes are not whole words, or there are no descriptors left.
    pub(super) fn new(name: &str, map: &Map, cpus: usize) -> Result<Self, LoadError> {
        let wrong = |why: String| LoadError::Object(format!("the map {name}: {why}"));
        let (data, copies) = match map {
            Map::HashMap(data) | Map::LruHashMap(data) => (data, 1),
            Map::PerCpuHashMap(data) | Map::PerCpuLruHashMap(data) => (data, cpus),
            _ => return Err(wrong("it is no hash map".to_owned())),
        };
        let info = data.info().map_err(|error| wrong(error.to_string()))?;
        Self::of(data.fd().as_fd(), &info, copies).map_err(|error| wrong(error.to_string()))
    }

    fn of(map: BorrowedFd<'_>, info: &MapInfo, copies: usize) -> io::Result<Self> {
        let words = |bytes: u32| {
            let bytes = usize::try_from(bytes).ok()?;
            (bytes > 0 && bytes.is_multiple_of(WORD)).then_some(bytes / WORD)
        };
        let sizes = words(info.key_size()).zip(words(info.value_size()));
        let (key, value) = sizes.ok_or_else(|| io::Error::other("its sizes are no whole words"))?;
        Ok(Self {
            map: map.try_clone_to_owned()?,
            key,
            value: value * copies.max(1),
        })
    }

    /// Hands over the words of each key and value; per-CPU values one after the other.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(super) fn walk(&self, each: &mut dyn FnMut(&[u64], &[u64])) -> io::Result<()> {
        self.walk_by(LOOKUP, each)
    }

    /// Removes everything.
    ///
    /// # Errors
    /// As [`Table::walk`]; what was removed until then is.
    pub(super) fn clear(&self) -> io::Result<()> {
        self.walk_by(REMOVE, &mut |_, _| {})
    }

    fn walk_by(&self, command: c_long, each: &mut dyn FnMut(&[u64], &[u64])) -> io::Result<()> {
        let fitting = ROOM / WORD / (self.key + self.value);
        let mut room = fitting.clamp(*ENTRIES.start(), *ENTRIES.end());
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let mut from: Option<u32> = None;
        loop {
            keys.resize(room * self.key, 0);
            values.resize(room * self.value, 0);
            let (count, next, answer) = self.some(command, from, &mut keys, &mut values);
            let is_last = match answer {
                Ok(()) => false,
                Err(error) => match error.raw_os_error() {
                    Some(libc::ENOENT) => true,
                    // A bucket has more entries than there was room for.
                    Some(libc::ENOSPC) if count == 0 && room < BUCKET => {
                        room *= 2;
                        continue;
                    }
                    Some(libc::EINTR) => continue,
                    _ => return Err(error),
                },
            };
            let entries = keys
                .chunks_exact(self.key)
                .zip(values.chunks_exact(self.value));
            for (key, value) in entries.take(count) {
                each(key, value);
            }
            if is_last {
                return Ok(());
            }
            from = Some(next);
        }
    }

    /// As many entries as fit, from this bucket on: how many there were, and the bucket behind them.
    fn some(
        &self,
        command: c_long,
        from: Option<u32>,
        keys: &mut [u64],
        values: &mut [u64],
    ) -> (usize, u32, io::Result<()>) {
        let room = (keys.len() / self.key).min(values.len() / self.value);
        let mut next = 0_u32;
        let address = |place: *const u32| place.expose_provenance() as u64;
        let mut batch = Batch {
            in_batch: from.as_ref().map_or(0, |from| address(from)),
            out_batch: (&raw mut next).expose_provenance() as u64,
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: values.as_mut_ptr().expose_provenance() as u64,
            count: u32::try_from(room).unwrap_or(u32::MAX),
            map_fd: self.map.as_raw_fd(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: `batch` is the attribute of these commands, of the size that is told; the map is open, its keys and values
        // have `self.key` and `self.value` words, so `count` of them fit into the slices, which nobody else has; a hash map's
        // place is a `u32`, read at `in_batch` and written at `out_batch`, and both outlive the call.
        let answer =
            unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut batch, size_of::<Batch>()) };
        let answer = match answer {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        };
        let count = usize::try_from(batch.count).unwrap_or(usize::MAX);
        (count.min(room), next, answer)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aya::maps::{HashMap, MapData, PerCpuHashMap, PerCpuValues, loaded_maps};
    use aya::util::nr_cpus;

    use super::*;

    /// Another handle on the map that has so many places.
    fn table(places: u32, copies: usize) -> Table {
        let is_it = |info: &MapInfo| info.max_entries() == places;
        let info = loaded_maps().flatten().find(is_it).expect("made");
        let fd = info.fd().expect("open");
        Table::of(fd.as_fd(), &info, copies).expect("words")
    }

    fn may_make_maps() -> bool {
        let may = rustix::process::geteuid().is_root();
        if !may {
            eprintln!("left out: it needs root");
        }
        may
    }

    #[test]
    fn every_entry_is_read_once_and_removed() {
        const PLACES: u32 = 5_003;
        if !may_make_maps() {
            return;
        }
        let mut map = HashMap::<MapData, [u64; 3], u64>::create(PLACES, 0).expect("a map");
        for n in 0..4_000 {
            map.insert([n, n * n, 7], n + 1, 0).expect("room");
        }
        let table = table(PLACES, 1);
        let mut found = BTreeMap::new();
        let read = table.walk(&mut |key, value| {
            assert_eq!((key[1], key[2]), (key[0] * key[0], 7));
            assert_eq!(found.insert(key[0], value[0]), None, "told twice");
        });
        read.expect("read");
        assert!(found.into_iter().eq((0..4_000).map(|n| (n, n + 1))));
        table.clear().expect("removed");
        assert_eq!(map.keys().count(), 0);
        table.walk(&mut |_, _| panic!("empty")).expect("read");
    }

    #[test]
    fn each_cpu_has_a_value() {
        const PLACES: u32 = 5_009;
        if !may_make_maps() {
            return;
        }
        let cpus = nr_cpus().expect("some");
        let mut map = PerCpuHashMap::<MapData, u64, [u64; 12]>::create(PLACES, 0).expect("a map");
        for n in 0..100_u64 {
            let values: Vec<[u64; 12]> = (0..cpus as u64).map(|cpu| [n + cpu; 12]).collect();
            let values = PerCpuValues::try_from(values).expect("of each");
            map.insert(n, values, 0).expect("room");
        }
        let mut count = 0;
        let read = table(PLACES, cpus).walk(&mut |key, value| {
            count += 1;
            assert_eq!(value.len(), cpus * 12);
            for (value, cpu) in value.chunks(12).zip(0..) {
                assert_eq!(value, [key[0] + cpu; 12]);
            }
        });
        read.expect("read");
        assert_eq!(count, 100);
    }
}
