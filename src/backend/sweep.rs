//! What a node does by itself: cells that have outlived their time, staged values that nobody committed,
//! and the chunks of values that nobody reads any more.

use super::clock::unix_ms;
use super::node::Node;
use super::tablet::Tablet;
use crate::error::Result;
use crate::protocol::cell::ValueId;
use crate::protocol::cluster::{Class, Routes};
use crate::protocol::command::Op;
use crate::replication::table::Timer;
use std::time::{Duration, Instant};

/// Pause between two rounds.
const PAUSE: Duration = Duration::from_millis(500);
/// Retired values whose chunks are removed in one round of one tablet.
const DROPS_PER_ROUND: usize = 64;

impl Node {
    /// Sweeps for ever.
    pub fn sweep(&self) {
        loop {
            std::thread::sleep(PAUSE);
            self.around.snapshots.purge();
            for tablet in self.tablets() {
                if let Err(error) = self.sweep_tablet(&tablet) {
                    log::debug!("sweeping tablet {}: {error}", tablet.id);
                }
            }
        }
    }

    fn sweep_tablet(&self, tablet: &Tablet) -> Result<()> {
        let Ok(table) = tablet.serving(self.soon()) else { return Ok(()) };
        let now = unix_ms();
        let (mut expires, mut drops) = (false, Vec::new());
        for timer in table.due(now) {
            match timer {
                Timer::Drop(id) if drops.len() < DROPS_PER_ROUND => drops.push(*id),
                Timer::Drop(_) => {}
                _ => expires = true,
            }
            if expires && drops.len() == DROPS_PER_ROUND {
                break;
            }
        }
        if expires {
            self.propose_to(&tablet.id, Op::Expire, self.soon())?;
        }
        let routes = self.routes();
        drops.into_iter().try_for_each(|id| {
            let Some(retired) = table.retired(id) else { return Ok(()) };
            self.drop_value(&routes, &tablet.id, retired.slot, id)
        })
    }

    /// Removes the chunks of a retired value, and then its entry in the retire list: whatever dies between
    /// the two, the entry is still there and the chunks are removed again.
    fn drop_value(&self, routes: &Routes, tablet: &str, slot: u16, id: ValueId) -> Result<()> {
        let group = &routes.tablet(tablet)?.group;
        let large = routes.tablets.iter().filter(|t| t.class == Class::Large && t.group == *group);
        for route in large {
            while self
                .propose_to(&route.id, Op::DropChunks { slot, id }, self.soon())?
                .words
                .first()
                .is_some_and(|removed| removed[..] != *b"0")
            {}
        }
        self.propose_to(tablet, Op::Forget { id }, self.soon())?;
        Ok(())
    }

    fn soon(&self) -> Instant {
        Instant::now() + self.config.request_time()
    }
}
