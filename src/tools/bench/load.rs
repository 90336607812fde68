//! Runs one case: so many connections, each with one request at a time.

use crate::error::{Error, Result};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How a case is run.
pub struct Load {
    /// Threads with a connection each.
    pub connections: usize,
    /// How long.
    pub time: Duration,
    /// It ends earlier when this many bytes were moved.
    pub bytes_max: u64,
}

/// What came of a case.
#[derive(Debug, Default)]
pub struct Measured {
    /// How long it took, from the first request to the last answer.
    pub elapsed: Duration,
    /// Bytes moved.
    pub bytes: u64,
    /// How long each request took, sorted.
    pub times: Vec<Duration>,
    /// The first failure. A connection that fails stops; the others go on.
    pub fault: Option<Error>,
}

impl Measured {
    /// What could not be measured.
    pub fn failed(why: Error) -> Measured {
        Measured { fault: Some(why), ..Measured::default() }
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.times.len() as f64 / self.seconds()
    }

    /// Bytes a second.
    pub fn bandwidth(&self) -> f64 {
        self.bytes as f64 / self.seconds()
    }

    /// The time that this share of the requests did not exceed.
    pub fn percentile(&self, share: f64) -> Duration {
        let rank = (share * self.times.len() as f64).ceil() as usize;
        self.times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    fn seconds(&self) -> f64 {
        self.elapsed.as_secs_f64().max(1e-9)
    }

    fn join(&mut self, other: Measured) {
        self.bytes += other.bytes;
        self.elapsed = self.elapsed.max(other.elapsed);
        self.times.extend(other.times);
        self.fault = self.fault.take().or(other.fault);
    }
}

/// Runs a case. `make` gives each connection its worker, which does one request and answers the bytes it moved;
/// the clock starts when all are made.
pub fn measure<W: FnMut() -> Result<u64>>(
    load: &Load,
    make: impl Fn(usize) -> Result<W> + Sync,
) -> Measured {
    let (ready, moved) = (Barrier::new(load.connections), AtomicU64::new(0));
    let mut all = std::thread::scope(|scope| {
        let start = |number: usize| {
            let (make, ready, moved) = (&make, &ready, &moved);
            scope.spawn(move || {
                let worker = make(number);
                ready.wait();
                worker.map_or_else(Measured::failed, |worker| work(load, moved, worker))
            })
        };
        let threads: Vec<_> = (0..load.connections).map(start).collect();
        threads.into_iter().fold(Measured::default(), |mut all, thread| {
            all.join(thread.join().expect("a worker fails with an error"));
            all
        })
    });
    all.times.sort_unstable();
    all
}

fn work(load: &Load, moved: &AtomicU64, mut worker: impl FnMut() -> Result<u64>) -> Measured {
    let (mut done, began) = (Measured::default(), Instant::now());
    loop {
        let sent = Instant::now();
        match worker() {
            Ok(bytes) => {
                done.times.push(sent.elapsed());
                done.bytes += bytes;
                moved.fetch_add(bytes, Ordering::Relaxed);
            }
            Err(error) => done.fault = Some(error),
        }
        done.elapsed = began.elapsed();
        let over = done.elapsed >= load.time || moved.load(Ordering::Relaxed) >= load.bytes_max;
        if over || done.fault.is_some() {
            return done;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load { connections: 3, time: Duration::ZERO, bytes_max: u64::MAX };

    #[test]
    fn every_connection_does_at_least_one_request() {
        let measured = measure(&LOAD, |number| Ok(move || Ok(number as u64)));
        assert_eq!((measured.times.len(), measured.bytes, measured.fault), (3, 3, None));
    }

    #[test]
    fn a_failure_ends_one_connection_only() {
        let lame = |number: usize| {
            let fails = number == 1;
            move || if fails { Err(Error::retry("lame")) } else { Ok(1) }
        };
        let measured = measure(&LOAD, |number| Ok(lame(number)));
        assert_eq!(measured.times.len(), 2);
        assert_eq!(measured.fault, Some(Error::retry("lame")));
    }

    #[test]
    fn a_connection_that_cannot_be_made_holds_up_nobody() {
        let measured = measure(&LOAD, |number| match number {
            0 => Err(Error::retry("no connection")),
            _ => Ok(|| Ok(1)),
        });
        assert_eq!(measured.times.len(), 2);
        assert!(measured.fault.is_some());
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = (1..=100).map(Duration::from_millis).collect();
        let measured = Measured { times, ..Measured::default() };
        assert_eq!(measured.percentile(0.5), Duration::from_millis(50));
        assert_eq!(measured.percentile(0.99), Duration::from_millis(99));
        assert_eq!(Measured::default().percentile(0.5), Duration::ZERO);
    }
}
