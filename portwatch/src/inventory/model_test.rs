//! Random lives of sockets, with lost records and looks that race with them, against a model of the truth.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::fixture::{closing, held, opening, tcp};
use super::{Change, Inventory, MergeReason, Snapshot};
use crate::decode::record::Held;
use crate::time::BootNs;

/// Addresses are few, so that they are used again.
const PLACES: usize = 5;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A socket opens; the flag says whether the record is lost.
    Open { place: usize, lost: bool },
    /// A socket closes.
    Close { place: usize, lost: bool },
    /// A second probe tells of it again.
    Repeat { place: usize },
    /// The descriptor goes into flight, or comes back.
    Flight { place: usize },
    /// A look begins and passes every socket.
    Look,
    /// The look that began last is merged.
    Merge,
}

fn step() -> impl Strategy<Value = Step> {
    let place = 0..PLACES;
    prop_oneof![
        4 => (place.clone(), any::<bool>()).prop_map(|(place, lost)| Step::Open { place, lost }),
        4 => (place.clone(), any::<bool>()).prop_map(|(place, lost)| Step::Close { place, lost }),
        1 => place.clone().prop_map(|place| Step::Repeat { place }),
        1 => place.prop_map(|place| Step::Flight { place }),
        2 => Just(Step::Look),
        2 => Just(Step::Merge),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Living {
    inode: u64,
    in_flight: bool,
}

#[derive(Default)]
struct World {
    now: u64,
    next_inode: u64,
    places: HashMap<usize, Living>,
    look: Option<Snapshot>,
    inventory: Inventory,
    /// Inodes that a reader of the changes believes to listen.
    believed: HashSet<u64>,
    ended: HashSet<u64>,
}

impl World {
    fn sock(place: usize, inode: u64) -> crate::decode::record::SockInfo {
        let number = u16::try_from(place).expect("few places");
        tcp(u64::from(number), inode, 1000 + number)
    }

    fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.now += 10;
        let now = self.now;
        match step {
            Step::Open { place, lost } if !self.places.contains_key(&place) => {
                self.next_inode += 1;
                let inode = self.next_inode;
                let living = Living {
                    inode,
                    in_flight: false,
                };
                self.places.insert(place, living);
                if !lost {
                    let seen = opening(now, Self::sock(place, inode));
                    let changes = self.inventory.opened(seen);
                    return self.read(changes);
                }
            }
            Step::Close { place, lost } => {
                if let Some(gone) = self.places.remove(&place)
                    && !lost
                {
                    let seen = closing(now, Self::sock(place, gone.inode));
                    let changes = self.inventory.closed(seen);
                    return self.read(changes);
                }
            }
            Step::Repeat { place } => {
                if let Some(living) = self.places.get(&place)
                    && self.believed.contains(&living.inode)
                {
                    let seen = opening(now, Self::sock(place, living.inode));
                    let changes = self.inventory.opened(seen);
                    prop_assert!(changes.is_empty(), "told twice: {changes:?}");
                }
            }
            Step::Flight { place } => {
                if let Some(living) = self.places.get_mut(&place) {
                    living.in_flight = !living.in_flight;
                }
            }
            Step::Look => self.look = Some(self.look()),
            Step::Merge => return self.merge(),
            Step::Open { .. } => {}
        }
        Ok(())
    }

    fn look(&self) -> Snapshot {
        let rows: Vec<Held> = self
            .places
            .iter()
            .filter(|(_, living)| !living.in_flight)
            .map(|(&place, living)| held(self.now + 1, Self::sock(place, living.inode), 100, 3))
            .collect();
        Snapshot::of_descriptors(BootNs(self.now), rows, true)
    }

    fn merge(&mut self) -> Result<(), TestCaseError> {
        let Some(look) = self.look.take() else {
            return Ok(());
        };
        let merged = self.inventory.merge(&look, MergeReason::Beat);
        self.read(merged.changes)?;
        let alive = self.places.values().map(|living| living.inode).collect();
        let changes = self.inventory.resolve_suspects(&alive, BootNs(self.now));
        self.read(changes)
    }

    /// A reader of the changes: it must never hear of a beginning twice nor of an end without one.
    fn read(&mut self, changes: Vec<Change>) -> Result<(), TestCaseError> {
        for change in changes {
            let inode = change.listener().sock.inode.expect("an inode");
            match change {
                Change::Opened { .. } | Change::Present { .. } => {
                    prop_assert!(self.believed.insert(inode), "{inode} began twice");
                    prop_assert!(!self.ended.contains(&inode), "{inode} rose again");
                }
                Change::Changed { .. } => {
                    prop_assert!(self.believed.contains(&inode), "{inode} changed unknown");
                }
                Change::Closed { .. } => {
                    prop_assert!(self.believed.remove(&inode), "{inode} ended unknown");
                    self.ended.insert(inode);
                }
            }
        }
        prop_assert_eq!(self.believed.len(), self.inventory.len());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_reader_always_ends_up_with_the_truth(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::default();
        for step in steps {
            world.apply(step)?;
        }
        for living in world.places.values_mut() {
            living.in_flight = false;
        }
        world.apply(Step::Look)?;
        world.apply(Step::Merge)?;
        let truth: HashSet<u64> = world.places.values().map(|living| living.inode).collect();
        prop_assert_eq!(&world.believed, &truth);

        for place in 0..PLACES {
            world.apply(Step::Close { place, lost: true })?;
        }
        world.apply(Step::Look)?;
        world.apply(Step::Merge)?;
        prop_assert!(world.believed.is_empty() && world.inventory.is_empty());
    }
}
