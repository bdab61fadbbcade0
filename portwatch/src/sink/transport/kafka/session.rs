//! One connection to one broker: one question after the other, each of them answered in time or not at all.

use std::io::{self, Read as _};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::error;
use super::login::{Login, Mechanism, Proof};
use super::numbers::Numbers;
use super::wire::{Call, Heard, Metadata, Produced, Reader, Request, Versions};
use crate::net::{Endpoint, Link};

/// A connection with somebody who speaks the protocol, and has let us in.
pub(super) struct Session {
    pub(super) endpoint: Endpoint,
    link: Link,
    heard: Heard,
    versions: Versions,
    /// Number of the next question.
    next: i32,
}

impl Session {
    /// Connects and logs in.
    ///
    /// # Errors
    /// Why not, in a sentence that begins with the broker; so for the others.
    pub(super) fn open(endpoint: &Endpoint, login: Option<&Login>) -> Result<Self, String> {
        let mut this = Self {
            endpoint: endpoint.clone(),
            link: endpoint.open()?,
            heard: Heard::default(),
            versions: Versions::default(),
            next: 0,
        };
        let answer = this.ask_in(Call::ApiVersions, 0, |_| {})?;
        this.versions = this.read(Reader::new(&answer).versions())?;
        if let Some(login) = login {
            this.log_in(login)?;
        }
        Ok(this)
    }

    /// Who leads the partitions of a topic.
    pub(super) fn metadata(&mut self, topic: &str, create: bool) -> Result<Metadata, String> {
        let (version, answer) = self.ask(Call::Metadata, |version, request| {
            request.metadata(version, topic, create);
        })?;
        self.read(Reader::new(&answer).metadata(version))
    }

    /// A new count of what we put into this partition; none where the broker counts for nobody, or not for us.
    pub(super) fn numbers(&mut self, partition: i32) -> Result<Numbers, String> {
        if self.versions.of(Call::InitProducerId).is_none() {
            return Ok(Numbers::none(partition));
        }
        let (_, answer) = self.ask(Call::InitProducerId, |_, request| request.producer())?;
        match self.read(Reader::new(&answer).producer())? {
            Ok((producer, epoch)) => Ok(Numbers::new(partition, producer, epoch)),
            Err(error::NO_CLUSTER_RIGHT) => Ok(Numbers::none(partition)),
            Err(code) => Err(self.endpoint.says(&error::told(code, None))),
        }
    }

    /// What the leader of a partition says to a batch.
    pub(super) fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: &[u8],
    ) -> Result<Produced, String> {
        // The broker waits for its replicas a little less long than we wait for it, so that we hear why.
        let millis = (self.endpoint.patience * 3 / 4).as_millis();
        let millis = i32::try_from(millis).unwrap_or(i32::MAX);
        let (version, answer) = self.ask(Call::Produce, |_, request| {
            request.produce(topic, partition, millis, batch);
        })?;
        self.read(Reader::new(&answer).produced(version, partition))
    }

    fn log_in(&mut self, login: &Login) -> Result<(), String> {
        let name = login.mechanism.name();
        let (_, answer) = self.ask(Call::SaslHandshake, |_, request| {
            request.text(name);
        })?;
        let (code, offered) = self.read(Reader::new(&answer).mechanisms())?;
        match code {
            0 => {}
            error::NO_MECHANISM => {
                let offered = match offered.is_empty() {
                    true => "nothing".to_owned(),
                    false => offered.join(", "),
                };
                let why = format!("no login by {name}: it offers {offered}; see `mechanism`");
                return Err(self.endpoint.says(&why));
            }
            code => return Err(self.endpoint.says(&error::told(code, None))),
        }
        if login.mechanism == Mechanism::Plain {
            return self.authenticate(&login.plain()).map(drop);
        }
        let nonce = nonce().ok_or("the system has no random numbers")?;
        let Some(proof) = Proof::new(login, nonce) else {
            return Err("bug: no proof for this login".to_owned());
        };
        let said = self.authenticate(proof.first().as_bytes())?;
        let (answer, expected) = self.read(proof.answer(&said))?;
        let said = self.authenticate(answer.as_bytes())?;
        match expected.is(&said) {
            true => Ok(()),
            false => Err(self
                .endpoint
                .says("it does not know the password: who is it?")),
        }
    }

    fn authenticate(&mut self, message: &[u8]) -> Result<Vec<u8>, String> {
        let (_, answer) = self.ask(Call::SaslAuthenticate, |_, request| {
            request.bytes(message);
        })?;
        match self.read(Reader::new(&answer).authenticated())? {
            (0, _, said) => Ok(said.to_vec()),
            (code, words, _) => {
                let words = Some(words.as_str()).filter(|words| !words.is_empty());
                Err(self.endpoint.says(&error::told(code, words)))
            }
        }
    }

    /// Asks in the newest version that both speak; that version, and the answer.
    fn ask(
        &mut self,
        call: Call,
        fill: impl FnOnce(i16, &mut Request),
    ) -> Result<(i16, Vec<u8>), String> {
        let Some(version) = self.versions.of(call) else {
            let why = format!("it has no {} of a version that we speak", call.name());
            return Err(self.endpoint.says(&why));
        };
        let answer = self.ask_in(call, version, |request| fill(version, request))?;
        Ok((version, answer))
    }

    fn ask_in(
        &mut self,
        call: Call,
        version: i16,
        fill: impl FnOnce(&mut Request),
    ) -> Result<Vec<u8>, String> {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let mut request = Request::new(call, version, number);
        fill(&mut request);
        self.endpoint.write(&mut self.link, &request.finish())?;
        let deadline = Instant::now() + self.endpoint.patience;
        let (of, answer) = self.hear(deadline)?;
        match of == number {
            true => Ok(answer),
            false => Err(self.endpoint.says("it answers what it was not asked")),
        }
    }

    fn hear(&mut self, deadline: Instant) -> Result<(i32, Vec<u8>), String> {
        loop {
            let heard = self.heard.next();
            if let Some(answer) = self.read(heard)? {
                return Ok(answer);
            }
            let mut piece = [0; 8192];
            self.link.wait_until(deadline);
            match self.link.read(&mut piece) {
                Ok(0) => return Err(self.endpoint.broken(&io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.heard.push(piece.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.endpoint.broken(&error)),
            }
        }
    }

    fn read<T>(&self, understood: Result<T, &'static str>) -> Result<T, String> {
        understood.map_err(|why| self.endpoint.says(why))
    }
}

/// How long to hold back before more is sent; never longer than one step may take.
pub(super) fn held_back(produced: &Produced, endpoint: &Endpoint) -> Duration {
    Duration::from_millis(produced.throttle.into()).min(endpoint.patience)
}

/// A word that nobody else can foresee.
fn nonce() -> Option<String> {
    let mut bytes = [0; 18];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(STANDARD.encode(bytes))
}
