//! Which events one reader wants to see of those it gets.

use crate::event::{Event, EventType};
use crate::sink::States;

/// A compiled filter expression.
pub type Predicate = Box<dyn Fn(&Event) -> bool + Send + Sync>;

/// Turns a filter's text into a predicate, or into a sentence that says what is wrong with it.
pub type Compile = dyn Fn(&str) -> Result<Predicate, String> + Send + Sync;

/// A reader's filter. Runs on the reader's side of the queue, never in the pipeline.
#[derive(Default)]
pub struct Selection {
    predicate: Option<Predicate>,
}

impl Selection {
    /// Everything, or what the predicate admits.
    #[must_use]
    pub const fn new(predicate: Option<Predicate>) -> Self {
        Self { predicate }
    }

    /// Does the reader see this event? A `gap` passes every filter: nobody can know whether the events
    /// that were lost would have.
    #[must_use]
    pub fn admits(&self, event: &Event) -> bool {
        event.kind == EventType::Gap
            || self
                .predicate
                .as_ref()
                .is_none_or(|predicate| predicate(event))
    }

    /// Does the reader see this state change of a batch? An event is made of it only if a filter asks.
    #[must_use]
    pub fn admits_state(&self, states: &States, index: usize) -> bool {
        self.predicate
            .as_ref()
            .is_none_or(|predicate| states.event(index).is_some_and(|event| predicate(&event)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Item;
    use crate::sink::testing::{event, states};

    #[test]
    fn a_gap_passes_every_filter() {
        let nothing = Selection::new(Some(Box::new(|_| false)));
        assert!(nothing.admits(&event(1, EventType::Gap)));
        assert!(!nothing.admits(&event(2, EventType::ListenerOpened)));
        assert!(Selection::default().admits(&event(3, EventType::ListenerOpened)));
    }

    #[test]
    fn state_changes_are_filtered_one_by_one() {
        let Item::States(states) = states(5, 3) else {
            panic!("not a batch");
        };
        let middle = Selection::new(Some(Box::new(|event| {
            event.kind == EventType::ConnectionState && event.seq == 6
        })));
        let admitted = [0, 1, 2, 3].map(|index| middle.admits_state(&states, index));
        assert_eq!(admitted, [false, true, false, false]);
        assert!(Selection::default().admits_state(&states, 0));
    }
}
