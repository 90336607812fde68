//! Finding what is due, and the threads that work on it.

use super::Relay;
use crate::error::{Error, Result};
use crate::mail::queue::{Found, SHARDS, now_ms};
use crossbeam::channel::{Receiver, Sender, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Entries of a shard that one look takes; what is leased stands among them.
const LOOK: usize = 200;
/// Stack of a worker.
const STACK_BYTES: usize = 1 << 20;

/// Starts the workers, and the thread that looks for work and waits while all are busy.
pub(super) fn start(relay: Arc<Relay>, workers: usize, poll: Duration) -> Result<()> {
    let cannot = |e: std::io::Error| Error::config(format!("cannot start a worker: {e}"));
    let (hand_over, work) = bounded(0);
    for _ in 0..workers {
        let (relay, work) = (relay.clone(), work.clone());
        std::thread::Builder::new()
            .name("relay".into())
            .stack_size(STACK_BYTES)
            .spawn(move || serve(&relay, &work))
            .map_err(cannot)?;
    }
    let look = move || {
        let mut first = super::random() as u16 % SHARDS;
        while !relay.drain.is_ending() {
            first = (first + 1) % SHARDS;
            (0..SHARDS).for_each(|n| look_into(&relay, (first + n) % SHARDS, &hand_over));
            std::thread::sleep(poll);
        }
    };
    std::thread::Builder::new().name("queue".into()).spawn(look).map_err(cannot)?;
    Ok(())
}

fn look_into(relay: &Relay, shard: u16, hand_over: &Sender<Found>) {
    let found = match relay.queue.list(shard, None, LOOK) {
        Ok((found, _)) => found,
        Err(error) => return log::debug!("shard {shard} of the queue: {error}"),
    };
    let now = now_ms();
    for found in found.into_iter().take_while(|found| found.place.due() <= now) {
        let is_free = !found.entry.is_leased(now) && found.entry.held.is_none();
        if is_free && relay.begin(&found.entry.guid) && hand_over.send(found).is_err() {
            return;
        }
    }
}

fn serve(relay: &Relay, work: &Receiver<Found>) {
    while let Ok(found) = work.recv() {
        let guid = found.entry.guid.clone();
        let _sending = relay.drain.receiving();
        if catch_unwind(AssertUnwindSafe(|| relay.work(found))).is_err() {
            log::error!("a worker panicked over message {guid}");
        }
        relay.end(&guid);
    }
}

impl Relay {
    /// Whether nobody in this process works on a message; from now on somebody does.
    fn begin(&self, guid: &str) -> bool {
        let mut busy = self.busy.lock().expect("no thread panics while it counts");
        busy.messages.insert(guid.to_string())
    }

    fn end(&self, guid: &str) {
        self.busy.lock().expect("no thread panics while it counts").messages.remove(guid);
    }

    /// A place among those that talk to a domain, if there is one.
    pub(super) fn enter(&self, domain: &str) -> Option<Visit<'_>> {
        let mut busy = self.busy.lock().expect("no thread panics while it counts");
        let n = busy.domains.entry(domain.to_string()).or_default();
        if *n >= self.per_domain {
            return None;
        }
        *n += 1;
        Some(Visit { relay: self, domain: domain.to_string() })
    }
}

/// A place among those that talk to a domain; free again when this is dropped.
pub(super) struct Visit<'a> {
    relay: &'a Relay,
    domain: String,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let mut busy = self.relay.busy.lock().expect("no thread panics while it counts");
        if let Some(n) = busy.domains.get_mut(&self.domain) {
            *n -= 1;
            if *n == 0 {
                busy.domains.remove(&self.domain);
            }
        }
    }
}
