//! Cuts a value of unknown length into chunks and sends them, a few at a time.

use crate::error::{Error, Result};
use crossbeam::channel::{Receiver, bounded};
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Chunks of one value that are in flight together: the memory that a value of any size takes.
const WINDOW: usize = 4;

/// The term for which a value is staged: sending it may take longer, if it is renewed in time.
pub struct Term {
    began: Instant,
    renewed_ms: AtomicU64,
    stage_ms: u64,
}

impl Term {
    /// The term of a value that was staged just now.
    pub fn new(stage_ms: u64) -> Term {
        Term { began: Instant::now(), renewed_ms: AtomicU64::new(0), stage_ms }
    }

    /// Whether it is time to renew: true to one of those who ask at once.
    pub fn is_due(&self) -> bool {
        let now = self.began.elapsed().as_millis() as u64;
        let last = self.renewed_ms.load(Ordering::Relaxed);
        let renewed =
            || self.renewed_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        now > last + self.stage_ms / 4 && renewed().is_ok()
    }
}

/// Reads up to `n` bytes: fewer only at the end.
pub fn fill(from: &mut (impl Read + ?Sized), n: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(n.min(64 << 10) as usize);
    from.take(n).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Sends everything that a reader gives, after the chunk `first` that was read before, in chunks of
/// `cell_bytes`: `send(offset, bytes)` is called on a few threads at once. Returns the whole length; the
/// first error of `send` or of the reader ends it. More than `max` bytes are `TooBig`.
pub fn send_chunks(
    first: Vec<u8>,
    from: &mut (impl Read + ?Sized),
    cell_bytes: u64,
    max: u64,
    send: impl Fn(u64, Vec<u8>) -> Result<()> + Sync,
) -> Result<u64> {
    let failed = Mutex::new(None);
    let (give, take) = bounded::<(u64, Vec<u8>)>(0);
    let length = std::thread::scope(|scope| {
        for _ in 0..WINDOW {
            let (take, send, failed) = (take.clone(), &send, &failed);
            scope.spawn(move || work(take, send, failed));
        }
        drop(take);
        let (mut chunk, mut length) = (first, 0u64);
        while !chunk.is_empty() {
            let offset = length;
            length += chunk.len() as u64;
            if length > max {
                return Err(Error::TooBig(format!("at most {max} bytes")));
            }
            if give.send((offset, chunk)).is_err() {
                break;
            }
            chunk = fill(from, cell_bytes)?;
        }
        drop(give);
        Ok(length)
    })?;
    match failed.into_inner().expect("workers do not panic with the lock") {
        Some(error) => Err(error),
        None => Ok(length),
    }
}

/// Sends chunks until there are no more, or one fails. When all workers have ended, giving fails.
fn work(
    take: Receiver<(u64, Vec<u8>)>,
    send: impl Fn(u64, Vec<u8>) -> Result<()>,
    failed: &Mutex<Option<Error>>,
) {
    for (offset, bytes) in take {
        if failed.lock().expect("workers do not panic with the lock").is_some() {
            return;
        }
        if let Err(error) = send(offset, bytes) {
            failed.lock().expect("workers do not panic with the lock").get_or_insert(error);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn chunks_add_up_to_the_value() {
        let value: Vec<u8> = (0..1_000_003u32).map(|n| n as u8).collect();
        let sent = Mutex::new(BTreeMap::new());
        let mut rest = &value[1000..];
        let length =
            send_chunks(value[..1000].to_vec(), &mut rest, 1000, u64::MAX, |offset, bytes| {
                sent.lock().unwrap().insert(offset, bytes);
                Ok(())
            });
        assert_eq!(length, Ok(value.len() as u64));
        assert_eq!(sent.into_inner().unwrap().into_values().flatten().collect::<Vec<u8>>(), value);
    }

    #[test]
    fn the_first_failure_ends_it() {
        let mut endless = std::io::repeat(7);
        let sent = send_chunks(vec![7; 10], &mut endless, 10, u64::MAX, |offset, _| {
            if offset >= 100 { Err(Error::NoSpace) } else { Ok(()) }
        });
        assert_eq!(sent, Err(Error::NoSpace));
    }

    #[test]
    fn too_much_is_refused() {
        let sent = send_chunks(vec![7; 10], &mut std::io::repeat(7), 10, 1000, |_, _| Ok(()));
        assert!(matches!(sent, Err(Error::TooBig(_))));
    }
}
