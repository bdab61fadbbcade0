//! Records by HTTP, many in a request: to Elasticsearch or OpenSearch, Splunk, Loki, a collector of OpenTelemetry, or
//! whoever takes lines.
//!
//! One frame for all of them: what is in a body and what an answer means is in [`body`] and [`answer`], which are pure.

mod answer;
mod body;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::collections::HashMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use ureq::http::HeaderValue;
use uuid::Uuid;

pub use body::Shape;

use self::answer::Fate;
use super::{Delivery, Parcel, Transport, Trouble};
use crate::net::http::{Client, Reply, authorization};

/// Most bytes of records in a request, before they are packed.
const BODY: usize = 4 << 20;
/// Bytes of an answer that are read: one to each record of a request.
const ANSWER: u64 = 4 << 20;
/// How often Splunk is asked whether it has what it took.
const BEAT: Duration = Duration::from_millis(500);

/// What is said besides the records.
pub struct Settings {
    /// Where to.
    pub client: Client,
    /// What a request looks like.
    pub shape: Shape,
    /// Says who we are.
    pub authorization: Option<HeaderValue>,
    /// Bodies are packed.
    pub gzip: bool,
    /// Name of this host.
    pub host: String,
    /// Records are JSON.
    pub is_json: bool,
    /// How long Splunk may take until it has what it took.
    pub patience: Duration,
}

/// A server.
pub struct Http {
    settings: Settings,
    /// Tells Splunk whose acknowledgements are asked for.
    channel: Uuid,
    /// Records in a request: fewer after one that was refused, to find out which of them it is.
    limit: usize,
    /// Records behind one that was not taken, which the server has or will never take.
    known: HashMap<Uuid, Result<(), String>>,
}

impl Http {
    /// Prepares; no connection is made yet.
    #[must_use]
    pub fn new(mut settings: Settings) -> Self {
        if let Some(secret) = &settings.authorization
            && let Ok(text) = secret.to_str()
            && let Some((_, secret)) = text.split_once(' ')
        {
            settings.client.hide(secret.to_owned());
        }
        Self {
            settings,
            channel: Uuid::now_v7(),
            limit: usize::MAX,
            known: HashMap::new(),
        }
    }

    /// One request; what became of each of its records.
    fn send(&self, batch: &[&Parcel]) -> Result<Vec<Fate>, Trouble> {
        let Settings { shape, host, .. } = &self.settings;
        let body = shape.body(batch, host, self.settings.is_json);
        let reply = self.post(shape.path().as_deref(), shape.content_type(), &body)?;
        let fates = shape.judge(batch.len(), &reply.body);
        let fates = fates.map_err(|why| Trouble::Later(self.settings.client.told(&why)))?;
        if let Shape::Splunk {
            acknowledged: true, ..
        } = shape
        {
            self.confirm(&reply)?;
        }
        Ok(fates)
    }

