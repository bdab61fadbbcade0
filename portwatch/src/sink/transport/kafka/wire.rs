//! Requests to a Kafka broker, and what it answers, from bytes of any kind. Pure.
//!
//! Only versions without tagged fields are spoken; every broker from 0.11 to 4 has them, and they are all that is needed.

use crate::text::{clip, guard};

/// Longest answer that is listened to. The longest one is about all brokers of a cluster and the partitions of one topic.
const ANSWER: usize = 1 << 20;
/// Characters of a broker's text that are shown.
const SHOWN: usize = 200;
/// Mechanisms that are shown.
const MECHANISMS: usize = 8;
/// What we call ourselves.
const CLIENT: &str = "portwatch";

/// What we ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Take records.
    Produce,
    /// Who leads which partition?
    Metadata,
    /// By which mechanism we log in.
    SaslHandshake,
    /// What do you speak?
    ApiVersions,
    /// Give us an id by which you know repetitions.
    InitProducerId,
    /// One step of a login.
    SaslAuthenticate,
}

impl Call {
    const ALL: [Self; 6] = [
        Self::Produce,
        Self::Metadata,
        Self::SaslHandshake,
        Self::ApiVersions,
        Self::InitProducerId,
        Self::SaslAuthenticate,
    ];

    /// Its number, and the versions of it that we speak.
    const fn numbers(self) -> (i16, i16, i16) {
        match self {
            Self::Produce => (0, 3, 8),
            Self::Metadata => (3, 2, 7),
            Self::SaslHandshake => (17, 1, 1),
            Self::ApiVersions => (18, 0, 0),
            Self::InitProducerId => (22, 0, 1),
            Self::SaslAuthenticate => (36, 0, 0),
        }
    }

    /// Its name in Kafka's protocol.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Produce => "Produce",
            Self::Metadata => "Metadata",
            Self::SaslHandshake => "SaslHandshake",
            Self::ApiVersions => "ApiVersions",
            Self::InitProducerId => "InitProducerId",
            Self::SaslAuthenticate => "SaslAuthenticate",
        }
    }
}

/// Versions that both sides speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Versions([Option<i16>; Call::ALL.len()]);

impl Versions {
    /// The newest one of this request.
    pub(crate) fn of(&self, call: Call) -> Option<i16> {
        let mut all = Call::ALL.iter().zip(self.0);
        all.find_map(|(one, version)| (*one == call).then_some(version)?)
    }
}

/// A broker, as another one tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broker {
    /// Its number.
    pub(crate) node: i32,
    /// Where it says that it is; anything.
    pub(crate) host: String,
    /// Its port; anything.
    pub(crate) port: i32,
}

/// A partition of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Its number.
    pub(crate) index: i32,
    /// The broker that takes its records; negative when there is none.
    pub(crate) leader: i32,
}

/// What a broker tells of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// Its brokers.
    pub(crate) brokers: Vec<Broker>,
    /// What is wrong with the topic; 0 when nothing is.
    pub(crate) error: i16,
    /// Its partitions.
    pub(crate) partitions: Vec<Partition>,
}

/// What a broker says to records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Produced {
    /// What is wrong with them; 0 when nothing is.
    pub(crate) error: i16,
    /// In its own words. Holds no control character.
    pub(crate) words: Option<String>,
    /// For so long it listens to no more, in ms.
    pub(crate) throttle: u32,
}

/// Bytes of a broker, until an answer is whole.
#[derive(Debug, Default)]
pub(crate) struct Heard(Vec<u8>);

