use super::super::simulation::{HOUR, SECOND, source};
use super::*;

fn settings() -> Settings {
    Settings::default()
}

fn read(scans: &mut Scans, sources: &[SourceReading], at: u64) -> Vec<Found> {
    scans.read(sources, BootNs(at), &settings(), |_| false)
}

fn services(count: u16) -> Vec<u16> {
    (0..count).map(|n| 20 + n * 3).collect()
}

#[test]
fn a_slow_scan_is_one_scan_however_slow() {
    let (mut scans, mut found) = (Scans::default(), Vec::new());
    // A port every fifteen minutes, and the kernel forgets each before the next.
    for (port, n) in services(40).into_iter().zip(1_u64..) {
        let at = n * HOUR / 4;
        let mut one = source(7, &[port], at);
        one.first = BootNs(at);
        found.extend(read(&mut scans, &[one], at));
    }
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].shape, found[0].ports), (ScanShape::Vertical, 20));
    assert!(found[0].last.since(found[0].first) > 4 * HOUR);
}

#[test]
fn twenty_ports_within_a_day_are_a_scan_and_fewer_are_none() {
    for (minutes, expected) in [(70, 1), (80, 0)] {
        let (mut scans, mut found) = (Scans::default(), Vec::new());
        for (port, n) in services(30).into_iter().zip(1_u64..) {
            let at = n * minutes * 60 * SECOND;
            let mut one = source(7, &[port], at);
            one.first = BootNs(at);
            found.extend(read(&mut scans, &[one], at));
        }
        assert_eq!(found.len(), expected, "a port in {minutes} min: {found:?}");
    }
}

#[test]
fn a_scan_is_told_once_and_again_after_it_was_silent() {
    let mut scans = Scans::default();
    let ports = services(30);
    assert_eq!(
        read(&mut scans, &[source(7, &ports, SECOND)], SECOND).len(),
        1
    );
    for n in 2..100 {
        let at = n * SECOND;
        assert!(read(&mut scans, &[source(7, &ports, at)], at).is_empty());
    }
    let later = 3 * HOUR;
    assert_eq!(
        read(&mut scans, &[source(7, &ports, later)], later).len(),
        1
    );
}

/// The kernel's table forgets when it needs the place, which may be in days.
#[test]
fn a_scan_that_is_over_is_not_told_from_memory() {
    let mut scans = Scans::default();
    let over = source(7, &services(30), SECOND);
    let mut found = 0;
    for n in 1..1_000 {
        let at = n * 60 * SECOND;
        let stranger = source(8, &[23], at);
        found += read(&mut scans, &[over.clone(), stranger], at).len();
    }
    assert_eq!(found, 1);
}

#[test]
fn what_comes_late_to_ports_that_the_kernel_chose_is_no_scan() {
    let mut scans = Scans::default();
    let ports: Vec<u16> = (0..100).map(|n| 33_000 + n * 97).collect();
    assert!(read(&mut scans, &[source(7, &ports, SECOND)], SECOND).is_empty());
    // Answers of a name server: of UDP nothing is believed that is not seen.
    let mut answers = source(8, &[], 2 * SECOND);
    (answers.is_udp, answers.ports) = (true, 500);
    assert!(read(&mut scans, &[answers], 2 * SECOND).is_empty());
    let mut scan = source(9, &services(30), 3 * SECOND);
    scan.is_udp = true;
    let found = read(&mut scans, &[scan], 3 * SECOND);
    assert!(found.len() == 1 && found[0].is_udp, "{found:?}");
}

#[test]
fn few_ports_are_no_scan() {
    let mut scans = Scans::default();
    for n in 1..200 {
        let at = n * 60 * SECOND;
        let told = read(&mut scans, &[source(7, &services(19), at)], at);
        assert!(told.is_empty(), "{told:?}");
    }
}

#[test]
fn a_crossing_is_told_even_if_the_kernel_has_forgotten_its_source() {
    let mut scans = Scans::default();
    let address = "198.51.100.4".parse().expect("an address");
    scans.crossed(&Crossing {
        is_udp: false,
        at: BootNs(SECOND),
        subject: Subject::Source(1, address),
        rate: Rate::Ports,
        count: 20,
        window_ns: SECOND,
    });
    let found = read(&mut scans, &[], 2 * SECOND);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].source, found[0].ports), (Some(address), 20));
}

/// Each namespace has a loopback of its own.
#[test]
fn loopback_is_not_one_source() {
    let mut scans = Scans::default();
    let at = 10 * SECOND;
    let knock = |address: &str, netns| SourceReading {
        netns,
        address: address.parse().expect("an address"),
        ..source(1, &[8080], at)
    };
    let here: Vec<_> = (1..=4).map(|netns| knock("127.0.0.1", netns)).collect();
    assert!(read(&mut scans, &here, at).is_empty());
    let there: Vec<_> = (1..=4).map(|netns| knock("198.51.100.9", netns)).collect();
    assert_eq!(read(&mut scans, &there, 2 * at).len(), 1);
}

