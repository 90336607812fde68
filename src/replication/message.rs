//! What replicas of one tablet say to one another, and to the master.

use super::execute::DiskSpace;
use super::table::Table;
use crate::protocol::cluster::TabletRoute;
use crate::protocol::entry::{Entry, Position};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Microseconds of a node's own clock. Never compared between nodes.
pub type Time = u64;

/// Name of a node.
pub type Node = Arc<str>;

/// Who serves a tablet: what the master's register holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Rises by one with every change.
    pub epoch: u64,
    /// The node that orders the writes.
    pub primary: Option<Node>,
    /// Nodes that hold every acknowledged write.
    pub isr: BTreeSet<Node>,
    /// All replicas, those that catch up too.
    pub members: BTreeSet<Node>,
    /// Fewest in-sync replicas with which writes go on.
    pub min_insync: usize,
    /// Whether all who left the primary's place or the in-sync set in this change resigned themselves.
    pub clean: bool,
}

impl Configuration {
    /// The configuration that the master tells in a tablet's route.
    pub fn of(route: &TabletRoute) -> Configuration {
        let names = |list: &[String]| list.iter().map(|name| Node::from(name.as_str())).collect();
        Configuration {
            epoch: route.epoch,
            primary: route.primary.as_deref().map(Node::from),
            isr: names(&route.isr),
            members: names(&route.members),
            min_insync: route.min_insync as usize,
            clean: route.clean,
        }
    }

    /// Whether this node orders the writes.
    pub fn is_primary(&self, node: &Node) -> bool {
        self.primary.as_ref() == Some(node)
    }
}

/// A message between two replicas.
#[derive(Clone, Debug)]
pub enum Message {
    /// From the primary: entries, its committed point, and a beacon for leases.
    Prepare(Prepare),
    /// The answer: how far the replica's log is equal to the primary's and on disk.
    Ack(Ack),
    /// The answer to what does not fit: a newer epoch, or another log.
    Nack(Nack),
    /// From a replica: which point is committed?
    Query {
        /// The sender's epoch.
        epoch: u64,
        /// Names the question.
        id: u64,
    },
    /// The answer, given under the primary's lease.
    Committed {
        /// The primary's epoch.
        epoch: u64,
        /// Names the question.
        id: u64,
        /// The committed point.
        version: u64,
    },
    /// From the primary to a replica too far behind for its log: everything.
    Install {
        /// The primary's configuration.
        configuration: Configuration,
        /// The table.
        table: Box<Table>,
    },
}

impl Message {
    /// Takes what is said right after it to the same replica, where one message says both; else gives it back. To the
    /// replica it is as if only the second had been said, with the entries of the first: `bytes_max` bounds them.
    pub fn join(&mut self, next: Message, bytes_max: u64) -> Option<Message> {
        match (self, next) {
            (Message::Ack(ack), Message::Ack(next)) if ack.epoch == next.epoch => *ack = next,
            (Message::Prepare(prepare), Message::Prepare(next))
                if prepare.is_followed_by(&next)
                    && prepare.entry_bytes() + next.entry_bytes() <= bytes_max =>
            {
                prepare.go_on(next);
            }
            (_, next) => return Some(next),
        }
        None
    }
}

/// A message from the primary to a replica.
#[derive(Clone, Debug)]
pub struct Prepare {
    /// The primary's configuration.
    pub configuration: Configuration,
    /// The entry before the first one here.
    pub prev: Position,
    /// New entries.
    pub entries: Vec<Arc<Entry>>,
    /// The committed point.
    pub committed: u64,
    /// The digest of the primary's table at that point; none: its own copy is in doubt, nobody should compare.
    pub digest: Option<u64>,
    /// The primary's clock before it was sent.
    pub sent: Time,
    /// Number of the beacon.
    pub round: u64,
    /// The replica's clock, from its last ack.
    pub echo: Time,
    /// How long the primary's lease ran on when that ack was received, in microseconds.
    pub left: u64,
}

impl Prepare {
    /// Whether another one of the same epoch goes on where this one ends.
    fn is_followed_by(&self, next: &Prepare) -> bool {
        let last = self.entries.last();
        let end = last.map_or(self.prev, |entry| Position::of(entry));
        self.configuration.epoch == next.configuration.epoch && end == next.prev
    }

