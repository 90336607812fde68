//! What a replica wants done and said, checked before it happens. The numbers are those of the list in [`super`].

use super::invariants::Checked;
use super::world::*;
use penncloud::error::Error;
use penncloud::protocol::entry::Entry;
use penncloud::replication::{Ack, Message, Outcome, Output, Prepare, Replica};
use std::sync::Arc;

impl World {
    /// 2, 3, 4, 5, 8, 9, 10, 17: what a replica wants done.
    pub fn check_output(
        &mut self,
        i: usize,
        t: usize,
        committed_before: u64,
        output: &Output,
    ) -> Checked {
        let held = &self.nodes[i].tablets[t];
        let replica = held.replica.as_ref().ok_or("a dead node speaks")?;
        match output {
            Output::Adopt(configuration, sealed) => {
                let before = held.disk.epochs();
                if configuration.epoch < before.0 || *sealed < before.1 {
                    return Err(format!("3: an epoch of {} fell", name(i)));
                }
                self.check_adopted(i, t, configuration)
            }
            Output::Differs(version) => {
                Err(format!("8: {} and its primary differ at {version}", name(i)))
            }
            Output::Append(entry) => self.check_append(i, t, entry),
            Output::Truncate(version) if *version < committed_before => {
                Err(format!("8: {} cuts its log off at {version}", name(i)))
            }
            Output::Install(table) if table.version <= committed_before => {
                Err(format!("8: {} goes back to a table of {}", name(i), table.version))
            }
            Output::Send(_, Message::Ack(ack)) => self.check_ack(i, t, ack),
            Output::Send(_, Message::Prepare(prepare)) => self.check_prepare(i, t, prepare),
            Output::Send(_, Message::Committed { version, .. })
                if *version > replica.committed().version =>
            {
                Err(format!(
                    "17: {} says that {version} is committed, and has not applied it",
                    name(i)
                ))
            }
            Output::Send(_, Message::Committed { .. }) | Output::Confirm(_, Ok(())) => {
                self.check_serving(i, t)
            }
            Output::Answer(_, outcome) => self.check_answer(i, t, outcome),
            _ => Ok(()),
        }
    }

    /// 5: logs have no gaps, and what is appended names what is before it on this very disk.
    fn check_append(&mut self, i: usize, t: usize, entry: &Arc<Entry>) -> Checked {
        let before = self.nodes[i].tablets[t].disk.written();
        let follows = entry.version == before.version + 1 && entry.prev_epoch == before.epoch;
        if !follows || entry.epoch < before.epoch {
            return Err(format!("5: at {} {entry:?} follows {before:?}", name(i)));
        }
        let held = &mut self.nodes[i].tablets[t];
        if entry.epoch > held.epochs.0 {
            held.unheard.push(entry.clone());
            return Ok(());
        }
        self.observers[t].prepared(entry)
    }

    /// 5: what waited for its epoch to be on disk goes into the world.
    pub fn check_unheard(&mut self, i: usize, t: usize) -> Checked {
        let held = &mut self.nodes[i].tablets[t];
        let stored = held.epochs.0;
        let heard = held.unheard.extract_if(.., |entry| entry.epoch <= stored);
        heard.into_iter().try_for_each(|entry| self.observers[t].prepared(&entry))
    }

    /// 10, 17: what a client is told. What is refused before anything was looked at says nothing of the tablet.
    fn check_answer(&self, i: usize, t: usize, outcome: &Outcome) -> Checked {
        let replica = self.nodes[i].replica(t).ok_or("a dead node answers")?;
        match outcome {
            Outcome::Refused(Error::Retry(_) | Error::Unknown(_)) => Ok(()),
            Outcome::Done(answer) if answer.version > replica.committed().version => {
                Err(format!("17: {} answers before it applies", name(i)))
            }
            _ => self.check_serving(i, t),
        }
    }

    /// 17: a primary tells as committed what it has applied.
    fn check_prepare(&self, i: usize, t: usize, prepare: &Prepare) -> Checked {
        let applied = self.nodes[i].replica(t).map_or(0, |replica| replica.committed().version);
        match prepare.committed <= applied {
            true => Ok(()),
            false => Err(format!("17: {} tells {} before it applies", name(i), prepare.committed)),
        }
    }

    /// 10: a primary serves nothing before its first entry is committed.
    pub fn check_serving(&self, i: usize, t: usize) -> Checked {
        let Some(replica) = self.nodes[i].replica(t).filter(|r| r.leads()) else { return Ok(()) };
        let epoch = replica.configuration().epoch;
        if replica.committed().version < self.observers[t].barrier(epoch) {
            return Err(format!("10: {} serves in epoch {epoch} before its barrier", name(i)));
        }
        Ok(())
    }

    /// 4, 9, 17: an acknowledgement.
    fn check_ack(&self, i: usize, t: usize, ack: &Ack) -> Checked {
        let held = &self.nodes[i].tablets[t];
        let replica: &Replica = held.replica.as_ref().ok_or("a dead node acknowledges")?;
        let (node, version, epoch) = (name(i), ack.version, ack.epoch);
        if epoch <= replica.sealed_epoch() || epoch < replica.configuration().epoch {
            return Err(format!("4: {node} acknowledges in epoch {epoch}, which it left"));
        }
        if version > replica.end().version {
            return Err(format!("17: {node} acknowledges {version} before readers see it"));
        }
        if version > held.disk.end().version {
            return Err(format!("9: {node} acknowledges {version} and has less"));
        }
        let mine = held.disk.epoch_at(version);
        if mine.is_some() && mine != self.observers[t].epoch_in(epoch, version) {
            return Err(format!("9: {node} acknowledges {version} in {epoch}, and has another"));
        }
        Ok(())
    }
}