#[test]
fn more_crossings_than_there_is_room_for_are_counted() {
    let mut scans = Scans::default();
    for round in 0..100_u32 {
        for n in 0..64 {
            let address = std::net::Ipv4Addr::from(0x0b00_0000 + round * 64 + n);
            scans.crossed(&Crossing {
                is_udp: false,
                at: BootNs(SECOND),
                subject: Subject::Source(1, address.into()),
                rate: Rate::Ports,
                count: 20,
                window_ns: 0,
            });
        }
        read(&mut scans, &[], 2 * SECOND + u64::from(round));
    }
    assert_eq!(
        (scans.len(), scans.dropped),
        (SOURCES, 6_400 - SOURCES as u64)
    );
}

#[test]
fn many_sources_at_one_port_are_told_once() {
    let mut scans = Scans::default();
    let knock = |n: u8| source(n, &[23], 10 * SECOND);
    let few: Vec<SourceReading> = (0..99).map(knock).collect();
    assert!(read(&mut scans, &few, 10 * SECOND).is_empty());
    let many: Vec<SourceReading> = (0..120).map(knock).collect();
    let found = read(&mut scans, &many, 20 * SECOND);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].shape, found[0].sources, found[0].sample.clone()),
        (ScanShape::Distributed, 120, vec![23])
    );
    assert!(read(&mut scans, &many, 30 * SECOND).is_empty());
    // Where connections are refused in a storm, that is told already.
    let mut scans = Scans::default();
    let told = scans.read(&many, BootNs(10 * SECOND), &settings(), |_| true);
    assert!(told.is_empty());
}

#[test]
fn one_port_in_many_namespaces_is_told_once() {
    let mut scans = Scans::default();
    let everywhere: Vec<SourceReading> = (1..=3)
        .map(|netns| SourceReading {
            netns,
            ..source(5, &[445], 10 * SECOND)
        })
        .collect();
    assert!(read(&mut scans, &everywhere[..2], 10 * SECOND).is_empty());
    let found = read(&mut scans, &everywhere, 20 * SECOND);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].shape, found[0].namespaces),
        (ScanShape::Horizontal, 3)
    );
    assert!(read(&mut scans, &everywhere, 30 * SECOND).is_empty());
}

#[test]
fn whoever_tries_more_takes_the_place_of_whoever_tried_least() {
    let mut scans = Scans::default();
    let address = |n: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(n));
    for n in 0..10_000_u32 {
        let one = SourceReading {
            address: address(n),
            ..source(1, &[22], SECOND)
        };
        read(&mut scans, &[one], SECOND);
    }
    assert_eq!(scans.len(), SOURCES);
    assert_eq!(scans.dropped, 10_000 - SOURCES as u64);
    let scan = source(7, &services(25), 2 * SECOND);
    assert_eq!(read(&mut scans, &[scan], 2 * SECOND).len(), 1);
    assert_eq!(scans.len(), SOURCES);
}

/// One port each, by addresses of networks that are so far apart.
fn by_addresses(count: u16, apart: u32) -> Vec<SourceReading> {
    by_others(count, apart, 1, SECOND)
}

/// The same at another time, by addresses from this one on.
fn by_others(count: u16, apart: u32, from: u128, at: u64) -> Vec<SourceReading> {
    let of = |(port, n): (u16, u128)| {
        let address = 0x2001_0db8_0001_0002_u128 << 64 | n << apart | 7;
        let mut one = source(1, &[port], at);
        one.first = BootNs(at);
        one.address = IpAddr::V6(address.into());
        one
    };
    services(count).into_iter().zip(from..).map(of).collect()
}

#[test]
fn many_addresses_of_one_network_are_one_scan() {
    let mut scans = Scans::default();
    let at = 10 * SECOND;
    let found = read(&mut scans, &by_addresses(40, 16), at);
    assert_eq!(found.len(), 1, "{found:?}");
    let one = &found[0];
    assert_eq!(
        (one.shape, one.sources, one.ports),
        (ScanShape::Vertical, 40, 40)
    );
    let network: IpAddr = "2001:db8:1:2::".parse().expect("an address");
    assert_eq!((one.source, one.knocks), (Some(network), 40));
    // Once.
    let later = at + 10 * SECOND;
    assert!(read(&mut scans, &by_addresses(40, 16), later).is_empty());
}