    fn go_on(&mut self, next: Prepare) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.extend(next.entries);
        *self = Prepare { prev: self.prev, entries, ..next };
    }

    fn entry_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.weight()).sum()
    }
}

/// What a member does not take.
#[derive(Clone, Copy, Debug)]
pub struct Nack {
    /// The least epoch in which it would take part.
    pub epoch: u64,
    /// Where its log ends, or the last place that may be equal.
    pub hint: u64,
    /// Where its log ends.
    pub end: u64,
    /// The primary's clock when it sent what is not taken.
    pub sent: Time,
}

/// A replica's answer to a [`Prepare`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The replica's epoch.
    pub epoch: u64,
    /// Its log is equal to the primary's, and on disk, up to here.
    pub version: u64,
    /// The primary's clock, from the prepare.
    pub sent: Time,
    /// Number of the beacon, from the prepare.
    pub round: u64,
    /// The replica's clock.
    pub at: Time,
    /// The room on the replica's disk.
    pub space: DiskSpace,
}

/// What a replica asks of the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plea {
    /// Take this member out of the in-sync set.
    Remove(Node),
    /// Take this member, which has caught up, into the in-sync set.
    Add(Node),
    /// This primary has had no lease for long.
    NoLease,
    /// A newer epoch was seen: what is the configuration?
    Tell,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(version: u64) -> Arc<Entry> {
        let (request, answer, effects) = (None, Default::default(), Vec::new());
        Arc::new(Entry { epoch: 1, version, prev_epoch: 1, retire: 0, request, answer, effects })
    }

    fn prepare(after: u64, versions: std::ops::Range<u64>) -> Message {
        Message::Prepare(Prepare {
            configuration: Configuration { epoch: 1, ..Configuration::default() },
            prev: Position { epoch: 1, version: after },
            entries: versions.map(entry).collect(),
            committed: after,
            digest: Some(after),
            sent: after,
            round: after,
            echo: after,
            left: after,
        })
    }

    fn joined(mut first: Message, next: Message) -> Option<Message> {
        first.join(next, u64::MAX).is_none().then_some(first)
    }

    #[test]
    fn prepares_that_follow_one_another_are_one() {
        let whole = joined(prepare(3, 4..6), prepare(5, 6..7));
        let Some(Message::Prepare(whole)) = whole else { panic!("not joined") };
        assert_eq!(whole.entries.iter().map(|e| e.version).collect::<Vec<_>>(), [4, 5, 6]);
        assert_eq!((whole.prev.version, whole.committed, whole.sent, whole.round), (3, 5, 5, 5));
        assert_eq!(whole.digest, Some(5), "it is of the committed point");
    }

    #[test]
    fn a_gap_a_repeat_or_another_epoch_stays_apart() {
        assert!(joined(prepare(3, 4..5), prepare(5, 6..7)).is_none());
        assert!(joined(prepare(3, 4..6), prepare(4, 5..6)).is_none());
        let Message::Prepare(mut newer) = prepare(4, 5..6) else { unreachable!("it is one") };
        newer.configuration.epoch = 2;
        assert!(joined(prepare(3, 4..5), Message::Prepare(newer)).is_none());
    }

    #[test]
    fn large_messages_stay_apart() {
        let bytes = entry(1).weight();
        assert!(prepare(3, 4..5).join(prepare(4, 5..6), 2 * bytes - 1).is_some());
        assert!(prepare(3, 4..5).join(prepare(4, 5..6), 2 * bytes).is_none());
    }

    #[test]
    fn the_last_ack_says_it_all_but_a_nack_does_not() {
        let space = DiskSpace::Enough;
        let ack =
            |version| Message::Ack(Ack { epoch: 1, version, sent: 1, round: 1, at: 1, space });
        assert!(matches!(joined(ack(3), ack(5)), Some(Message::Ack(ack)) if ack.version == 5));
        assert!(
            joined(Message::Nack(Nack { epoch: 1, hint: 3, end: 3, sent: 1 }), ack(5)).is_none()
        );
    }
}
