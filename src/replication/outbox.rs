//! What a replica has to say, held back while an epoch is on its way to the disk: of an epoch that a crash would undo
//! nobody may have heard.

use super::message::Message;
use super::replica::{Outcome, Output};
use crate::error::Error;

/// Words that are held back; what is more is lost, as on the way.
const HELD_MAX: usize = 4096;

/// What is said between a replica and its surroundings.
#[derive(Debug, Default)]
pub struct Outbox {
    /// How many epochs were to be stored, and how many are.
    adopting: u64,
    adopted: u64,
    held: Vec<Output>,
}

impl Outbox {
    /// One more epoch is on its way to the disk.
    pub fn adopt(&mut self) {
        self.adopting += 1;
    }

    /// So many epochs are on disk. Gives what may be said now, in order.
    pub fn stored(&mut self, epochs: u64) -> Vec<Output> {
        self.adopted = epochs;
        match self.adopted == self.adopting {
            true => std::mem::take(&mut self.held),
            false => Vec::new(),
        }
    }

    /// Takes a word, and gives what may be said now.
    pub fn say(&mut self, output: Output) -> Option<Output> {
        match self.adopted == self.adopting {
            true => Some(output),
            false => self.hold(output),
        }
    }

    /// Definite refusals and flaws of the copy rest on no epoch, and what is said again anyway is not kept: a plea that
    /// was held would come in another epoch than the one in which it was made. Who waits for a word that is lost hears
    /// that.
    fn hold(&mut self, output: Output) -> Option<Output> {
        match output {
            Output::Answer(_, Outcome::Refused(Error::Retry(_)))
            | Output::Confirm(_, Err(_))
            | Output::Differs(_) => Some(output),
            Output::Plead(..) | Output::Send(_, Message::Query { .. }) => None,
            output if self.held.len() < HELD_MAX => {
                self.held.push(output);
                None
            }
            Output::Answer(token, _) => {
                let lost = Error::unknown("too much waits for a new epoch to be on disk");
                Some(Output::Answer(token, Outcome::Refused(lost)))
            }
            Output::Confirm(token, _) => {
                let lost = Error::retry("too much waits for a new epoch to be on disk");
                Some(Output::Confirm(token, Err(lost)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Plea;
    use super::*;

    fn done(token: u64) -> Output {
        Output::Answer(token, Outcome::Done(Default::default()))
    }

    #[test]
    fn what_rests_on_an_epoch_waits_until_all_are_on_disk() {
        let mut outbox = Outbox::default();
        assert!(outbox.say(done(1)).is_some());
        outbox.adopt();
        outbox.adopt();
        assert!(outbox.say(done(2)).is_none());
        assert!(outbox.say(Output::Plead(1, Plea::Tell)).is_none());
        assert!(outbox.say(Output::Confirm(3, Err(Error::retry("no primary")))).is_some());
        assert!(outbox.stored(1).is_empty());
        assert!(matches!(outbox.stored(2)[..], [Output::Answer(2, _)]), "and the plea is gone");
        assert!(outbox.say(done(4)).is_some());
    }

    #[test]
    fn whose_word_finds_no_place_hears_that() {
        let mut outbox = Outbox::default();
        outbox.adopt();
        assert!((0..HELD_MAX as u64).all(|token| outbox.say(done(token)).is_none()));
        let unknown =
            |output| matches!(output, Some(Output::Answer(_, Outcome::Refused(Error::Unknown(_)))));
        assert!(unknown(outbox.say(done(0))));
        assert!(matches!(outbox.say(Output::Confirm(0, Ok(()))), Some(Output::Confirm(0, Err(_)))));
    }
}
