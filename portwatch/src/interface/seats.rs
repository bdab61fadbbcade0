//! How many clients there may be at once, in all and of one user. Pure.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The seats of a server.
#[derive(Debug)]
pub(super) struct Seats {
    total: usize,
    per_uid: usize,
    taken: Mutex<HashMap<u32, usize>>,
}

/// One taken seat; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    uid: u32,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    /// Too many clients.
    #[error("{0} clients are connected, no more are taken: end one and try again")]
    Total(usize),
    /// Too many clients of one user.
    #[error("{0} clients of user {1} are connected, no more are taken: end one and try again")]
    User(usize, u32),
}

impl Seats {
    pub(super) fn new(total: usize, per_uid: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            per_uid,
            taken: Mutex::default(),
        })
    }

    pub(super) fn take(self: &Arc<Self>, uid: u32) -> Result<Seat, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= self.total {
            return Err(Full::Total(self.total));
        }
        let own = taken.entry(uid).or_default();
        if *own >= self.per_uid {
            return Err(Full::User(self.per_uid, uid));
        }
        *own += 1;
        Ok(Seat {
            seats: Arc::clone(self),
            uid,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self
            .seats
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_every_seat() {
        let seats = Seats::new(3, 2);
        let first = seats.take(1).expect("seat");
        let _second = seats.take(1).expect("seat");
        assert_eq!(seats.take(1).expect_err("full"), Full::User(2, 1));
        let _third = seats.take(2).expect("seat");
        assert_eq!(seats.take(3).expect_err("full"), Full::Total(3));
        drop(first);
        let _fourth = seats.take(3).expect("free again");
    }
}