/// It has more addresses than there is memory.
#[test]
fn a_network_that_scans_is_told_once_by_however_many_addresses() {
    let mut scans = Scans::default();
    let mut found = Vec::new();
    for round in 0..100_u64 {
        let at = (10 + round * 6) * SECOND;
        found.extend(read(
            &mut scans,
            &by_others(40, 16, u128::from(round) * 40, at),
            at,
        ));
    }
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((scans.len(), scans.dropped), (0, 0));
    assert!(scans.knocks(1) <= 40, "{} are no scan", scans.knocks(1));
    // A stranger beside them is seen, and so is the network by UDP.
    let at = 620 * SECOND;
    assert_eq!(
        read(&mut scans, &[source(9, &services(30), at)], at).len(),
        1
    );
    let mut datagrams = by_others(40, 16, 1, at);
    datagrams.iter_mut().for_each(|one| one.is_udp = true);
    let at = at + 6 * SECOND;
    assert_eq!(read(&mut scans, &datagrams, at).len(), 1);
    // After an hour of silence it is another scan, though what it did before is still in the kernel's table.
    let later = at + 2 * HOUR;
    let before = by_others(40, 16, 0, at);
    assert!(read(&mut scans, &before, later).is_empty());
    let again = by_others(40, 16, 9_000, later);
    assert_eq!(read(&mut scans, &again, later + 6 * SECOND).len(), 1);
}

/// A host of a network of which is told that its addresses scan together.
#[test]
fn who_scans_alone_is_told_beside_his_network() {
    let mut scans = Scans::default();
    let at = 10 * SECOND;
    assert_eq!(read(&mut scans, &by_addresses(40, 16), at).len(), 1);
    let address: IpAddr = "2001:db8:1:2::abcd".parse().expect("an address");
    let knock = |ports: u16, at| SourceReading {
        address,
        ..source(1, &services(ports), at)
    };
    let at = at + SECOND;
    assert!(read(&mut scans, &[knock(9, at)], at).is_empty());
    assert!(read(&mut scans, &[knock(15, at + 1)], at + 1).is_empty());
    let found = read(&mut scans, &[knock(30, at + 2)], at + 2);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].source, found[0].sources), (Some(address), 1));
    // The same where the kernel has forgotten it.
    let other: IpAddr = "2001:db8:1:2::dcba".parse().expect("an address");
    for (count, told) in [(19, 0), (20, 1)] {
        scans.crossed(&Crossing {
            is_udp: false,
            at: BootNs(at),
            subject: Subject::Source(1, other),
            rate: Rate::Ports,
            count,
            window_ns: SECOND,
        });
        assert_eq!(read(&mut scans, &[], at + count).len(), told);
    }
    let later = at + 10 * SECOND;
    let many: Vec<SourceReading> = (0..3_u16)
        .map(|n| SourceReading {
            address: IpAddr::V6(
                ((0x2001_0db8_0001_0002_u128 << 64) | (u128::from(n) + 0xbbbb)).into(),
            ),
            ..source(
                1,
                &(0..10)
                    .map(|port| 2_000 + n * 100 + port)
                    .collect::<Vec<_>>(),
                later,
            )
        })
        .collect();
    assert!(
        read(&mut scans, &many, later).is_empty(),
        "the network is told"
    );
}

#[test]
fn networks_that_find_no_place_are_counted() {
    let mut scans = Scans::default();
    let mut found = 0;
    for n in 0..1_100_u128 {
        let at = (10 + 6 * u64::try_from(n).expect("few")) * SECOND / 2;
        let mut network = by_others(20, 16, 1, at);
        for one in &mut network {
            let IpAddr::V6(address) = one.address else {
                unreachable!("they have six")
            };
            one.address = IpAddr::V6((address.to_bits() + (n << 64)).into());
        }
        let here = read(&mut scans, &network, at);
        let vertical = here.iter().filter(|one| one.shape == ScanShape::Vertical);
        found += vertical.count();
    }
    assert_eq!(found, NETWORKS);
    assert!(scans.dropped > 0);
}

#[test]
fn few_ports_or_many_networks_are_no_scan_of_a_network() {
    let at = 10 * SECOND;
    assert!(read(&mut Scans::default(), &by_addresses(19, 16), at).is_empty());
    assert!(read(&mut Scans::default(), &by_addresses(40, 64), at).is_empty());
    let mut neighbours = by_addresses(40, 16);
    for one in &mut neighbours {
        if let IpAddr::V6(address) = one.address {
            let host = address.to_bits() & u128::from(u64::MAX);
            one.address = IpAddr::V6((0xfe80_u128 << 112 | host).into());
        }
    }
    assert!(read(&mut Scans::default(), &neighbours, at).is_empty());
}
