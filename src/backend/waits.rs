//! Where threads wait for one another.
//!
//! A channel's receiver looks again and again before it sleeps, which is quick where answers come within a microsecond.
//! Here they come with a disk's sync or another host's word: who waits sleeps at once, and leaves the processor to those
//! who are waited for.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// One value that one thread waits for.
pub struct Slot<T>(Arc<Shared<T>>);

/// Fills a [`Slot`]. Where it is dropped the slot stays empty for ever, and its owner need not wait.
pub struct Filler<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

enum State<T> {
    Empty,
    Full(T),
    Closed,
}

/// Why a slot gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// Not in time.
    Late,
    /// Nobody will fill it any more.
    Closed,
}

/// An empty slot, and what fills it.
pub fn slot<T>() -> (Filler<T>, Slot<T>) {
    let shared = Shared { state: Mutex::new(State::Empty), changed: Condvar::new() };
    let shared = Arc::new(shared);
    (Filler(shared.clone()), Slot(shared))
}

impl<T> Shared<T> {
    fn set(&self, new: State<T>) {
        let mut state = self.state.lock().expect("a slot is not left half-filled");
        if matches!(*state, State::Empty) {
            *state = new;
        }
        drop(state);
        self.changed.notify_one();
    }
}

impl<T> Filler<T> {
    /// Fills the slot.
    pub fn fill(self, value: T) {
        self.0.set(State::Full(value));
    }
}

impl<T> Drop for Filler<T> {
    fn drop(&mut self) {
        self.0.set(State::Closed);
    }
}

impl<T> Slot<T> {
    /// Waits for the value.
    pub fn wait_until(self, deadline: Instant) -> Result<T, Nothing> {
        let mut state = self.0.state.lock().expect("a slot is not left half-filled");
        loop {
            match std::mem::replace(&mut *state, State::Closed) {
                State::Full(value) => return Ok(value),
                State::Closed => return Err(Nothing::Closed),
                State::Empty => *state = State::Empty,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Nothing::Late);
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.expect("a slot is not left half-filled").0;
        }
    }
}

/// Takes what a [`Worker`] is to do.
pub struct Tray<T>(Arc<Pile<T>>);

/// Waits for work that is laid on its [`Tray`].
pub struct Worker<T>(Arc<Pile<T>>);

struct Pile<T> {
    /// What is to be done, and whether nothing will be added any more.
    work: Mutex<(VecDeque<T>, bool)>,
    added: Condvar,
}

/// A tray, and who works it off. It is for the giver to bound what lies on it.
pub fn tray<T>() -> (Tray<T>, Worker<T>) {
    let pile = Arc::new(Pile { work: Mutex::default(), added: Condvar::new() });
    (Tray(pile.clone()), Worker(pile))
}

impl<T> Tray<T> {
    /// Adds work behind what is there.
    pub fn add(&self, work: impl IntoIterator<Item = T>) {
        self.0.work.lock().expect("a queue is not left half-changed").0.extend(work);
        self.0.added.notify_one();
    }
}

impl<T> Drop for Tray<T> {
    fn drop(&mut self) {
        if let Ok(mut work) = self.0.work.lock() {
            work.1 = true;
        }
        self.0.added.notify_one();
    }
}

impl<T> Worker<T> {
    /// Waits for work, and takes what there is until it weighs this much; `None` if there will be none any more.
    pub fn take(&self, weight: impl Fn(&T) -> u64, max: u64) -> Option<Vec<T>> {
        let guard = self.0.work.lock().expect("a queue is not left half-changed");
        let idle = |work: &mut (VecDeque<T>, bool)| work.0.is_empty() && !work.1;
        let waited = self.0.added.wait_while(guard, idle);
        let work = &mut waited.expect("a queue is not left half-changed").0;
        let (mut taken, mut total) = (Vec::new(), 0);
        while total < max
            && let Some(next) = work.pop_front()
        {
            total += weight(&next);
            taken.push(next);
        }
        (!taken.is_empty()).then_some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_value_comes_from_another_thread() {
        let (filler, slot) = slot();
        std::thread::spawn(move || filler.fill(7));
        assert_eq!(slot.wait_until(soon()), Ok(7));
    }

    #[test]
    fn who_waits_hears_that_nothing_comes() {
        let (filler, slot) = slot::<u8>();
        std::thread::spawn(move || drop(filler));
        assert_eq!(slot.wait_until(soon()), Err(Nothing::Closed));
    }

    #[test]
    fn nobody_waits_longer_than_it_says() {
        let (_filler, slot) = slot::<u8>();
        let deadline = Instant::now() + Duration::from_millis(20);
        assert_eq!(slot.wait_until(deadline), Err(Nothing::Late));
        assert!(Instant::now() >= deadline);
    }

    #[test]
    fn work_is_taken_in_order_by_weight_until_the_tray_goes() {
        let (tray, worker) = tray();
        tray.add([3, 4, 5]);
        assert_eq!(worker.take(|n| *n, 6), Some(vec![3, 4]));
        let late = std::thread::spawn(move || tray.add([6]));
        assert_eq!(worker.take(|n| *n, 1), Some(vec![5]));
        assert_eq!(worker.take(|n| *n, 1), Some(vec![6]));
        late.join().expect("it adds and ends");
        assert_eq!(worker.take(|n| *n, 1), None);
    }
}
