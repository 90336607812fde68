//! Reads without clocks: a primary asks all on whom a commit depends, once it was asked itself.
//!
//! A *round* is a beacon with a number of its own. When all have answered it in this epoch, none had sealed the
//! epoch, or taken part in a newer one, when the reader asked: what is committed here is what is committed. One
//! answer is not enough: its sender may simply not have heard of the new epoch. One round is on its way at a time;
//! who asks meanwhile waits for the next, so a round serves all that came during the one before.

use super::message::{Message, Node, Time};
use super::replica::{ASKING_MAX, Outcome, Output, Replica, TOO_MANY, Token};
use crate::error::Error;

/// Who waits for a round.
pub(super) enum Reader {
    /// A reader at this node.
    Here(Token),
    /// Readers at another member, by the newest of their questions.
    At(Node, u64),
    /// A proposal whose outcome rests on what was seen.
    Looked(Token, Outcome),
}

impl Replica {
    /// Has a reader wait for a round that begins from now on. Where no round ends there is a bound.
    pub(super) fn confirm(&mut self, now: Time, reader: Reader, out: &mut Vec<Output>) {
        let next = self.lead.as_ref().map_or(0, |lead| lead.round()) + 1;
        let reader = self.with_later_question(reader);
        if self.leads() && self.confirming.len() < ASKING_MAX {
            self.confirming.push_back((next, reader));
        } else {
            out.extend(reader.refused(TOO_MANY));
        }
        self.answer_confirmed(now, out);
    }

    /// A node's questions are two at most, the one that waits longest, and the newest, which speaks for those between:
    /// it asks again and again.
    fn with_later_question(&mut self, reader: Reader) -> Reader {
        let Reader::At(node, id) = reader else { return reader };
        let asks = |(_, waits): &(u64, Reader)| matches!(waits, Reader::At(of, _) if *of == node);
        let mut later = (0..self.confirming.len()).filter(|at| asks(&self.confirming[*at])).skip(1);
        let later = later.next().and_then(|at| self.confirming.remove(at));
        match later {
            Some((_, Reader::At(node, known))) => Reader::At(node, id.max(known)),
            _ => Reader::At(node, id),
        }
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
            Reader::Looked(token, outcome) => Output::Answer(token, outcome),
        });
    }

    /// Readers whose primary does not go on may ask another.
    pub(super) fn fail_confirming(&mut self, out: &mut Vec<Output>) {
        let why = "the tablet is being given to another primary";
        out.extend(self.confirming.drain(..).filter_map(|(_, reader)| reader.refused(why)));
    }
}

impl Reader {
    /// The answer where nothing can be confirmed; another node asks again.
    fn refused(self, why: &str) -> Option<Output> {
        match self {
            Reader::Here(token) => Some(Output::Confirm(token, Err(Error::retry(why)))),
            Reader::Looked(token, _) => {
                Some(Output::Answer(token, Outcome::Refused(Error::retry(why))))
            }
            Reader::At(..) => None,
        }
    }
}
