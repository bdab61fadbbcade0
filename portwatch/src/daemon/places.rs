//! From what is configured for a sink to where its lines are written: a file, standard output, or the buffer of a sink
//! that has a peer.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::config::Sink;
use crate::config::sinks::{self, Kind, WhenFull};
use crate::event::{GapCause, Host};
use crate::sink;
use crate::sink::buffer::{Bounds, Gauge};
use crate::sink::file::{FileSink, Turnover};
use crate::sink::intake::Opened;
use crate::sink::stdout::Stdout;
use crate::sink::{Shape, deliver};

/// What the place of a sink is opened with.
#[derive(Debug)]
pub(super) struct Opening {
    /// The sink.
    pub(super) sink: Sink,
    /// Its folder in the state directory.
    pub(super) folder: PathBuf,
    /// Its buffer, when it has a peer.
    pub(super) gauge: Option<Gauge>,
    /// The host.
    pub(super) host: Arc<Host>,
}

/// Finds out whether lines can be written there, without writing any.
///
/// # Errors
/// Why not, in a sentence. A disk that is full for now is no reason.
pub(super) fn check(sink: &Sink) -> Result<(), String> {
    let Kind::File(file) = &sink.kind else {
        return Ok(());
    };
    let path = file.path.display();
    match sink::file::append(&file.path) {
        Ok(_) => Ok(()),
        Err(error) if sink::buffer::is_full(&error) => Ok(()),
        Err(error) => Err(format!("{path} cannot be written to: {error}")),
    }
}

impl Opening {
    /// Opens the place.
    pub(super) fn open(&mut self) -> io::Result<Opened> {
        let shape = Shape {
            format: self.sink.format,
            chain: None,
        };
        if let Some(gauge) = &self.gauge {
            return Ok(Opened {
                place: Box::new(gauge.writer(bounds(&self.sink))),
                // It is numbered and rendered on its way out.
                shape: Shape::default(),
                first: None,
            });
        }
        match &self.sink.kind {
            Kind::File(file) => self.open_file(file),
            Kind::Stdout => Ok(Opened {
                place: Box::new(Stdout::open()?),
                shape,
                first: None,
            }),
            _ => Err(io::Error::other("bug: a sink with a peer has no buffer")),
        }
    }

    fn open_file(&self, file: &sinks::File) -> io::Result<Opened> {
        let heads_in = file.chain.then_some(self.folder.as_path());
        let begin = FileSink::begin(&file.path, turnover(file), heads_in)?;
        let now = Timestamp::now();
        let first = begin.is_torn.then(|| {
            let why = "was torn when the daemon or the machine ended";
            deliver::gap(&self.host, 1, GapCause::Damaged, (now, now), why)
        });
        Ok(Opened {
            place: Box::new(begin.sink),
            shape: Shape {
                format: self.sink.format,
                chain: begin.chain,
            },
            first,
        })
    }
}

fn turnover(file: &sinks::File) -> Turnover {
    Turnover {
        bytes: u64::from(file.rotate_mib) << 20,
        age: file.rotate_every,
        keep: usize::try_from(file.keep).unwrap_or(usize::MAX),
        keep_age: file.keep_age,
        compress: file.compress,
    }
}

fn bounds(sink: &Sink) -> Bounds {
    Bounds {
        bytes: u64::from(sink.buffer.mib) << 20,
        drop_oldest: sink.buffer.when_full == WhenFull::DropOldest,
    }
}
