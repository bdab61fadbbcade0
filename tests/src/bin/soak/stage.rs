//! Where the players act: what they share, and how they come and go.

use std::path::PathBuf;

use anyhow::Result;
use portwatch_tests::harness::{Actor, Kind};
use tempfile::TempDir;

use crate::chance::Chance;
use crate::truth::Truth;

/// Somebody who opens listeners or makes a noise, until asked to leave.
pub(crate) trait Player {
    /// Does something more.
    ///
    /// # Errors
    /// The host refuses what it should grant; the run cannot go on.
    fn step(&mut self, _stage: &mut Stage) -> Result<()> {
        Ok(())
    }

    /// Ends, and says in the ledger what that closed.
    ///
    /// # Errors
    /// As [`Player::step`].
    fn leave(self: Box<Self>, stage: &mut Stage) -> Result<()>;
}

/// Starts a player; `None` where the host lacks its program.
pub(crate) type Entrance = fn(&mut Stage) -> Result<Option<Box<dyn Player>>>;

/// What all players share.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) truth: Truth,
    pub(crate) chance: Chance,
    /// For unix sockets, as the kernel resolves it.
    pub(crate) folder: PathBuf,
    /// Kinds of sockets that this kernel has.
    pub(crate) kinds: Vec<Kind>,
    /// An HTTP server of the residents', to be visited.
    pub(crate) web_port: Option<u16>,
    /// The daemon's process and its control socket.
    pub(crate) daemon: (u32, PathBuf),
    /// Who starts the short-lived processes.
    pub(crate) blinker: Actor,
    names: u64,
    _folder: TempDir,
}

impl Stage {
    pub(crate) fn new(truth: Truth, seed: u64, daemon: (u32, PathBuf)) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("portwatch-soak-")
            .tempdir()?;
        let kinds = [
            Kind::TCP4,
            Kind::TCP6,
            Kind::MPTCP4,
            Kind::UDP4,
            Kind::UDP6,
            Kind::UDPLITE4,
            Kind::UNIX_STREAM,
            Kind::UNIX_SEQPACKET,
            Kind::UNIX_DGRAM,
            Kind::PACKET_ALL,
            Kind::RAW_ICMP4,
        ];
        Ok(Self {
            truth,
            chance: Chance::new(seed),
            folder: folder.path().canonicalize()?,
            kinds: kinds
                .into_iter()
                .filter(|kind| kind.is_available())
                .collect(),
            web_port: None,
            daemon,
            blinker: Actor::start("soak-blinker")?,
            names: 0,
            _folder: folder,
        })
    }

    /// A word that nobody else uses, in this run or beside it.
    pub(crate) fn name(&mut self, what: &str) -> String {
        self.names += 1;
        format!("soak-{}-{what}-{}", std::process::id(), self.names)
    }

    /// One of the kinds.
    pub(crate) fn kind(&mut self) -> Kind {
        let at = self.chance.below(self.kinds.len());
        self.kinds.get(at).copied().unwrap_or(Kind::TCP4)
    }
}