    /// Waits until Splunk has what it took.
    fn confirm(&self, reply: &Reply) -> Result<(), Trouble> {
        let later = |why: &str| Trouble::Later(self.settings.client.told(why));
        let number = answer::number(&reply.body)
            .ok_or_else(|| later("it gives no ackId: the token has no indexer acknowledgement"))?;
        let ask = json!({ "acks": [number] }).to_string();
        let path = format!("/services/collector/ack?channel={}", self.channel);
        let deadline = Instant::now() + self.settings.patience;
        loop {
            let reply = self.post(Some(&path), "application/json", ask.as_bytes());
            // That the question is refused says nothing of the records.
            let reply = reply.map_err(|trouble| match trouble {
                Trouble::Refused(why) => Trouble::Later(why),
                other => other,
            })?;
            if answer::is_confirmed(&reply.body, number) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(later("it has not acknowledged what it took"));
            }
            std::thread::sleep(BEAT);
        }
    }

    fn post(&self, path: Option<&str>, kind: &'static str, body: &[u8]) -> Result<Reply, Trouble> {
        let Settings { client, gzip, .. } = &self.settings;
        let mut headers = vec![("Content-Type", HeaderValue::from_static(kind))];
        if let Some(authorization) = &self.settings.authorization {
            headers.push(("Authorization", authorization.clone()));
        }
        if let Shape::Splunk { .. } = self.settings.shape
            && let Ok(channel) = HeaderValue::from_str(&self.channel.to_string())
        {
            headers.push(("X-Splunk-Request-Channel", channel));
        }
        let packed = gzip.then(|| packed(body)).transpose();
        let packed = packed.map_err(|error| Trouble::Later(format!("gzip: {error}")))?;
        if packed.is_some() {
            headers.push(("Content-Encoding", HeaderValue::from_static("gzip")));
        }
        let body = packed.as_deref().unwrap_or(body);
        let reply = client.post(path, &headers, body, ANSWER);
        let reply = reply.map_err(Trouble::Later)?;
        let told = client.judgement(&reply);
        let is_splunk = matches!(self.settings.shape, Shape::Splunk { .. });
        match (reply.status, reply.put_off) {
            (200..=299, _) => Ok(reply),
            (300..=399, _) => Err(Trouble::Later(format!(
                "{told} (redirects are not followed)"
            ))),
            (400, _) if is_splunk && !answer::is_a_records_fault(&reply.body) => {
                Err(Trouble::Later(told))
            }
            // It is about what was sent. Everything else is about us, the address, or the server itself.
            (400 | 413 | 422, _) => Err(Trouble::Refused(told)),
            (_, Some(span)) => Err(Trouble::After(told, span)),
            (_, None) => Err(Trouble::Later(told)),
        }
    }

    /// How many from the front are known to be taken; and why the next one never will be, if that is known.
    fn settle(&mut self, parcels: &[Parcel]) -> (usize, Option<String>) {
        let mut taken = 0;
        while let Some(parcel) = parcels.get(taken) {
            match self.known.remove(&parcel.id) {
                Some(Ok(())) => taken += 1,
                Some(Err(why)) => return (taken, Some(why)),
                None => break,
            }
        }
        (taken, None)
    }

    /// The first records that are not settled, as many as may be in a request.
    fn batch<'p>(&self, parcels: &'p [Parcel]) -> Vec<&'p Parcel> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for parcel in parcels {
            if self.known.contains_key(&parcel.id) {
                continue;
            }
            bytes += parcel.line.len();
            if !batch.is_empty() && (bytes > BODY || batch.len() >= self.limit) {
                break;
            }
            batch.push(parcel);
        }
        batch
    }
}

impl Transport for Http {
    fn deliver(&mut self, parcels: &[Parcel]) -> Delivery {
        // Those of an earlier call that did not come again.
        if self.known.len() > parcels.len() {
            self.known
                .retain(|id, _| parcels.iter().any(|parcel| parcel.id == *id));
        }
        let mut taken = 0;
        loop {
            let (settled, refused) = self.settle(&parcels[taken..]);
            taken += settled;
            if let Some(why) = refused {
                return Delivery::refused(taken, why);
            }
            let batch = self.batch(&parcels[taken..]);
            if batch.is_empty() {
                return Delivery::all(taken);
            }
            let fates = match self.send(&batch) {
                Ok(fates) => fates,
                Err(Trouble::Refused(_)) if batch.len() > 1 => {
                    self.limit = batch.len() / 2;
                    continue;
                }
                Err(trouble) => {
                    let trouble = Some(trouble);
                    return Delivery { taken, trouble };
                }
            };
            self.limit = self.limit.saturating_mul(2);
            let mut later = None;
            for (parcel, fate) in batch.iter().zip(fates) {
                match fate {
                    Fate::Taken => drop(self.known.insert(parcel.id, Ok(()))),
                    Fate::Refused(why) => {
                        let why = self.settings.client.told(&why);
                        self.known.insert(parcel.id, Err(why));
                    }
                    Fate::Later(why) => later = later.or(Some(self.settings.client.told(&why))),
                }
            }
            if let Some(why) = later {
                let (settled, refused) = self.settle(&parcels[taken..]);
                taken += settled;
                return match refused {
                    Some(why) => Delivery::refused(taken, why),
                    None => Delivery::later(taken, why),
                };
            }
        }
    }
}

fn packed(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

/// A user with a password, as a header.
///
/// # Errors
/// They hold what no header can.
pub fn basic(user: &str, password: &str) -> Result<HeaderValue, String> {
    use base64::Engine as _;
    let both = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    authorization("Basic", &both)
}

#[cfg(test)]
mod tests;
