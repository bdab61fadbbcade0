//! Records to a receiver of RELP, rsyslog's protocol of syslog messages that are acknowledged: each is answered once
//! the receiver has it in a queue of its own, many at a time on their way.

mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::io::{self, Read as _};
use std::time::Instant;

use self::frame::{Frame, Heard, put};
use super::syslog::Envelope;
use super::{Delivery, Parcel, Transport};
use crate::net::{Endpoint, Link};

/// Messages on their way at once; what rsyslog's own client has.
const WINDOW: usize = 128;
/// The largest number of a frame; after it comes 1 again.
const MAX_NUMBER: u32 = 999_999_999;
/// What we offer. The receiver's answer is not looked at: without `syslog` it refuses what comes.
const OFFERS: &str = "relp_version=0\nrelp_software=portwatch\ncommands=syslog";

/// A receiver.
#[derive(Debug)]
pub struct Relp {
    endpoint: Endpoint,
    envelope: Envelope,
    session: Option<Session>,
}

struct Session {
    link: Link,
    heard: Heard,
    /// Number of the next frame.
    next: u32,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.next)
    }
}

impl Relp {
    /// Prepares; no connection is made yet.
    #[must_use]
    pub const fn new(endpoint: Endpoint, envelope: Envelope) -> Self {
        Self {
            endpoint,
            envelope,
            session: None,
        }
    }
}

impl Transport for Relp {
    fn deliver(&mut self, parcels: &[Parcel]) -> Delivery {
        let mut kept = self.session.take();
        if kept
            .as_mut()
            .is_some_and(|session| !session.link.is_alive())
        {
            kept = None;
        }
        let mut session = match kept.map_or_else(|| Session::begin(&self.endpoint), Ok) {
            Ok(session) => session,
            Err(why) => return Delivery::later(0, why),
        };
        let (taken, why) = session.hand_over(&self.endpoint, &self.envelope, parcels);
        match why {
            None => {
                self.session = Some(session);
                Delivery::all(taken)
            }
            Some(why) => Delivery::later(taken, why),
        }
    }

    fn rest(&mut self) {
        if let Some(session) = self.session.take() {
            session.end(&self.endpoint);
        }
    }
}

impl Session {
    fn begin(endpoint: &Endpoint) -> Result<Self, String> {
        let mut this = Self {
            link: endpoint.open()?,
            heard: Heard::default(),
            next: 1,
        };
        let mut frame = Vec::new();
        let number = this.number();
        put(number, "open", OFFERS.as_bytes(), &mut frame);
        endpoint.write(&mut this.link, &frame)?;
        let deadline = Instant::now() + endpoint.patience;
        let answer = this.hear(endpoint, deadline)?;
        match answer.number == number && answer.is_fine() {
            true => Ok(this),
            false => Err(endpoint.says(&answer.told())),
        }
    }

    /// How many were acknowledged from the front, and why not the rest.
    fn hand_over(
        &mut self,
        endpoint: &Endpoint,
        envelope: &Envelope,
        parcels: &[Parcel],
    ) -> (usize, Option<String>) {
        let (mut sent, mut taken) = (0, 0);
        // Of each that is on its way its number, and whether it was answered.
        let mut numbers: Vec<(u32, bool)> = Vec::with_capacity(parcels.len());
        let mut deadline = Instant::now() + endpoint.patience;
        loop {
            while numbers
                .get(taken)
                .is_some_and(|(_, is_answered)| *is_answered)
            {
                taken += 1;
                deadline = Instant::now() + endpoint.patience;
            }
            if taken == parcels.len() {
                return (taken, None);
            }
            let mut chunk = Vec::new();
            while let Some(parcel) = parcels.get(sent)
                && sent - taken < WINDOW
            {
                let number = self.number();
                put(number, "syslog", &envelope.remote(parcel), &mut chunk);
                numbers.push((number, false));
                sent += 1;
            }
            if !chunk.is_empty()
                && let Err(why) = endpoint.write(&mut self.link, &chunk)
            {
                return (taken, Some(why));
            }
            let answer = match self.hear(endpoint, deadline) {
                Ok(answer) => answer,
                Err(why) => return (taken, Some(why)),
            };
            if !answer.is_fine() {
                return (taken, Some(endpoint.says(&answer.told())));
            }
            let of = numbers.iter_mut().skip(taken);
            let mut of = of.filter(|(number, _)| *number == answer.number);
            if let Some((_, is_answered)) = of.next() {
                *is_answered = true;
            }
        }
    }

    fn hear(&mut self, endpoint: &Endpoint, deadline: Instant) -> Result<Frame, String> {
        loop {
            match self.heard.next().map_err(|why| endpoint.says(why))? {
                Some(frame) => return Ok(frame),
                None => self.link.wait_until(deadline),
            }
            let mut piece = [0; 8192];
            match self.link.read(&mut piece) {
                Ok(0) => return Err(endpoint.broken(&io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.heard.push(piece.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(endpoint.broken(&error)),
            }
        }
    }

    /// Says goodbye; nothing depends on it.
    fn end(mut self, endpoint: &Endpoint) {
        let mut frame = Vec::new();
        put(self.number(), "close", b"", &mut frame);
        let _ = endpoint.write(&mut self.link, &frame);
    }

    const fn number(&mut self) -> u32 {
        let number = self.next;
        self.next = if number >= MAX_NUMBER { 1 } else { number + 1 };
        number
    }
}
