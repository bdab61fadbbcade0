//! The loaded probes: rings, counters, switches, the inventory, and what was missed.

use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileExt as _;

use aya::Ebpf;
use aya::maps::{Array, HashMap as BpfHashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::Iter;
use portwatch_common::counters::{Counters, Ring};
use portwatch_common::listener::HeldRecord;
use portwatch_common::settings::Control;
use portwatch_common::share::Share;
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::load::LoadError;
use super::object::names;
use super::plan::{Attach, Program};
use super::spare;
use super::storms::StormMaps;
use crate::decode::record::SockId;
use crate::interface::status::ProbeCost;
use crate::ring::skipped::{Skipped, SpareRuns};

/// The counters as the machine words they are: aya reads plain old data only.
type CounterWords = [u64; size_of::<Counters>() / 8];
type ControlWords = [u64; size_of::<Control>() / 8];
type ShareWords = [u64; size_of::<Share>() / 8];

/// Bytes of one record of the inventory.
const HELD: usize = size_of::<HeldRecord>();
/// Most records that one inventory may give.
const MAX_INVENTORY: usize = 256 * 1024;
/// The kernel's own buffer for an iterator: more is never had in one read.
const READ_SIZE: usize = 32 * 1024;
/// More than a program's fdinfo is long.
const MAX_FDINFO: usize = 1024;
/// Whether the kernel counts what programs cost, which costs something itself.
const STATS_SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The rings, to be read by one task each.
pub struct Rings {
    /// Listeners.
    pub critical: RingBuf<MapData>,
    /// Process lifecycles.
    pub process: RingBuf<MapData>,
    /// Connection states.
    pub bulk: RingBuf<MapData>,
}

/// The loaded probes. Dropping them detaches everything: nothing stays in the kernel.
pub struct Sensors {
    ebpf: Ebpf,
    rings: Option<Rings>,
    counters: PerCpuArray<MapData, CounterWords>,
    control: Array<MapData, ControlWords>,
    tracked: BpfHashMap<MapData, u64, u64>,
    crowd: BpfHashMap<MapData, u64, ShareWords>,
    storms: StormMaps,
    /// The fdinfo of each program, where it can be had.
    fdinfo: Vec<(&'static str, File)>,
    /// Listeners have programs of their own, apart from connections.
    has_parts: bool,
    iterator: Option<&'static str>,
    switches: Control,
}

impl Sensors {
    /// Takes the maps of a loaded object.
    ///
    /// # Errors
    /// When a map is missing: the object was built from other sources.
    pub(super) fn new(mut ebpf: Ebpf, programs: &[Program]) -> Result<Self, LoadError> {
        let mut take = |name: &str| {
            ebpf.take_map(name)
                .ok_or_else(|| LoadError::Object(format!("the map {name} is missing")))
        };
        let wrong = |error: aya::maps::MapError| LoadError::Object(error.to_string());
        let rings = Rings {
            critical: RingBuf::try_from(take(names::CRITICAL)?).map_err(wrong)?,
            process: RingBuf::try_from(take(names::PROCESS)?).map_err(wrong)?,
            bulk: RingBuf::try_from(take(names::BULK)?).map_err(wrong)?,
        };
        let counters = PerCpuArray::try_from(take(names::COUNTERS)?).map_err(wrong)?;
        let control = Array::try_from(take(names::CONTROL)?).map_err(wrong)?;
        let tracked = BpfHashMap::try_from(take(names::TRACKED)?).map_err(wrong)?;
        let crowd = BpfHashMap::try_from(take(names::CROWD)?).map_err(wrong)?;
        let storms = StormMaps::new(&mut ebpf)?;
        let parts: Vec<Program> = programs.iter().filter_map(spare::part_of).collect();
        let programs_and_parts = || programs.iter().chain(&parts);
        let spares = programs_and_parts().filter_map(spare::of);
        let is_part = |name: &str| parts.iter().any(|part| part.name == name);
        let fdinfo: Vec<(&'static str, File)> = programs_and_parts()
            .copied()
            .chain(spares)
            .filter_map(|program| {
                let fd = ebpf.program(program.name)?.fd().ok()?;
                let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
                Some((program.name, File::open(path).ok()?))
            })
            .collect();
        let is_iterator = |program: &&Program| matches!(program.attach, Attach::Iter { .. });
        Ok(Self {
            ebpf,
            rings: Some(rings),
            counters,
            control,
            tracked,
            crowd,
            storms,
            has_parts: fdinfo.iter().any(|(name, _)| is_part(name)),
            fdinfo,
            iterator: programs
                .iter()
                .find(is_iterator)
                .map(|program| program.name),
            switches: Control {
                stream_states: 0,
                inventory_connections: 0,
                bulk_wakeup_bytes: 0,
            },
        })
    }

    /// The rings; once.
    pub fn take_rings(&mut self) -> Option<Rings> {
        self.rings.take()
    }

    /// The object, for attaching the log reader.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// The counters of all CPUs, summed.
    ///
    /// # Errors
    /// When the kernel refuses the read.
    pub fn counters(&self) -> std::io::Result<Counters> {
        let per_cpu = self.counters.get(&0, 0).map_err(std::io::Error::other)?;
        let per_cpu: Vec<Counters> = per_cpu
            .iter()
            .map(|words| zerocopy::transmute!(*words))
            .collect();
        Ok(Counters::sum(&per_cpu))
    }

    /// Records of listeners that were dropped, by cgroup id. Only cgroups that met a crowded ring are
    /// here; the one that met it longest ago may have been forgotten.
    #[must_use]
    pub fn crowd(&self) -> Vec<(u64, u64)> {
        let accounts = self.crowd.iter().flatten();
        let lost = accounts.filter_map(|(cgroup, words)| {
            let share = Share::read_from_bytes(words.as_bytes()).ok()?;
            Some((cgroup, share.lost))
        });
        lost.filter(|(_, lost)| *lost > 0).collect()
    }

    /// What is kept of storms.
    pub const fn storms(&mut self) -> &mut StormMaps {
        &mut self.storms
    }

    /// Streams connection states, or stops.
    ///
    /// # Errors
    /// When the kernel refuses the write.
    pub fn stream_states(&mut self, on: bool) -> std::io::Result<()> {
        self.switches.stream_states = u32::from(on);
        self.write_switches()
    }

    /// Sets how much may wait in the bulk ring before its reader is woken.
    ///
    /// # Errors
    /// When the kernel refuses the write.
    pub fn wake_bulk_at(&mut self, bytes: u64) -> std::io::Result<()> {
        self.switches.bulk_wakeup_bytes = bytes;
        self.write_switches()
    }

    /// Tells the probes of a listener that they did not see opening, so that its end is told.
    ///
    /// # Errors
    /// When the table is full.
    pub fn track(&mut self, id: SockId, backlog: u32) -> std::io::Result<()> {
        self.tracked
            .insert(id.0, u64::from(backlog), 0)
            .map_err(std::io::Error::other)
    }

    /// Forgets it: its end was found by looking. Whatever comes to lie at this address is not it.
    pub fn untrack(&mut self, id: SockId) {
        // No hook may have told of it, or one did and has forgotten it already.
        let _ = self.tracked.remove(&id.0);
    }

    /// Can [`Self::inventory`] be asked?
    #[must_use]
    pub const fn has_iterator(&self) -> bool {
        self.iterator.is_some()
    }

    /// Walks every descriptor of every task and hands over each [`HeldRecord`]. With `connections`, TCP
    /// connections too. Tells whether that was all: false when there were more than are taken.
    ///
    /// # Errors
    /// When there is no iterator, or the kernel refuses it.
    pub fn inventory(
        &mut self,
        connections: bool,
        take: &mut dyn FnMut(&[u8]),
    ) -> std::io::Result<bool> {
        if connections {
            self.switches.inventory_connections = 1;
            self.write_switches()?;
        }
        let result = self.walk(take);
        if connections {
            self.switches.inventory_connections = 0;
            self.write_switches()?;
        }
        result
    }

    /// How often each probe was skipped because it, or anything like it, ran already on that CPU; with what
    /// its spare one saw instead. `counters` were read before; a call under way may count for a moment.
    #[must_use]
    pub fn skipped(&self, counters: &Counters) -> Vec<Skipped> {
        let mut runs = HashMap::new();
        let mut bytes = [0; MAX_FDINFO];
        for (name, file) in &self.fdinfo {
            // Reading from the start makes the kernel write the text anew.
            let text = file.read_at(&mut bytes, 0).ok();
            let text = text.and_then(|len| str::from_utf8(bytes.get(..len)?).ok());
            if let Some(misses) = text.and_then(misses) {
                runs.insert(*name, misses);
            }
        }
        let first = self
            .fdinfo
            .iter()
            .filter(|(name, _)| !spare::is_spare(name));
        first
            .filter_map(|(name, _)| {
                let spare = spare::shared(name, counters).and_then(|shared| {
                    Some(SpareRuns {
                        skipped: *runs.get(shared.spare)?,
                        counted: shared.counted,
                    })
                });
                Some(Skipped {
                    probe: name,
                    runs: *runs.get(name)?,
                    spare,
                    is_unasked: spare::is_of_counts(name)
                        || (spare::is_of_connections(name)
                            && self.has_parts
                            && self.switches.stream_states == 0),
                })
            })
            .collect()
    }

    /// What each probe has cost, while the kernel counts it, or where it has counted before.
    #[must_use]
    pub fn costs(&self) -> Vec<ProbeCost> {
        let is_on = std::fs::read(STATS_SWITCH).is_ok_and(|text| text.starts_with(b"1"));
        let mut bytes = [0; MAX_FDINFO];
        let costs = self.fdinfo.iter().filter_map(|(name, file)| {
            let len = file.read_at(&mut bytes, 0).ok()?;
            let text = str::from_utf8(bytes.get(..len)?).ok()?;
            let (runs, run_ns) = cost(text)?;
            Some(ProbeCost {
                probe: (*name).to_owned(),
                runs,
                run_ns,
            })
        });
        let costs: Vec<ProbeCost> = costs.collect();
        let has_counted = costs.iter().any(|cost| cost.runs > 0);
        if is_on || has_counted {
            costs
        } else {
            Vec::new()
        }
    }

    fn walk(&mut self, take: &mut dyn FnMut(&[u8])) -> std::io::Result<bool> {
        let name = self
            .iterator
            .ok_or_else(|| std::io::Error::other("this kernel has no task_file iterator"))?;
        let program = self
            .ebpf
            .program_mut(name)
            .ok_or_else(|| std::io::Error::other("the iterator is not loaded"))?;
        let program: &mut Iter = program.try_into().map_err(std::io::Error::other)?;
        let link = program.attach().map_err(std::io::Error::other)?;
        let file: File = program
            .take_link(link)
            .map_err(std::io::Error::other)?
            .into_file()
            .map_err(std::io::Error::other)?;
        each_record(file, take)
    }

    fn write_switches(&mut self) -> std::io::Result<()> {
        let words = ControlWords::read_from_bytes(self.switches.as_bytes())
            .map_err(|_| std::io::Error::other("the switches do not fit their map"))?;
        self.control.set(0, words, 0).map_err(std::io::Error::other)
    }
}

/// Hands over whole records as they are read, so that a host full of sockets takes one buffer.
fn each_record(
    mut source: impl std::io::Read,
    take: &mut dyn FnMut(&[u8]),
) -> std::io::Result<bool> {
    let mut buffer = vec![0; READ_SIZE + HELD];
    let mut kept = 0;
    let mut taken = 0;
    loop {
        let room = buffer.get_mut(kept..).unwrap_or_default();
        let filled = match source.read(room) {
            Ok(0) => return Ok(kept == 0),
            Ok(read) => kept + read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for record in buffer.get(..filled).unwrap_or_default().chunks_exact(HELD) {
            if taken == MAX_INVENTORY {
                return Ok(false);
            }
            taken += 1;
            take(record);
        }
        kept = filled % HELD;
        buffer.copy_within(filled - kept..filled, 0);
    }
}

/// `recursion_misses` of a program's fdinfo; kernels before 5.12 do not tell.
fn misses(fdinfo: &str) -> Option<u64> {
    number(fdinfo, "recursion_misses:")
}

/// Runs, and their time in nanoseconds; kernels before 5.1 do not tell.
fn cost(fdinfo: &str) -> Option<(u64, u64)> {
    Some((number(fdinfo, "run_cnt:")?, number(fdinfo, "run_time_ns:")?))
}

/// A figure of a program's fdinfo.
fn number(fdinfo: &str, key: &str) -> Option<u64> {
    let line = fdinfo.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().parse().ok()
}

/// The name of a ring as events tell it.
#[must_use]
pub const fn ring_name(ring: Ring) -> crate::event::RingName {
    match ring {
        Ring::CRITICAL => crate::event::RingName::Critical,
        Ring::PROCESS => crate::event::RingName::Process,
        _ => crate::event::RingName::Bulk,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::{HELD, MAX_INVENTORY, cost, each_record, misses};

    #[test]
    fn recursion_misses_are_read_from_fdinfo() {
        let text = "pos:\t0\nprog_type:\t26\nrun_time_ns:\t3300\nrun_cnt:\t100\nrecursion_misses:\t17\nverified_insns:\t9\n";
        assert_eq!(misses(text), Some(17));
        assert_eq!(cost(text), Some((100, 3_300)));
        assert_eq!(cost("pos:\t0\nrun_cnt:\t100\n"), None);
        assert_eq!(misses("pos:\t0\n"), None);
    }

    /// Gives few bytes at a time, as a kernel may.
    struct Slowly<'a>(&'a [u8]);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let len = buffer.len().min(self.0.len()).min(100);
            buffer[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    #[test]
    fn records_are_put_together_from_whatever_is_read() {
        let bytes: Vec<u8> = (0..5).flat_map(|n| [n; HELD]).collect();
        let mut seen = Vec::new();
        let mut take = |record: &[u8]| seen.push((record[0], record.len(), record[HELD - 1]));
        assert!(each_record(Slowly(&bytes), &mut take).expect("read"));
        let cut = each_record(Slowly(&bytes[..HELD + 7]), &mut take).expect("read");
        assert!(!cut, "half a record is not all");
        let whole = |n| (n, HELD, n);
        assert_eq!(seen, [0, 1, 2, 3, 4, 0].map(whole));
    }

    #[test]
    fn an_inventory_without_end_is_cut_short_and_says_so() {
        let mut count = 0;
        let all = each_record(std::io::repeat(0), &mut |_| count += 1).expect("read");
        assert_eq!((all, count), (false, MAX_INVENTORY));
    }
}
