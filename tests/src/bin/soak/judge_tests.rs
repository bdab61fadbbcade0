//! Each fault is found, and a life without one is not accused.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn listener(mark: Mark, closed: Option<u32>) -> Listener {
    Listener {
        player: "test",
        pid: 10,
        exe: "/bin/server".to_owned(),
        protocol: "tcp",
        place: Some("127.0.0.1:80".to_owned()),
        mark,
        closed: closed.map(|at| (SECOND * at, SECOND * (at + 1))),
        opened: (SECOND, SECOND),
    }
}

fn told(kind: Kind, at: u32) -> Told {
    Told {
        kind,
        at: SECOND * at,
        inode: 5,
        pid: 10,
        exe: "/bin/server".to_owned(),
        protocol: "tcp".to_owned(),
        place: Some("127.0.0.1:80".to_owned()),
        token: "word".to_owned(),
        netns: 1,
        ours: true,
    }
}

fn faults(truth: &[Listener], story: &[Told]) -> Vec<Fault> {
    faults_with(truth, story, &[])
}

fn faults_with(truth: &[Listener], story: &[Told], gaps: &[(Duration, Duration)]) -> Vec<Fault> {
    judge(truth, story, gaps, &[1])
        .faults
        .into_iter()
        .map(|(fault, _)| fault)
        .collect()
}

#[test]
fn a_life_that_is_told_is_no_fault() {
    let story = [told(Kind::Opened, 1), told(Kind::Closed, 5)];
    for mark in [Mark::Inode(5), Mark::Token("word".to_owned())] {
        assert_eq!(faults(&[listener(mark, Some(4))], &story), []);
    }
    assert_eq!(faults(&[listener(Mark::Inode(5), None)], &story[..1]), []);
}

#[test]
fn what_is_not_told_is_missed() {
    let closed = [listener(Mark::Inode(5), Some(4))];
    assert_eq!(faults(&closed, &[]), [Fault::Missed]);
    assert_eq!(
        faults(&closed, &[told(Kind::Opened, 1)]),
        [Fault::ClosingMissed]
    );
    let late = [told(Kind::Present, 2), told(Kind::Closed, 5)];
    assert_eq!(faults(&closed, &late), [Fault::FoundLate]);
}

#[test]
fn what_is_missing_in_a_gap_was_told_to_be_lost() {
    let closed = [listener(Mark::Inode(5), Some(40))];
    let early = [(SECOND, SECOND * 2)];
    assert_eq!(faults_with(&closed, &[], &early), [Fault::Lost]);
    let open = [told(Kind::Opened, 1)];
    assert_eq!(faults_with(&closed, &open, &early), [Fault::ClosingMissed]);
    let late = [(SECOND * 41, SECOND * 42)];
    assert_eq!(faults_with(&closed, &open, &late), [Fault::Lost]);
    assert_eq!(faults_with(&closed, &[], &late), [Fault::Missed]);
}

#[test]
fn what_is_told_twice_or_too_early_is_found() {
    let closed = [listener(Mark::Inode(5), Some(4))];
    let twice = [
        told(Kind::Opened, 1),
        told(Kind::Present, 2),
        told(Kind::Closed, 5),
    ];
    assert_eq!(faults(&closed, &twice), [Fault::Doubled]);
    let early = [told(Kind::Opened, 1), told(Kind::Closed, 3)];
    assert_eq!(faults(&closed, &early), [Fault::ClosedWhileOpen]);
    let open = [listener(Mark::Inode(5), None)];
    assert_eq!(faults(&open, &early), [Fault::ClosedWhileOpen]);
}

#[test]
fn another_process_program_or_place_is_found() {
    let truth = [listener(Mark::Inode(5), Some(4))];
    let spoil: [fn(&mut Told); 4] = [
        |told| told.pid = 11,
        |told| told.exe = "/bin/other".to_owned(),
        |told| told.place = Some("0.0.0.0:80".to_owned()),
        |told| told.protocol = "udp".to_owned(),
    ];
    for spoil in spoil {
        let mut opened = told(Kind::Opened, 1);
        spoil(&mut opened);
        let story = [opened, told(Kind::Closed, 5)];
        assert_eq!(faults(&truth, &story), [Fault::Misattributed]);
    }
}

#[test]
fn a_listener_that_nobody_opened_is_unexpected() {
    assert_eq!(faults(&[], &[told(Kind::Opened, 1)]), [Fault::Unexpected]);
    let stranger = Told {
        pid: 99,
        ours: false,
        ..told(Kind::Opened, 1)
    };
    let own = Told {
        pid: 1,
        ..told(Kind::Opened, 1)
    };
    assert_eq!(faults(&[], &[stranger, own]), []);
}
