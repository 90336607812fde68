//! Entries that memory has let go, for members that lag: read back from the log on disk.
//!
//! A replica keeps in memory what its members are likely to need. The log on disk reaches further back: what a member
//! lacks is read back from there as long as it does, batch by batch, each when the one before was acknowledged. Only
//! where that ends too a member is offered the whole table. All that is read back is committed, and so is in every log of
//! a primary to come: it does no harm, however late it is sent.

use super::message::{Node, Time};
use super::replica::{Output, Replica};
use crate::protocol::entry::{Entry, Position};
use std::sync::Arc;

/// How far a member is with entries that were read back for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Progress {
    /// None are on their way.
    #[default]
    Idle,
    /// They are being read, since then.
    Reads(Time),
    /// They were sent, then.
    Sent(Time),
}

impl Replica {
    /// The log on disk holds every entry after this version.
    pub(super) fn note_log_start(&mut self, version: u64) {
        self.log_start = version;
    }

    /// Sends a member what memory does not hold any more.
    pub(super) fn read_back(&mut self, now: Time, node: &Node, out: &mut Vec<Output>) {
        let (pause, log_start, mut after) = (self.timing.silence, self.log_start, None);
        self.peer(node, |peer| {
            let last = peer.sent_after.max(peer.matched);
            let waits = match peer.read_back {
                Progress::Idle => false,
                Progress::Reads(at) => now < at + pause,
                Progress::Sent(at) => peer.next > last + 1 && now < at + pause,
            };
            if !waits {
                (peer.next, peer.sent_after) = (last.min(peer.next - 1) + 1, last);
                after = Some(peer.next - 1);
                peer.read_back = Progress::Reads(now);
            }
        });
        match after {
            Some(after) if after >= log_start => {
                out.push(Output::ReadBack(node.clone(), after, self.base.version));
            }
            Some(_) => {
                self.peer(node, |peer| peer.read_back = Progress::Idle);
                self.send_table(now, node, out);
            }
            None => {}
        }
    }

    /// Entries were read back for a member, those after this position; none: they are not there any more.
    pub(super) fn take_read_back(
        &mut self,
        now: Time,
        node: &Node,
        (prev, entries): (Position, Vec<Arc<Entry>>),
        out: &mut Vec<Output>,
    ) {
        let (mut is_next, mut is_gone) = (false, false);
        self.peer(node, |peer| {
            let reads = matches!(peer.read_back, Progress::Reads(_));
            is_next = reads && peer.next == prev.version + 1 && !entries.is_empty();
            is_gone = reads && entries.is_empty();
            if reads {
                peer.read_back = if is_next { Progress::Sent(now) } else { Progress::Idle };
            }
        });
        if is_gone {
            self.log_start = self.base.version;
        }
        if is_next && self.leads() && self.committed.version >= prev.version {
            self.send_prepare(now, node, prev, entries, out);
        }
    }
}
