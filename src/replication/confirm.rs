//! Reads without clocks: a primary asks all on whom a commit depends, once it was asked itself.
//!
//! A *round* is a beacon with a number of its own. When all have answered it in this epoch, none had sealed the
//! epoch, or taken part in a newer one, when the reader asked: what is committed here is what is committed. One
//! answer is not enough: its sender may simply not have heard of the new epoch. One round is on its way at a time;
//! who asks meanwhile waits for the next, so a round serves all that came during the one before.

use super::message::{Message, Node, Time};
use super::replica::{Outcome, Output, Replica, Token};
use crate::error::Error;

/// Who waits for a round.
pub(super) enum Reader {
    /// A reader at this node.
    Here(Token),
    /// Readers at another member, by the newest of their questions.
    At(Node, u64),
    /// A proposal that was refused for what was seen.
    Refused(Token, Outcome),
}

impl Replica {
    /// Has a reader wait for a round that begins from now on.
    pub(super) fn confirm(&mut self, now: Time, reader: Reader, out: &mut Vec<Output>) {
        let Some(round) = self.lead.as_ref().map(|lead| lead.round()) else { return };
        let next = (round + 1, reader);
        match (&next, self.confirming.back_mut()) {
            ((_, Reader::At(node, id)), Some((last, Reader::At(known, newest))))
                if *last > round && node == known =>
            {
                *newest = (*newest).max(*id);
            }
            _ => self.confirming.push_back(next),
        }
        self.answer_confirmed(now, out);
    }

    /// Answers those whose round all have answered, and begins the round for which the others wait.
    pub(super) fn answer_confirmed(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.confirming.is_empty() || !self.leads() {
            return;
        }
        let begun = self.lead.as_ref().map_or(0, |lead| lead.round());
        let confirmed = self.lead.as_ref().map_or(0, |lead| lead.confirmed(self));
        while self.is_past_barrier()
            && let Some((_, reader)) =
                self.confirming.pop_front_if(|(round, _)| *round <= confirmed)
        {
            self.answer_reader(reader, out);
        }
        let is_quiet = self.confirming.front().is_some_and(|(round, _)| *round > begun);
        if is_quiet {
            self.begin_round(now, out);
        }
    }

    fn answer_reader(&self, reader: Reader, out: &mut Vec<Output>) {
        let (epoch, version) = (self.configuration.epoch, self.committed.version);
        out.push(match reader {
            Reader::Here(token) => Output::Confirm(token, Ok(())),
            Reader::At(node, id) => Output::Send(node, Message::Committed { epoch, id, version }),
            Reader::Refused(token, outcome) => Output::Answer(token, outcome),
        });
    }

    /// Readers whose primary does not go on may ask another.
    pub(super) fn fail_confirming(&mut self, out: &mut Vec<Output>) {
        let retry = || Error::retry("the tablet is being given to another primary");
        for (_, reader) in self.confirming.drain(..) {
            match reader {
                Reader::Here(token) => out.push(Output::Confirm(token, Err(retry()))),
                Reader::Refused(token, _) => {
                    out.push(Output::Answer(token, Outcome::Refused(retry())))
                }
                Reader::At(..) => {}
            }
        }
    }
}
