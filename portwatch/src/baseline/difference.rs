//! What listens against what is approved, one sentence for each difference. Pure.

use std::collections::BTreeSet;

use super::identity::{Frame, Identity};
use super::store::Approved;
use crate::event::{Event, message};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Nobody approved it.
    New {
        /// Where.
        place: String,
        /// Who.
        who: String,
    },
    /// Another program holds an approved place.
    Replaced {
        /// Where.
        place: String,
        /// Who.
        who: String,
        /// Who should.
        was: String,
    },
    /// It was approved and does not listen.
    Gone {
        /// Where.
        place: String,
        /// Who did.
        was: String,
    },
}

impl Difference {
    /// The sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::New { place, who } => format!("{place} now open: {who}, was closed"),
            Self::Replaced { place, who, was } => {
                format!("{place} now held by {who}, was held by {was}")
            }
            Self::Gone { place, was } => format!("{place} now closed, was open: {was}"),
        }
    }
}

/// Compares what is approved with the listeners of this moment.
///
/// A place whose program was replaced is one difference and not two, and what is accepted is none.
#[must_use]
pub fn differences(all: &Approved, present: &[Event], frame: &Frame) -> Vec<Difference> {
    let approved: BTreeSet<&Identity> = all.identities.iter().collect();
    let is_accepted = |event: &Event, identity: Option<&Identity>| {
        let mut accepted = all.accepted.iter();
        accepted.any(|one| one.admits(event, identity))
    };
    let known: Vec<(Option<Identity>, &Event)> = present
        .iter()
        .map(|event| (Identity::of(event, frame), event))
        .collect();
    let listening: BTreeSet<&Identity> = known.iter().filter_map(|(id, _)| id.as_ref()).collect();
    let mut gone: Vec<&Identity> = approved
        .iter()
        .copied()
        .filter(|one| !listening.contains(one))
        .collect();
    let mut told = BTreeSet::new();
    let mut found = Vec::new();
    for (identity, event) in &known {
        if is_accepted(event, identity.as_ref()) {
            continue;
        }
        let Some(identity) = identity else {
            found.push(new(event));
            continue;
        };
        if approved.contains(identity) || !told.insert(identity) {
            continue;
        }
        match gone.iter().position(|one| one.is_same_place(identity)) {
            Some(at) => found.push(Difference::Replaced {
                place: identity.to_string(),
                who: message::who(event),
                was: program(gone.swap_remove(at)),
            }),
            None => found.push(new(event)),
        }
    }
    gone.sort_unstable();
    found.extend(gone.into_iter().map(|one| Difference::Gone {
        place: one.to_string(),
        was: program(one),
    }));
    found
}

fn new(event: &Event) -> Difference {
    Difference::New {
        place: message::socket_of(event),
        who: message::who(event),
    }
}

fn program(identity: &Identity) -> String {
    if identity.exe.is_empty() {
        "the kernel".to_owned()
    } else {
        identity.exe.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{Approved, Frame, Identity, differences};
    use crate::baseline::{Accepted, What};
    use crate::event::{Event, EventType};
    use crate::filter::Filter;
    use crate::sink::testing;

    const FRAME: Frame = Frame {
        netns: 1,
        ephemeral: 32768..=60999,
    };

    fn listener(port: u16, pid: u32, exe: &str) -> Event {
        testing::listener(EventType::ListenerPresent, port, pid, exe)
    }

    fn all(approved: &[Event]) -> Approved {
        let identities = approved
            .iter()
            .filter_map(|event| Identity::of(event, &FRAME));
        Approved {
            identities: identities.collect(),
            accepted: Vec::new(),
        }
    }

    fn told(approved: &[Event], present: &[Event]) -> Vec<String> {
        let found = differences(&all(approved), present, &FRAME);
        found.iter().map(super::Difference::sentence).collect()
    }

    #[test]
    fn each_difference_is_one_sentence() {
        let nginx = listener(80, 7, "/usr/sbin/nginx");
        let master = listener(25, 8, "/usr/sbin/master");
        let approved = [nginx.clone(), master.clone()];
        assert!(told(&approved, &approved).is_empty());
        assert_eq!(
            told(
                &approved,
                &[
                    nginx.clone(),
                    master.clone(),
                    listener(4444, 812, "/usr/bin/nc")
                ]
            ),
            ["0.0.0.0:4444/tcp now open: nc (pid 812, root), was closed"]
        );
        assert_eq!(
            told(&approved, &[nginx]),
            ["0.0.0.0:25/tcp now closed, was open: /usr/sbin/master"]
        );
        assert_eq!(
            told(&approved, &[listener(80, 9, "/tmp/nginx"), master]),
            ["0.0.0.0:80/tcp now held by nginx (pid 9, root), was held by /usr/sbin/nginx"]
        );
    }

    #[test]
    fn a_restart_is_no_difference() {
        let before = [
            listener(80, 7, "/usr/sbin/nginx"),
            listener(40001, 8, "/usr/bin/app"),
        ];
        let after = [
            listener(80, 70, "/usr/sbin/nginx"),
            listener(52123, 80, "/usr/bin/app"),
        ];
        assert!(told(&before, &after).is_empty());
    }

    #[test]
    fn workers_of_one_program_are_told_once() {
        let two = [listener(9, 7, "/a"), listener(9, 8, "/a")];
        assert_eq!(told(&[], &two).len(), 1);
    }

    #[test]
    fn what_is_accepted_is_no_difference_also_where_it_is_approved_too() {
        let nginx = listener(80, 7, "/usr/sbin/nginx");
        let nc = listener(4444, 8, "/usr/bin/nc");
        let filter = Filter::parse("port:80,4444").expect("a filter");
        let accepted = Accepted {
            id: 1,
            what: What::Matching(filter),
            reason: None,
            expires: None,
        };
        let all = Approved {
            accepted: vec![accepted],
            ..all(std::slice::from_ref(&nginx))
        };
        assert!(differences(&all, &[nginx, nc], &FRAME).is_empty());
    }

    #[test]
    fn what_runs_from_memory_is_always_new() {
        let mut memfd = listener(80, 7, "/memfd:nginx");
        if let Some(process) = &mut memfd.process {
            process.exe_memfd = Some(true);
        }
        let present = [memfd.clone()];
        assert_eq!(told(&[memfd], &present).len(), 1);
    }
}
