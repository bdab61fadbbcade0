//! Records to a topic of Kafka: a batch at a time to the leader of one partition, acknowledged by all replicas in sync.
//!
//! The conversation is our own: the clients of others are a runtime's or a C library. All records of a host have one key,
//! so they go to one partition and stay in order, and one batch on its way is enough. A batch whose answer was lost goes
//! again with its numbers, by which the broker knows it; a header has the event's id.

mod batch;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod login;
mod numbers;
mod partition;
mod session;
#[cfg(test)]
mod tests;
mod wire;

use std::thread;
use std::time::Duration;

use jiff::Timestamp;
pub use login::{Login, Mechanism};

use self::error::Verdict;
use self::numbers::Numbers;
use self::session::Session;
use super::{Delivery, Parcel, Transport, Trouble};
use crate::net::{self, Endpoint};

/// Records in a batch, at most.
const RECORDS: usize = 1024;
/// Bytes of a batch before it is packed, unless a single record has more: below what a broker takes unless told otherwise,
/// which is 1 MiB and 12 bytes.
const BYTES: usize = 960 * 1024;

/// Where to produce, and as whom.
#[derive(Debug)]
pub struct Settings {
    /// Brokers of one cluster that tell of the others, tried in turn. Either all of them or none within TLS.
    pub servers: Vec<Endpoint>,
    /// The topic.
    pub topic: String,
    /// Ask for it to be made when it is not there.
    pub create: bool,
    /// Key of every record: what decides on the partition.
    pub key: String,
    /// Pack batches.
    pub gzip: bool,
    /// Who we are.
    pub login: Option<Login>,
    /// Without TLS, a cluster may send us to a broker that is not on this host.
    pub is_anywhere: bool,
}

/// A topic.
#[derive(Debug)]
pub struct Kafka {
    settings: Settings,
    /// The server that is tried next.
    place: usize,
    lead: Option<Lead>,
    numbers: Option<Numbers>,
    /// Records in a batch, at most, until smaller ones were taken.
    most: usize,
    /// The times of these records were refused: they go under that of now.
    is_redated: bool,
}

/// The leader of our partition.
struct Lead {
    session: Session,
    partition: i32,
    /// It wants to be left alone for so long.
    pause: Duration,
}

impl std::fmt::Debug for Lead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lead({:?}, {})", self.session.endpoint, self.partition)
    }
}

/// Why not everything was taken.
enum Failure {
    /// Another attempt at once may help: the leader is another one, or a connection that was kept is gone.
    Stale(String),
    /// Only time helps.
    Later(String),
    /// The first record will never be taken.
    Refused(String),
}

