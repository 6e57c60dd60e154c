//! Memory that several threads share for decoding: each takes what its image needs, and waits until it is free.

use std::sync::{Condvar, Mutex, PoisonError};

/// How many bytes may still be taken.
#[derive(Debug)]
pub(crate) struct Room {
    all: u64,
    free: Mutex<u64>,
    freed: Condvar,
}

/// A share of the room, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    room: &'a Room,
    bytes: u64,
}

impl Room {
    pub(crate) fn new(bytes: u64) -> Self {
        Self {
            all: bytes,
            free: Mutex::new(bytes),
            freed: Condvar::new(),
        }
    }

    /// Waits until `bytes` are free, or all are, if that is fewer: what needs more than there is runs alone.
    pub(crate) fn take(&self, bytes: u64) -> Taken<'_> {
        let bytes = bytes.min(self.all);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self
            .freed
            .wait_while(free, |free| *free < bytes)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= bytes;
        Taken { room: self, bytes }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self
            .room
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.room.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn room_is_given_back_and_never_exceeded() {
        let room = Room::new(64);
        let in_use = Mutex::new((0, 0));
        thread::scope(|scope| {
            for index in 0..50 {
                let (room, in_use) = (&room, &in_use);
                scope.spawn(move || {
                    let taken = room.take([1, 20, 40, u64::MAX][index % 4]);
                    let mut used = in_use.lock().unwrap();
                    used.0 += taken.bytes;
                    used.1 = used.0.max(used.1);
                    drop(used);
                    thread::yield_now();
                    in_use.lock().unwrap().0 -= taken.bytes;
                });
            }
        });
        assert_eq!(in_use.into_inner().unwrap(), (0, 64));
        assert_eq!(room.free.into_inner().unwrap(), 64);
    }
}
