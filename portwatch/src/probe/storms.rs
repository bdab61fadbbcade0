//! What the probes keep of storms: cells of listeners, processes that connect, who knocks; and their thresholds.
//!
//! Cells are read one by one, since user space made them and knows them; the LRU tables are walked, with an end to the
//! walk: entries that give way meanwhile would lead it round and round.

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues};
use aya::util::nr_cpus;
use portwatch_common::storm::{
    Cell, CellKey, Opening, PEERS, PROCESSES, PeerKey, ProcessCell, ProcessId, SOURCES, Source,
    SourceKey, Thresholds,
};
use zerocopy::{IntoBytes as _, transmute};

use super::load::LoadError;
use super::object::names;

type CellWords = [u64; size_of::<Cell>() / 8];
type PeerWords = [u64; size_of::<PeerKey>() / 8];
type ProcessWords = [u64; size_of::<ProcessId>() / 8];
type ProcessCellWords = [u64; size_of::<ProcessCell>() / 8];
type OpeningWords = [u64; size_of::<Opening>() / 8];
type SourceKeyWords = [u64; size_of::<SourceKey>() / 8];
type SourceWords = [u64; size_of::<Source>() / 8];
type ThresholdWords = [u64; size_of::<Thresholds>() / 8];

/// The maps of storms.
pub struct StormMaps {
    cells: PerCpuHashMap<MapData, u64, CellWords>,
    peers: HashMap<MapData, PeerWords, u64>,
    processes: HashMap<MapData, ProcessWords, ProcessCellWords>,
    opening: PerCpuArray<MapData, OpeningWords>,
    sources: HashMap<MapData, SourceKeyWords, SourceWords>,
    thresholds: Array<MapData, ThresholdWords>,
    cpus: usize,
}

impl StormMaps {
    /// Takes them out of a loaded object.
    ///
    /// # Errors
    /// When one is missing: the object was built from other sources.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let mut take = |name: &str| {
            ebpf.take_map(name)
                .ok_or_else(|| LoadError::Object(format!("the map {name} is missing")))
        };
        let wrong = |error: MapError| LoadError::Object(error.to_string());
        Ok(Self {
            cells: PerCpuHashMap::try_from(take(names::CELLS)?).map_err(wrong)?,
            peers: HashMap::try_from(take(names::PEERS)?).map_err(wrong)?,
            processes: HashMap::try_from(take(names::PROCESSES)?).map_err(wrong)?,
            opening: PerCpuArray::try_from(take(names::OPENING)?).map_err(wrong)?,
            sources: HashMap::try_from(take(names::SOURCES)?).map_err(wrong)?,
            thresholds: Array::try_from(take(names::THRESHOLDS)?).map_err(wrong)?,
            cpus: nr_cpus().map_err(|(_, error)| LoadError::Object(error.to_string()))?,
        })
    }

    /// CPUs that may count.
    #[must_use]
    pub const fn cpus(&self) -> usize {
        self.cpus
    }

    /// Makes a cell. One that is there keeps its counts.
    ///
    /// # Errors
    /// The table is full, or the kernel has no memory.
    pub fn make_cell(&mut self, key: CellKey) -> std::io::Result<()> {
        const NOEXIST: u64 = 1;
        let zero = vec![[0; size_of::<Cell>() / 8]; self.cpus];
        let values = PerCpuValues::try_from(zero)?;
        match self.cells.insert(transmute_key(key), values, NOEXIST) {
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == std::io::ErrorKind::AlreadyExists =>
            {
                Ok(())
            }
            result => result.map_err(std::io::Error::other),
        }
    }

    /// Removes a cell.
    pub fn remove_cell(&mut self, key: CellKey) {
        if let Err(error) = self.cells.remove(&transmute_key(key)) {
            tracing::trace!(%error, "a cell was not there");
        }
    }

    /// What a cell counted on all CPUs together; gauges' windows are of no use in a sum.
    #[must_use]
    pub fn cell(&self, key: CellKey) -> Option<CellTotals> {
        let values = self.cells.get(&transmute_key(key), 0).ok()?;
        let mut totals = CellTotals::default();
        for words in values.iter() {
            let cell: Cell = transmute!(*words);
            totals.syns = totals.syns.wrapping_add(cell.syn.total);
            totals.accepted = totals.accepted.wrapping_add(cell.accept.total);
            totals.unanswered = totals.unanswered.wrapping_add(cell.unanswered.total);
            totals.resets = totals.resets.wrapping_add(cell.reset.total);
        }
        Some(totals)
    }

    /// Senders and peers with what was counted of them, in no order.
    #[must_use]
    pub fn peers(&self) -> Vec<(PeerKey, u64)> {
        let entries = self.peers.iter().take(bound(PEERS)).flatten();
        entries
            .map(|(words, count)| (transmute!(words), count))
            .collect()
    }

    /// Forgets all of them: what is counted from here on is news.
    pub fn forget_peers(&mut self) {
        let keys = self.peers.keys().take(bound(PEERS)).flatten();
        for key in keys.collect::<Vec<PeerWords>>() {
            // It may have given way to another one meanwhile.
            let _ = self.peers.remove(&key);
        }
    }

    /// Forgets a process.
    pub fn forget_process(&mut self, id: ProcessId) {
        // As above.
        let _ = self.processes.remove(&transmute!(id));
    }

    /// Processes that connected lately.
    #[must_use]
    pub fn processes(&self) -> Vec<(ProcessId, ProcessCell)> {
        let entries = self.processes.iter().take(bound(PROCESSES)).flatten();
        entries
            .map(|(id, cell)| (transmute!(id), transmute!(cell)))
            .collect()
    }

    /// Connects that no CPU has told to the table of processes yet. Beside it, a total may seem to fall when they are.
    #[must_use]
    pub fn opening(&self) -> Vec<(ProcessId, u64)> {
        let cpus = self.opening.get(&0, 0);
        let words = cpus.iter().flat_map(|values| values.iter().copied());
        words
            .map(|words| -> Opening { transmute!(words) })
            .filter(|opening| opening.pending > 0)
            .map(|opening| (opening.process, opening.pending))
            .collect()
    }

    /// Who knocked at closed ports lately.
    #[must_use]
    pub fn sources(&self) -> Vec<(SourceKey, Source)> {
        let entries = self.sources.iter().take(bound(SOURCES)).flatten();
        entries
            .map(|(key, source)| (transmute!(key), transmute!(source)))
            .collect()
    }

    /// From which rate on the probes announce.
    ///
    /// # Errors
    /// When the kernel refuses the write.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) -> std::io::Result<()> {
        let words: ThresholdWords = transmute!(thresholds);
        self.thresholds
            .set(0, words, 0)
            .map_err(std::io::Error::other)
    }
}

/// What one cell counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CellTotals {
    /// SYNs.
    pub syns: u64,
    /// Completed connections.
    pub accepted: u64,
    /// SYN-ACKs sent again.
    pub unanswered: u64,
    /// Resets received.
    pub resets: u64,
}

/// A key as the word that the map has.
fn transmute_key(key: CellKey) -> u64 {
    let mut word = 0_u64;
    word.as_mut_bytes().copy_from_slice(key.as_bytes());
    word
}

/// Steps of a walk over a table of so many entries.
fn bound(entries: u32) -> usize {
    usize::try_from(entries).unwrap_or(usize::MAX)
}
