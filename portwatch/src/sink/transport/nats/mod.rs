//! Records to a stream of NATS JetStream: each is acknowledged once the stream has it, many at a time on their way.
//!
//! The conversation is our own: the client crate for it is a runtime's, with a hundred crates beside it, and this is a
//! few lines of text. Each record goes with its id, by which a stream knows one that comes again.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod login;
mod wire;

use std::io::{self, Read as _};
use std::time::Instant;

use serde_json::{Map, json};
use uuid::Uuid;

pub use login::Login;
pub(crate) use wire::token;

use self::wire::{Answer, Heard, Info, Said};
use super::{Delivery, Parcel, Transport, Trouble};
use crate::net::{Endpoint, Link};

/// Records on their way at once.
const WINDOW: usize = 512;
/// Bytes that are written at once.
const CHUNK: usize = 256 * 1024;
/// The number of the request that creates the stream, which no record has.
const CREATION: u64 = u64::MAX;

/// Where to publish, and as whom.
#[derive(Debug)]
pub struct Settings {
    /// Servers of one cluster, tried in turn.
    pub servers: Vec<Endpoint>,
    /// The subject; `{type}` in it is the event's type as one word.
    pub subject: String,
    /// The stream that must take it; any when there is none.
    pub stream: Option<String>,
    /// Create that stream when it is not there.
    pub create: bool,
    /// Who we are.
    pub login: Option<Login>,
}

/// A stream.
#[derive(Debug)]
pub struct Nats {
    settings: Settings,
    /// The server that is tried next.
    place: usize,
    conversation: Option<Conversation>,
}

struct Conversation {
    place: usize,
    link: Link,
    heard: Heard,
    info: Info,
    inbox: String,
    /// Number of the next record.
    next: u64,
}

impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Conversation({:?})", self.info)
    }
}

impl Nats {
    /// Prepares; no connection is made yet.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            place: 0,
            conversation: None,
        }
    }

    /// The first server that lets us in, from the one after the one that failed last.
    fn begin(&mut self) -> Result<Conversation, String> {
        let mut why = "there is no server".to_owned();
        for _ in 0..self.settings.servers.len() {
            let place = self.place % self.settings.servers.len();
            match Conversation::begin(&self.settings, place) {
                Ok(conversation) => return Ok(conversation),
                Err(error) => why = error,
            }
            self.place = place + 1;
        }
        Err(why)
    }
}

impl Transport for Nats {
    fn deliver(&mut self, parcels: &[Parcel]) -> Delivery {
        let kept = self.conversation.take();
        let is_kept = kept.is_some();
        let mut conversation = match kept.map_or_else(|| self.begin(), Ok) {
            Ok(conversation) => conversation,
            Err(why) => return Delivery::later(0, why),
        };
        match conversation.publish(&self.settings, parcels) {
            Ok(delivery) => {
                self.conversation = Some(conversation);
                delivery
            }
            // A server hangs up on who does not answer its questions, as nobody does while there is nothing to do.
            Err((0, _)) if is_kept => self.deliver(parcels),
            Err((taken, why)) => {
                self.place = conversation.place + 1;
                Delivery::later(taken, why)
            }
        }
    }

    fn rest(&mut self) {
        self.conversation = None;
    }
}

impl Conversation {
    fn begin(settings: &Settings, place: usize) -> Result<Self, String> {
        let Some(server) = settings.servers.get(place) else {
            return Err("there is no such server".to_owned());
        };
        let mut this = Self {
            place,
            link: server.connect()?,
            heard: Heard::default(),
            info: Info::default(),
            inbox: format!("_INBOX.{}", Uuid::now_v7().simple()),
            next: 0,
        };
        let deadline = Instant::now() + server.patience;
        match this.hear(server, deadline)? {
            Said::Info(info) => this.info = info,
            _ => return Err(server.says("it does not speak NATS")),
        }
        if server.tls.is_none() && this.info.tls_required {
            return Err(server.says("it takes nobody without TLS: say `tls = true`"));
        }
        if server.tls.is_some() && !this.heard.is_empty() {
            return Err(
                server.says("it said more than it may before TLS: somebody may be in between")
            );
        }
        this.link = server.secure(this.link)?;
        let options = options(settings, &this.info, server.tls.is_some());
        let inbox = &this.inbox;
        let hello = format!("CONNECT {options}\r\nSUB {inbox}.* 1\r\nPING\r\n");
        server.write(&mut this.link, hello.as_bytes())?;
        while this.heed(server, deadline)? != Said::Pong {}
        if settings.create {
            this.create(settings, server, deadline)?;
        }
        Ok(this)
    }

    fn create(
        &mut self,
        settings: &Settings,
        server: &Endpoint,
        deadline: Instant,
    ) -> Result<(), String> {
        let name = settings.stream.as_deref().unwrap_or_default();
        let body = json!({
            "name": name,
            "subjects": [settings.subject.replace("{type}", "*")],
            "storage": "file",
            "retention": "limits",
            "num_replicas": 1,
        });
        let inbox = format!("{}.{CREATION}", self.inbox);
        let request = wire::request(
            &format!("$JS.API.STREAM.CREATE.{name}"),
            &inbox,
            &body.to_string(),
        );
        server.write(&mut self.link, request.as_bytes())?;
        loop {
            if let Said::Message(message) = self.heed(server, deadline)?
                && message.number == Some(CREATION)
            {
                return message.created().map_err(|why| server.says(&why));
            }
        }
    }

