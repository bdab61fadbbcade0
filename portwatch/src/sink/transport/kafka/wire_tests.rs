use proptest::prelude::*;

use super::{ANSWER, Broker, Call, Heard, Partition, Reader, Request};
use crate::sink::transport::kafka::fuzz::{framed, kafka};
use crate::sink::transport::kafka::tests::broker;

#[test]
fn an_answer_is_understood_in_whatever_pieces() {
    let said = [framed(7, b"abc"), framed(8, b""), framed(-1, &[9; 300])].concat();
    for piece in 1..said.len() {
        let (mut heard, mut all) = (Heard::default(), Vec::new());
        for piece in said.chunks(piece) {
            heard.push(piece);
            while let Some(answer) = heard.next().expect("Kafka") {
                all.push(answer);
            }
        }
        assert_eq!(
            all,
            [(7, b"abc".to_vec()), (8, Vec::new()), (-1, vec![9; 300])]
        );
    }
}

#[test]
fn what_is_not_kafka_or_has_no_end_is_not_waited_for() {
    let longest = u32::try_from(ANSWER + 1).expect("short").to_be_bytes();
    for wrong in [
        b"HTTP/1.1 400\r\n".as_slice(),
        b"\x15\x03\x03\x00\x02\x02\x46",
        &[0; 8],
        b"\xff\xff\xff\xff",
        &longest,
    ] {
        let mut heard = Heard::default();
        heard.push(wrong);
        assert!(heard.next().is_err(), "{wrong:?}");
    }
}

#[test]
fn the_newest_version_that_both_speak_is_taken() {
    let answer = broker::versions(true);
    let versions = Reader::new(&answer).versions().expect("versions");
    assert_eq!(versions.of(Call::Produce), Some(8));
    assert_eq!(versions.of(Call::Metadata), Some(7));
    assert_eq!(versions.of(Call::SaslAuthenticate), Some(0));
    assert_eq!(versions.of(Call::InitProducerId), None);
    // One too old, and one of a time to come.
    let answer = [
        &[0, 0, 0, 0, 0, 2][..],
        &[0, 0, 0, 0, 0, 2],
        &[0, 3, 0, 9, 0, 20],
    ]
    .concat();
    let versions = Reader::new(&answer).versions().expect("versions");
    assert_eq!(
        (versions.of(Call::Produce), versions.of(Call::Metadata)),
        (None, None)
    );
}

#[test]
fn each_version_of_an_answer_says_the_same() {
    for version in 2..=7 {
        let answer = broker::metadata(version, "kafka1.example.org", 9093, 5);
        let metadata = Reader::new(&answer).metadata(version).expect("metadata");
        let expected = Broker {
            node: 7,
            host: "kafka1.example.org".to_owned(),
            port: 9093,
        };
        assert_eq!((metadata.brokers, metadata.error), (vec![expected], 5));
        let partition = |index| Partition { index, leader: 7 };
        assert_eq!(metadata.partitions, [0, 1, 2, 3].map(partition));
        for end in 0..answer.len() {
            assert!(Reader::new(&answer[..end]).metadata(version).is_err());
        }
    }
    for version in 3..=8 {
        let answer = broker::produced(version, 87, Some("no\x1b[2J"));
        let produced = Reader::new(&answer)
            .produced(version, 2)
            .expect("an answer");
        assert_eq!(produced.error, 87);
        let words = (version == 8).then(|| r"no\x1b[2J".to_owned());
        assert_eq!(produced.words, words);
        assert!(Reader::new(&answer).produced(version, 4).is_err());
        assert!(
            Reader::new(&answer[..answer.len() - 1])
                .produced(version, 2)
                .is_err()
        );
    }
}

/// As the protocol guide spells it.
#[test]
fn a_request_is_what_its_description_says() {
    let mut request = Request::new(Call::Metadata, 4, 258);
    request.metadata(4, "ab", true);
    assert_eq!(
        request.finish(),
        b"\0\0\0\x1c\0\x03\0\x04\0\0\x01\x02\0\x09portwatch\0\0\0\x01\0\x02ab\x01"
    );
    let mut request = Request::new(Call::Produce, 8, 1);
    request.produce("ab", 3, 7_500, b"xyz");
    let rest = b"\xff\xff\xff\xff\0\0\x1d\x4c\0\0\0\x01\0\x02ab\0\0\0\x01\0\0\0\x03\0\0\0\x03xyz";
    assert!(request.finish().ends_with(rest));
}

proptest! {
    #[test]
    fn any_bytes_are_borne(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        kafka(&bytes);
        // And as the body of an answer, so that what reads it is reached.
        kafka(&[&[3], framed(0, &bytes).as_slice()].concat());
    }
}