impl Heard {
    /// Takes bytes in.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next answer with the number of its request; none before it is whole.
    ///
    /// # Errors
    /// It is none; then nothing after it can be understood.
    pub(crate) fn next(&mut self) -> Result<Option<(i32, Vec<u8>)>, &'static str> {
        let mut reader = Reader(&self.0);
        let Ok(length) = reader.i32() else {
            return Ok(None);
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length < 4 {
            return Err("it does not speak Kafka's protocol");
        }
        if length > ANSWER {
            return Err("its answer is longer than any, or it does not speak Kafka's protocol");
        }
        if reader.0.len() < length {
            return Ok(None);
        }
        let number = reader.i32()?;
        let body = self.0.get(8..4 + length).unwrap_or_default().to_vec();
        self.0.drain(..4 + length);
        Ok(Some((number, body)))
    }
}

/// What is left of an answer.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

/// What is wrong with an answer that ends within something.
const SHORT: &str = "its answer ends too early";

impl<'a> Reader<'a> {
    /// At the beginning of an answer.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn i16(&mut self) -> Result<i16, &'static str> {
        self.number().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, &'static str> {
        self.number().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, &'static str> {
        self.number().map(i64::from_be_bytes)
    }

    fn text(&mut self) -> Result<Option<String>, &'static str> {
        let length = self.i16()?;
        let Ok(length) = usize::try_from(length) else {
            return Ok(None);
        };
        let bytes = self.take(length)?;
        Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn bytes(&mut self) -> Result<&'a [u8], &'static str> {
        let length = self.i32()?;
        self.take(usize::try_from(length).unwrap_or(0))
    }

    /// A list, whose items are no shorter than this.
    fn list<T>(
        &mut self,
        least: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, &'static str>,
    ) -> Result<Vec<T>, &'static str> {
        let count = usize::try_from(self.i32()?).unwrap_or(0);
        if count > self.0.len() / least {
            return Err(SHORT);
        }
        (0..count).map(|_| item(self)).collect()
    }

    /// What it speaks.
    ///
    /// # Errors
    /// It is not understood; so for the others.
    pub(crate) fn versions(mut self) -> Result<Versions, &'static str> {
        if self.i16()? != 0 {
            return Err("it does not tell what it speaks");
        }
        let ranges = self.list(6, |this| Ok((this.i16()?, this.i16()?, this.i16()?)))?;
        Ok(Versions(Call::ALL.map(|call| {
            let (number, least, most) = call.numbers();
            let range = ranges.iter().find(|(of, ..)| *of == number)?;
            let newest = most.min(range.2);
            (newest >= least.max(range.1)).then_some(newest)
        })))
    }

    /// Who leads the partitions of the one topic that was asked for.
    pub(crate) fn metadata(mut self, version: i16) -> Result<Metadata, &'static str> {
        if version >= 3 {
            self.i32()?;
        }
        let brokers = self.list(12, |this| {
            let (node, host, port) = (this.i32()?, this.text()?, this.i32()?);
            this.text()?;
            let host = host.unwrap_or_default();
            Ok(Broker { node, host, port })
        })?;
        self.text()?;
        self.i32()?;
        let mut topics = self.list(9, |this| {
            let error = this.i16()?;
            this.text()?;
            this.take(1)?;
            Ok((error, this.list(18, |this| this.partition(version))?))
        })?;
        let (error, partitions) = topics
            .pop()
            .filter(|_| topics.is_empty())
            .ok_or("it tells of other topics than the one that it was asked for")?;
        Ok(Metadata {
            brokers,
            error,
            partitions,
        })
    }

    fn partition(&mut self, version: i16) -> Result<Partition, &'static str> {
        // Its leader is missing when this is an error.
        self.i16()?;
        let (index, leader) = (self.i32()?, self.i32()?);
        if version >= 7 {
            self.i32()?;
        }
        let lists = if version >= 5 { 3 } else { 2 };
        for _ in 0..lists {
            self.list(4, Self::i32)?;
        }
        Ok(Partition { index, leader })
    }

    /// An id and its epoch, or what is wrong.
    pub(crate) fn producer(mut self) -> Result<Result<(i64, i16), i16>, &'static str> {
        self.i32()?;
        Ok(match self.i16()? {
            0 => Ok((self.i64()?, self.i16()?)),
            error => Err(error),
        })
    }

    /// What it says to the records of this partition.
    pub(crate) fn produced(mut self, version: i16, of: i32) -> Result<Produced, &'static str> {
        let topics = self.list(6, |this| {
            this.text()?;
            this.list(22, |this| {
                let (index, error) = (this.i32()?, this.i16()?);
                // Offset and time of the first record.
                this.take(16)?;
                if version >= 5 {
                    this.i64()?;
                }
                let mut words = None;
                if version >= 8 {
                    let each = this.list(6, |this| Ok((this.i32()?, this.text()?)))?;
                    words = this.text()?;
                    words = words.or_else(|| each.into_iter().find_map(|(_, words)| words));
                }
                Ok((index, error, words))
            })
        })?;
        let throttle = self.i32()?;
        let mut answers = topics.into_iter().flatten();
        let (_, error, words) = answers
            .find(|(index, ..)| *index == of)
            .ok_or("it does not tell whether it has the records")?;
        Ok(Produced {
            error,
            words: words
                .map(|words| shown(&words))
                .filter(|words| !words.is_empty()),
            throttle: u32::try_from(throttle).unwrap_or(0),
        })
    }

    /// What is wrong with a mechanism, and the first of those that it has.
    pub(crate) fn mechanisms(mut self) -> Result<(i16, Vec<String>), &'static str> {
        let error = self.i16()?;
        let count = usize::try_from(self.i32()?).unwrap_or(0).min(MECHANISMS);
        let mut names = Vec::with_capacity(count);
        for _ in 0..count {
            names.push(shown(&self.text()?.unwrap_or_default()));
        }
        Ok((error, names))
    }

    /// What is wrong with a step of a login, in numbers and words, and the answer to it.
    pub(crate) fn authenticated(mut self) -> Result<(i16, String, &'a [u8]), &'static str> {
        let (error, words) = (self.i16()?, self.text()?.unwrap_or_default());
        Ok((error, shown(&words), self.bytes()?))
    }
}