    /// How far it came. An error, with how many were taken, when there is no conversation any more.
    fn publish(
        &mut self,
        settings: &Settings,
        parcels: &[Parcel],
    ) -> Result<Delivery, (usize, String)> {
        let Some(server) = settings.servers.get(self.place) else {
            return Ok(Delivery::all(0));
        };
        let first = self.next;
        self.next += parcels.len() as u64;
        let mut answers: Vec<Option<Answer>> = vec![None; parcels.len()];
        let (mut sent, mut taken) = (0, 0);
        let mut deadline = Instant::now() + server.patience;
        loop {
            while let Some(Some(answer)) = answers.get(taken) {
                let trouble = match answer {
                    Answer::Taken => {
                        taken += 1;
                        deadline = Instant::now() + server.patience;
                        continue;
                    }
                    Answer::Later(why) => Trouble::Later(server.says(why)),
                    Answer::Refused(why) => Trouble::Refused(server.says(why)),
                };
                let trouble = Some(trouble);
                return Ok(Delivery { taken, trouble });
            }
            if taken == parcels.len() {
                return Ok(Delivery::all(taken));
            }
            let mut chunk = Vec::new();
            while let Some(parcel) = parcels.get(sent)
                && sent - taken < WINDOW
                && chunk.len() < CHUNK
            {
                answers[sent] = self.put(settings, parcel, first + sent as u64, &mut chunk);
                sent += 1;
            }
            if !chunk.is_empty() {
                let written = server.write(&mut self.link, &chunk);
                written.map_err(|why| (taken, why))?;
            } else if answers.get(taken).is_some_and(Option::is_some) {
                continue;
            }
            let said = self.heed(server, deadline).map_err(|why| (taken, why))?;
            if let Said::Message(message) = said
                && let Some(at) = message.number.and_then(|number| number.checked_sub(first))
                && let Some(answer) = usize::try_from(at).ok().and_then(|at| answers.get_mut(at))
            {
                *answer = Some(message.answer());
            }
        }
    }

    /// Puts a record behind others; its answer where it never goes.
    fn put(
        &self,
        settings: &Settings,
        parcel: &Parcel,
        number: u64,
        chunk: &mut Vec<u8>,
    ) -> Option<Answer> {
        let headers = headers(settings, parcel);
        if headers.len() + parcel.line.len() > self.info.max_payload {
            let why = "the record is longer than it takes (max_payload)".to_owned();
            return Some(Answer::Refused(why));
        }
        let kind = token(parcel.kind.as_str());
        let subject = settings.subject.replace("{type}", &kind);
        let inbox = format!("{}.{number}", self.inbox);
        wire::publish(&subject, &inbox, &headers, &parcel.line, chunk);
        None
    }

    /// What it says next that is not only about the conversation itself.
    fn heed(&mut self, server: &Endpoint, deadline: Instant) -> Result<Said, String> {
        loop {
            match self.hear(server, deadline)? {
                Said::Ping => server.write(&mut self.link, b"PONG\r\n")?,
                Said::Error(why) => return Err(server.says(&why)),
                Said::Info(_) | Said::Ok => {}
                said => return Ok(said),
            }
        }
    }

    fn hear(&mut self, server: &Endpoint, deadline: Instant) -> Result<Said, String> {
        loop {
            if let Some(said) = self.heard.next().map_err(|why| server.says(why))? {
                return Ok(said);
            }
            let mut piece = [0; 8192];
            self.link.wait_until(deadline);
            match self.link.read(&mut piece) {
                Ok(0) => return Err(server.broken(&io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.heard.push(piece.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(server.broken(&error)),
            }
        }
    }
}

fn options(settings: &Settings, info: &Info, is_tls: bool) -> String {
    let mut options = Map::new();
    for (key, value) in [
        ("verbose", false),
        ("pedantic", false),
        ("echo", false),
        ("headers", true),
        ("no_responders", true),
        ("tls_required", is_tls),
    ] {
        options.insert(key.to_owned(), value.into());
    }
    for (key, value) in [
        ("name", "portwatch"),
        ("lang", "rust"),
        ("version", env!("CARGO_PKG_VERSION")),
    ] {
        options.insert(key.to_owned(), value.into());
    }
    options.insert("protocol".to_owned(), 1.into());
    if let Some(login) = &settings.login {
        login.say(&info.nonce, &mut options);
    }
    serde_json::Value::Object(options).to_string()
}

fn headers(settings: &Settings, parcel: &Parcel) -> String {
    let id = parcel.id;
    match &settings.stream {
        Some(stream) => {
            format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\nNats-Expected-Stream: {stream}\r\n\r\n")
        }
        None => format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n\r\n"),
    }
}
