//! What a replica has to say to others, kept until the end of a round of inputs.

use crate::replication::{Message, Node, Output};

/// Messages and answers of one round. Where a message says all that the one before it to the same node said, it takes its
/// place: many writes, or many acknowledgements, then cost one message.
pub struct Outbox {
    messages: Vec<(Node, Message)>,
    answers: Vec<Output>,
    /// Largest sum of the entries of messages that become one, in bytes.
    batch_bytes: u64,
}

impl Outbox {
    /// An empty one.
    pub fn new(batch_bytes: u64) -> Outbox {
        Outbox { messages: Vec::new(), answers: Vec::new(), batch_bytes }
    }

    /// Takes what others hear; gives back what is to be done here, which does not wait.
    pub fn add(&mut self, output: Output) -> Option<Output> {
        match output {
            Output::Send(to, message) => self.send(to, message),
            Output::Adopt(..) | Output::Append(_) | Output::Truncate(_) | Output::Install(_) => {
                return Some(output);
            }
            output => self.answers.push(output),
        }
        None
    }

    fn send(&mut self, to: Node, message: Message) {
        let last = self.messages.iter_mut().rev().find(|(node, _)| *node == to);
        let left = match last {
            Some((_, last)) => last.join(message, self.batch_bytes),
            None => Some(message),
        };
        self.messages.extend(left.map(|message| (to, message)));
    }

    /// Everything: messages first, for others wait for them before they begin their work.
    pub fn take(&mut self) -> impl Iterator<Item = Output> + use<> {
        let messages = std::mem::take(&mut self.messages).into_iter();
        let sends = messages.map(|(to, message)| Output::Send(to, message));
        sends.chain(std::mem::take(&mut self.answers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::{Ack, DiskSpace, Outcome};

    fn ack(version: u64) -> Message {
        let space = DiskSpace::Enough;
        Message::Ack(Ack { epoch: 1, version, sent: version, round: 1, at: version, space })
    }

    #[test]
    fn messages_to_one_node_are_joined_and_go_before_answers() {
        let mut outbox = Outbox::new(1000);
        let send = |to: &str, version| Output::Send(to.into(), ack(version));
        let outputs =
            [Output::Answer(7, Outcome::NotFound), send("a1", 1), send("a2", 1), send("a1", 2)];
        for output in outputs {
            assert!(outbox.add(output).is_none());
        }
        let said: Vec<String> = outbox.take().map(|output| format!("{output:?}")).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].contains("a1") && said[0].contains("version: 2"), "{said:?}");
        assert!(said[1].contains("a2") && said[2].starts_with("Answer(7"), "{said:?}");
        assert_eq!(outbox.take().count(), 0);
    }

    #[test]
    fn what_is_done_here_does_not_wait() {
        let mut outbox = Outbox::new(1000);
        assert!(matches!(outbox.add(Output::Truncate(3)), Some(Output::Truncate(3))));
        assert_eq!(outbox.take().count(), 0);
    }
}
