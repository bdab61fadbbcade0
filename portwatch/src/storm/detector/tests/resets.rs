//! Storms of resets: of which listener, or of a namespace whose connections no listener has.

use super::*;

/// So many resets of the listener, and so many that its namespace counts.
fn reading(now: u64, of_listener: u64, of_namespace: u64) -> Reading {
    let mut web = listener(WEB, 0, 0);
    web.resets = Some(of_listener);
    Reading {
        listeners: vec![web],
        namespaces: vec![NamespaceReading {
            reset_connections: Some(of_namespace),
            ..namespace()
        }],
        ..at(now)
    }
}

#[test]
fn resets_without_connections_are_a_storm() {
    let resets = |now| grown(now, START, START + 20 * SECOND, 2_000);
    let model = |now: u64| reading(now, resets(now), resets(now));
    let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
    begins_and_ends(&told, StormKind::ResetStorm, SLOW + 5 * SECOND);
}

/// A namespace counts both ends of what is between processes of one host, and is read a moment after its listeners.
#[test]
fn a_storm_of_resets_on_one_host_is_the_listeners_alone() {
    for phase in 0..40 {
        let begin = START + phase * 25 * MS;
        let resets = |now| grown(now, begin, begin + 20 * SECOND, 1_000);
        let model = |now: u64| reading(now, resets(now), 2 * resets(now + 30 * MS));
        let told = run(&mut detector(), 1, begin + 60 * SECOND, &model);
        let of: Vec<Subject> = told
            .iter()
            .filter_map(|(_, report)| match report {
                Report::Started(episode) => Some(episode.subject),
                _ => None,
            })
            .collect();
        assert_eq!(of, [Subject::Listener(WEB)], "{told:#?}");
    }
}

/// What a quiet listener's namespace counts beyond it is told of the namespace, and only that.
#[test]
fn resets_that_no_listener_has_are_the_namespaces() {
    let few = |now| grown(now, 0, FOREVER, 100);
    let resets = |now| grown(now, START, START + 20 * SECOND, 2_000);
    let model = |now: u64| reading(now, few(now), resets(now) + few(now));
    let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
    begins_and_ends(&told, StormKind::ResetStorm, SLOW + 5 * SECOND);
    let Some((_, Report::Ended(episode, false))) = told.last() else {
        panic!("{told:#?}");
    };
    assert_eq!(episode.subject, Subject::Namespace(WEB.netns));
    assert!(episode.total <= 40_000, "{episode:#?}");
    assert!(episode.total >= 36_000, "{episode:#?}");
}
