//! Which partition the records of a host go to: the one to which Kafka's own clients take the same key. Pure.

use super::error;
use super::wire::{Broker, Metadata};

/// Longest name of a host.
const HOST: usize = 253;

/// A partition with its leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its number.
    pub(super) partition: i32,
    /// Name or address of the leader.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
}

/// Where the records of this key go.
///
/// # Errors
/// Nobody leads it, or it cannot be told: as a clause about the broker that told of it.
pub(super) fn place(metadata: &Metadata, key: &[u8]) -> Result<Place, String> {
    match metadata.error {
        0 => {}
        error::NO_TOPIC => {
            return Err(
                "there is no such topic: create it, or say `create_topic = true`".to_owned(),
            );
        }
        error => return Err(error::told(error, None)),
    }
    let Some(chosen) = chosen(key, metadata.partitions.len()) else {
        return Err("the topic has no partitions yet".to_owned());
    };
    let partitions = &metadata.partitions;
    let partition = partitions.iter().find(|one| one.index == chosen);
    let leader = partition.map_or(-1, |partition| partition.leader);
    let mut brokers = metadata.brokers.iter();
    let Some(broker) = brokers.find(|broker| broker.node == leader) else {
        return Err(format!("partition {chosen} has no leader now"));
    };
    let (host, port) =
        address(broker).ok_or("it tells of a broker whose address is none".to_owned())?;
    Ok(Place {
        partition: chosen,
        host,
        port,
    })
}

/// The partition of a key among so many; none among none.
fn chosen(key: &[u8], count: usize) -> Option<i32> {
    let count = i32::try_from(count).ok()?;
    let positive = murmur2(key) & 0x7fff_ffff;
    positive.cast_signed().checked_rem(count)
}

/// Nothing that a name could not be: it is connected to, and shown.
fn address(broker: &Broker) -> Option<(String, u16)> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let host = &broker.host;
    let is_right = !host.is_empty() && host.len() <= HOST && host.bytes().all(plain);
    let port = u16::try_from(broker.port).ok().filter(|port| *port > 0)?;
    is_right.then(|| (host.clone(), port))
}

/// MurmurHash2 of 32 bits with the seed of Kafka's clients.
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let (words, rest) = bytes.as_chunks::<4>();
    let mut hash = SEED ^ bytes.len() as u32;
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (byte, at) in rest.iter().zip([0, 8, 16]) {
            hash ^= u32::from(*byte) << at;
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::{Place, chosen, murmur2, place};
    use crate::sink::transport::kafka::wire::{Broker, Metadata, Partition};

    /// The values that the tests of Kafka's Java client hold its hash to.
    #[test]
    fn a_hash_is_that_of_the_java_client() {
        for (text, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), expected, "{text}");
        }
    }

    fn metadata(host: &str, port: i32) -> Metadata {
        let partition = |index| Partition { index, leader: 7 };
        Metadata {
            brokers: vec![Broker {
                node: 7,
                host: host.to_owned(),
                port,
            }],
            error: 0,
            partitions: (0..5).map(partition).collect(),
        }
    }

    #[test]
    fn a_key_has_its_partition_as_long_as_their_number_stays() {
        let told = metadata("kafka1.example.org", 9093);
        let expected = Place {
            partition: chosen(b"foobar", 5).expect("one"),
            host: "kafka1.example.org".to_owned(),
            port: 9093,
        };
        assert_eq!(place(&told, b"foobar"), Ok(expected.clone()));
        // In whatever order they are told.
        let mut turned = told;
        turned.partitions.reverse();
        assert_eq!(place(&turned, b"foobar"), Ok(expected));
        assert_eq!(chosen(b"foobar", 0), None);
    }

    #[test]
    fn what_cannot_be_a_broker_is_not_connected_to() {
        for (host, port) in [
            ("", 1),
            ("a b", 1),
            ("a\x1b[2J", 1),
            ("a/b", 1),
            ("a", 0),
            ("a", 70_000),
            (&"a".repeat(254), 1),
        ] {
            let why = place(&metadata(host, port), b"k").expect_err("an address");
            assert!(why.contains("address is none"), "{why}");
        }
        let mut none = metadata("a", 1);
        none.brokers.clear();
        let why = place(&none, b"k").expect_err("a leader");
        assert!(why.contains("no leader"), "{why}");
        none.error = 3;
        let why = place(&none, b"k").expect_err("a topic");
        assert!(why.contains("create_topic"), "{why}");
    }
}
