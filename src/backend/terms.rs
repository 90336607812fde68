//! What two nodes must agree on before their replicas speak: each promise outlasts each lease.

use crate::config::{Reads, Replication};
use crate::error::{Error, Result};
use crate::protocol::command::Peer;

/// How a node's replicas serve reads: the last three words of `@LINK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    reads: Reads,
    lease_ms: u64,
    grace_ms: u64,
}

impl Terms {
    /// As configured.
    pub fn of(replication: &Replication) -> Terms {
        let Replication { reads, lease_ms, grace_ms, .. } = *replication;
        Terms { reads, lease_ms, grace_ms }
    }

    /// As words of a message.
    pub fn words(&self) -> [String; 3] {
        [self.reads.word().into(), self.lease_ms.to_string(), self.grace_ms.to_string()]
    }

    /// Reads them from a message, from a word on.
    pub fn parse(peer: &Peer, from: usize) -> Result<Terms> {
        let number = |at: usize| {
            let number = peer.text(at)?.parse();
            number.map_err(|_| Error::bad("@LINK: a lease or a grace is no number"))
        };
        let reads = peer.text(from)?;
        let reads =
            Reads::parse(reads).ok_or_else(|| Error::bad("@LINK: reads are lease or confirm"))?;
        Ok(Terms { reads, lease_ms: number(from + 1)?, grace_ms: number(from + 2)? })
    }

    /// Why a lease of one node might outlast a promise of the other, so that reads could be of the past.
    pub fn refusal(&self, theirs: &Terms) -> Option<String> {
        if self.reads != theirs.reads {
            let (ours, theirs) = (self.reads.word(), theirs.reads.word());
            return Some(format!("[replication] reads is {ours} here and {theirs} there"));
        }
        let short = |promise: &Terms, lease: &Terms| {
            !Replication::outlasts(promise.grace_ms, lease.lease_ms)
        };
        if self.reads == Reads::Lease && (short(self, theirs) || short(theirs, self)) {
            return Some(format!(
                "[replication] leases of {} and {} ms do not fit promises of {} and {} ms, here and there",
                self.lease_ms, theirs.lease_ms, self.grace_ms, theirs.grace_ms
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(reads: Reads, lease_ms: u64, grace_ms: u64) -> Terms {
        Terms { reads, lease_ms, grace_ms }
    }

    #[test]
    fn a_lease_must_end_before_the_promises_of_the_other_node() {
        let ours = terms(Reads::Lease, 2000, 2500);
        assert_eq!(ours.refusal(&ours), None);
        assert_eq!(ours.refusal(&terms(Reads::Lease, 1000, 3000)), None);
        assert!(
            ours.refusal(&terms(Reads::Lease, 2100, 3000)).is_some(),
            "their lease, our promise"
        );
        assert!(
            ours.refusal(&terms(Reads::Lease, 1000, 2400)).is_some(),
            "our lease, their promise"
        );
        assert!(ours.refusal(&terms(Reads::Confirm, 2000, 2500)).is_some());
    }

    #[test]
    fn where_reads_are_confirmed_no_time_matters() {
        let ours = terms(Reads::Confirm, 2000, 2500);
        assert_eq!(ours.refusal(&terms(Reads::Confirm, 9000, 9999)), None);
    }

    #[test]
    fn terms_come_back_from_their_words() {
        let ours = terms(Reads::Confirm, 1, 2);
        let words = ours.words().map(String::into_bytes).to_vec();
        assert_eq!(Terms::parse(&Peer::new("@LINK", words), 0), Ok(ours));
    }
}
