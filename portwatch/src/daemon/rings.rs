//! The rings as the runtime waits on them.

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

use crate::probe::sensors::Rings;

/// One ring, and how many records came out of it.
pub(super) struct RingReader {
    ring: AsyncFd<RingBuf<MapData>>,
    received: u64,
}

impl RingReader {
    /// Completes when the kernel woke the reader. Cancel-safe.
    pub(super) async fn woken(&mut self) -> std::io::Result<()> {
        let mut guard = self.ring.readable_mut().await?;
        guard.clear_ready();
        Ok(())
    }

    /// Takes out at most `limit` records; tells whether there may be more.
    pub(super) fn drain(&mut self, limit: usize, mut take: impl FnMut(&[u8])) -> bool {
        self.drain_while(limit, |bytes| {
            take(bytes);
            true
        })
    }

    /// The same, up to the first record that is not taken: it stays in the ring.
    pub(super) fn drain_while(
        &mut self,
        limit: usize,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> bool {
        let ring = self.ring.get_mut();
        for _ in 0..limit {
            let Some(item) = ring.next() else {
                return false;
            };
            if !take(&item) {
                // Dropping it would move the reader's position behind it.
                std::mem::forget(item);
                return true;
            }
            self.received += 1;
        }
        true
    }

    /// Records taken out since the start.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }
}

/// The three rings.
pub(super) struct Readers {
    pub(super) critical: RingReader,
    pub(super) process: RingReader,
    pub(super) bulk: RingReader,
}

impl Readers {
    /// Registers the rings with the current runtime.
    pub(super) fn new(rings: Rings) -> std::io::Result<Self> {
        let reader = |ring| {
            // SAFETY: a ring buffer owns its map's descriptor, keeps it open while it lives, and always
            // gives out the same one.
            let ring = unsafe { AsyncFd::register(ring) }?;
            Ok::<_, std::io::Error>(RingReader { ring, received: 0 })
        };
        Ok(Self {
            critical: reader(rings.critical)?,
            process: reader(rings.process)?,
            bulk: reader(rings.bulk)?,
        })
    }
}