fn shown(text: &str) -> String {
    clip(&guard(text.trim()), SHOWN, |_| 1).into_owned()
}

/// A request with its header.
#[derive(Debug)]
pub(crate) struct Request(Vec<u8>);

impl Request {
    /// Of this version, with this number.
    pub(crate) fn new(call: Call, version: i16, number: i32) -> Self {
        let mut this = Self(vec![0; 4]);
        this.i16(call.numbers().0)
            .i16(version)
            .i32(number)
            .text(CLIENT);
        this
    }

    fn i16(&mut self, number: i16) -> &mut Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn i32(&mut self, number: i32) -> &mut Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// No longer than 32 KiB.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        self.0.extend(text.bytes().take(i16::MAX as usize));
        self
    }

    /// No longer than 2 GiB.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        self.0.extend_from_slice(bytes);
        self
    }

    /// Asks for this topic alone; where it is not there, it may be made.
    pub(crate) fn metadata(&mut self, version: i16, topic: &str, create: bool) {
        self.i32(1).text(topic);
        if version >= 4 {
            self.0.push(u8::from(create));
        }
    }

    /// Asks for an id outside of transactions.
    pub(crate) fn producer(&mut self) {
        self.i16(-1).i32(i32::MAX);
    }

    /// Hands a batch over, which all replicas in sync are to have, within so many milliseconds.
    pub(crate) fn produce(&mut self, topic: &str, partition: i32, millis: i32, batch: &[u8]) {
        const ALL: i16 = -1;
        self.i16(-1).i16(ALL).i32(millis);
        self.i32(1).text(topic).i32(1).i32(partition).bytes(batch);
    }

    /// The bytes of all of it.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        if let Some(place) = self.0.first_chunk_mut() {
            *place = length.to_be_bytes();
        }
        self.0
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