impl Kafka {
    /// Prepares; no connection is made yet.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            place: 0,
            lead: None,
            numbers: None,
            most: RECORDS,
            is_redated: false,
        }
    }

    /// How many from the front were taken now, and why not the rest.
    fn attempt(&mut self, parcels: &[Parcel]) -> (usize, Option<Failure>) {
        let kept = self.lead.take();
        let is_kept = kept.is_some();
        let mut lead = match kept.map_or_else(|| self.begin(), Ok) {
            Ok(lead) => lead,
            Err(why) => return (0, Some(Failure::Later(why))),
        };
        let mut taken = 0;
        while let Some(rest) = parcels.get(taken..)
            && !rest.is_empty()
        {
            match self.hand_over(&mut lead, rest, is_kept && taken == 0) {
                Ok(count) => taken += count,
                Err(failure) => {
                    // After a refusal alone is all as it was.
                    if matches!(failure, Failure::Refused(_)) {
                        self.lead = Some(lead);
                    }
                    return (taken, Some(failure));
                }
            }
        }
        self.lead = Some(lead);
        (taken, None)
    }

    /// Hands one batch over; the records of it, when it was taken, and none when it was too large.
    fn hand_over(
        &mut self,
        lead: &mut Lead,
        parcels: &[Parcel],
        is_kept: bool,
    ) -> Result<usize, Failure> {
        let Settings { topic, gzip, .. } = &self.settings;
        let (key, partition) = (self.settings.key.as_bytes(), lead.partition);
        let counted = self.numbers.take();
        let counted = counted.filter(|numbers| numbers.fits(partition, parcels));
        let mut numbers = match counted.map_or_else(|| lead.session.numbers(partition), Ok) {
            Ok(numbers) => numbers,
            Err(why) if is_kept => return Err(Failure::Stale(why)),
            Err(why) => return Err(Failure::Later(why)),
        };
        let fitting = || batch::fitting(parcels, key, self.most, BYTES);
        let count = numbers.again().unwrap_or_else(fitting);
        let records = parcels.get(..count).unwrap_or(parcels);
        let now = self.is_redated.then(|| Timestamp::now().as_millisecond());
        let encoded = batch::encode(records, key, numbers.send(records), *gzip, now);
        let encoded = encoded.map_err(|error| Failure::Later(format!("gzip: {error}")))?;
        thread::sleep(std::mem::take(&mut lead.pause));
        let produced = lead.session.produce(topic, partition, &encoded);
        let numbers = self.numbers.insert(numbers);
        let produced = match produced {
            Ok(produced) => produced,
            Err(why) if is_kept => return Err(Failure::Stale(why)),
            Err(why) => return Err(Failure::Later(why)),
        };
        lead.pause = session::held_back(&produced, &lead.session.endpoint);
        let told = || {
            let mut told = error::told(produced.error, produced.words.as_deref());
            if produced.error == error::NO_COMPRESSION {
                told.push_str("; say `gzip = false`");
            }
            lead.session.endpoint.says(&told)
        };
        match error::verdict(produced.error) {
            Verdict::Taken => {
                numbers.arrived(count);
                self.is_redated = false;
                // Slowly: what was too much once is soon too much again.
                self.most = (self.most + self.most / 8 + 1).min(RECORDS);
                Ok(count)
            }
            Verdict::Elsewhere => Err(Failure::Stale(told())),
            Verdict::Later => Err(Failure::Later(told())),
            Verdict::Renumber => {
                let why = told();
                self.numbers = None;
                Err(Failure::Stale(why))
            }
            Verdict::Redate => {
                numbers.refused();
                // Not even now is right: its clock or ours is wrong, and may be set.
                let was_redated = self.is_redated;
                self.is_redated = !was_redated;
                if was_redated {
                    return Err(Failure::Later(told()));
                }
                Ok(0)
            }
            Verdict::Fewer => {
                numbers.refused();
                if count == 1 {
                    self.most = RECORDS;
                    return Err(Failure::Refused(told()));
                }
                self.most = count / 2;
                Ok(0)
            }
        }
    }

    /// Finds the leader, by the first server that lets us in, from the one after the one that failed last.
    fn begin(&mut self) -> Result<Lead, String> {
        let mut why = "there is no server".to_owned();
        let servers = &self.settings.servers;
        let first = self.place.checked_rem(servers.len()).unwrap_or(0);
        for server in servers.iter().cycle().skip(first).take(servers.len()) {
            match self.settings.lead(server) {
                Ok(lead) => {
                    // Perhaps the numbers that were refused before are given by now.
                    self.numbers.take_if(|numbers| !numbers.is_counting());
                    return Ok(lead);
                }
                Err(error) => why = error,
            }
            self.place = self.place.wrapping_add(1);
        }
        Err(why)
    }
}

impl Transport for Kafka {
    fn deliver(&mut self, parcels: &[Parcel]) -> Delivery {
        let mut all = 0;
        let mut is_second = false;
        loop {
            let (taken, failure) = self.attempt(parcels.get(all..).unwrap_or_default());
            all += taken;
            let trouble = match failure {
                None => return Delivery::all(all),
                Some(Failure::Stale(_)) if !is_second => {
                    is_second = true;
                    continue;
                }
                Some(Failure::Stale(why) | Failure::Later(why)) => {
                    self.place = self.place.wrapping_add(1);
                    Trouble::Later(why)
                }
                Some(Failure::Refused(why)) => Trouble::Refused(why),
            };
            return Delivery {
                taken: all,
                trouble: Some(trouble),
            };
        }
    }

    fn rest(&mut self) {
        self.lead = None;
    }
}

impl Settings {
    /// The leader of our partition, as this server tells.
    fn lead(&self, server: &Endpoint) -> Result<Lead, String> {
        let login = self.login.as_ref();
        let mut session = Session::open(server, login)?;
        let metadata = session.metadata(&self.topic, self.create)?;
        let place = partition::place(&metadata, self.key.as_bytes());
        let place = place.map_err(|why| server.says(&why))?;
        if (&server.host, server.port) != (&place.host, place.port) {
            let leader = Endpoint {
                host: place.host,
                port: place.port,
                ..server.clone()
            };
            if leader.tls.is_none() && !self.is_anywhere && !net::is_here(&leader.host) {
                let why = format!("it sends us to {leader}, and nothing goes there without TLS");
                return Err(server.says(&why));
            }
            session = Session::open(&leader, login)?;
        }
        Ok(Lead {
            session,
            partition: place.partition,
            pause: Duration::ZERO,
        })
    }
}
