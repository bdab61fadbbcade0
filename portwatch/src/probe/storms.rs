//! What the probes keep of storms: cells of listeners, processes that connect, who knocks; and their thresholds.
//!
//! Cells are made, removed and asked for one by one by whoever knows the listeners. Everything is read as a whole, by
//! [`Tables`], which any thread may have: even in few system calls a walk takes longer than the pipeline can wait.

use std::sync::Arc;

use aya::Ebpf;
use aya::maps::{Array, MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues};
use aya::util::nr_cpus;
use portwatch_common::storm::{
    Cell, CellKey, Opening, PeerKey, ProcessCell, ProcessId, Source, SourceKey, Thresholds,
};
use zerocopy::{FromBytes, IntoBytes as _, transmute};

use super::batch::Table;
use super::load::LoadError;
use super::object::names;

type CellWords = [u64; size_of::<Cell>() / 8];
type OpeningWords = [u64; size_of::<Opening>() / 8];
type ThresholdWords = [u64; size_of::<Thresholds>() / 8];

/// The maps of storms.
pub struct StormMaps {
    cells: PerCpuHashMap<MapData, u64, CellWords>,
    thresholds: Array<MapData, ThresholdWords>,
    tables: Arc<Tables>,
    cpus: usize,
}

/// What the probes keep, to be read as a whole by any thread.
pub struct Tables {
    cells: Table,
    peers: Table,
    processes: Table,
    opening: PerCpuArray<MapData, OpeningWords>,
    sources: Table,
}

impl StormMaps {
    /// Takes them out of a loaded object.
    ///
    /// # Errors
    /// When one is missing: the object was built from other sources.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let cpus = nr_cpus().map_err(|(_, error)| LoadError::Object(error.to_string()))?;
        let table = |ebpf: &Ebpf, name: &str| {
            let map = ebpf.map(name).ok_or_else(|| missing(name))?;
            Table::new(name, map, cpus)
        };
        let wrong = |error: MapError| LoadError::Object(error.to_string());
        let opening = ebpf.take_map(names::OPENING);
        let opening = opening.ok_or_else(|| missing(names::OPENING))?;
        let tables = Tables {
            cells: table(ebpf, names::CELLS)?,
            peers: table(ebpf, names::PEERS)?,
            processes: table(ebpf, names::PROCESSES)?,
            opening: PerCpuArray::try_from(opening).map_err(wrong)?,
            sources: table(ebpf, names::SOURCES)?,
        };
        let mut take = |name: &str| ebpf.take_map(name).ok_or_else(|| missing(name));
        Ok(Self {
            cells: PerCpuHashMap::try_from(take(names::CELLS)?).map_err(wrong)?,
            thresholds: Array::try_from(take(names::THRESHOLDS)?).map_err(wrong)?,
            tables: Arc::new(tables),
            cpus,
        })
    }

    /// What they hold, for another thread.
    #[must_use]
    pub fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables)
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

    /// What a cell counted on all CPUs together.
    #[must_use]
    pub fn cell(&self, key: CellKey) -> Option<CellTotals> {
        let values = self.cells.get(&transmute_key(key), 0).ok()?;
        let mut totals = CellTotals::default();
        for words in values.iter() {
            totals.add(words);
        }
        Some(totals)
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

impl Tables {
    /// Listeners with what their cells counted on all CPUs together.
    ///
    /// # Errors
    /// As all of them: the kernel refuses the read.
    pub fn cells(&self) -> std::io::Result<Vec<(CellKey, CellTotals)>> {
        let mut cells = Vec::new();
        self.cells.walk(&mut |key, value| {
            let mut totals = CellTotals::default();
            for words in value.chunks(size_of::<Cell>() / 8) {
                totals.add(words);
            }
            cells.extend(read(key).map(|key| (key, totals)));
        })?;
        Ok(cells)
    }

    /// Senders and peers with what was counted of them, in no order.
    ///
    /// # Errors
    /// See [`Tables::cells`].
    pub fn peers(&self) -> std::io::Result<Vec<(PeerKey, u64)>> {
        entries(&self.peers)
    }

    /// Forgets all of them: what is counted from here on is news.
    ///
    /// # Errors
    /// See [`Tables::cells`].
    pub fn forget_peers(&self) -> std::io::Result<()> {
        self.peers.clear()
    }

    /// Processes that connected lately.
    ///
    /// # Errors
    /// See [`Tables::cells`].
    pub fn processes(&self) -> std::io::Result<Vec<(ProcessId, ProcessCell)>> {
        entries(&self.processes)
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
    ///
    /// # Errors
    /// See [`Tables::cells`].
    pub fn sources(&self) -> std::io::Result<Vec<(SourceKey, Source)>> {
        entries(&self.sources)
    }
}

fn entries<K: FromBytes, V: FromBytes>(table: &Table) -> std::io::Result<Vec<(K, V)>> {
    let mut entries = Vec::new();
    table.walk(&mut |key, value| entries.extend(read(key).zip(read(value))))?;
    Ok(entries)
}

fn read<T: FromBytes>(words: &[u64]) -> Option<T> {
    T::read_from_bytes(words.as_bytes()).ok()
}

fn missing(name: &str) -> LoadError {
    LoadError::Object(format!("the map {name} is missing"))
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

impl CellTotals {
    /// Adds those of one CPU; gauges' windows are of no use in a sum.
    fn add(&mut self, words: &[u64]) {
        if let Some(cell) = read::<Cell>(words) {
            self.syns = self.syns.wrapping_add(cell.syn.total);
            self.accepted = self.accepted.wrapping_add(cell.accept.total);
            self.unanswered = self.unanswered.wrapping_add(cell.unanswered.total);
            self.resets = self.resets.wrapping_add(cell.reset.total);
        }
    }
}

/// A key as the word that the map has.
fn transmute_key(key: CellKey) -> u64 {
    let mut word = 0_u64;
    word.as_mut_bytes().copy_from_slice(key.as_bytes());
    word
}
