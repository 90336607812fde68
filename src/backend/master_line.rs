//! What a node has to say to the master by itself. All of it is said again until the master has acted on it, so
//! nothing waits here for long.

use crate::config::Config;
use crate::protocol::command::{Command, Peer, Request};
use crate::protocol::connection::Pool;
use crate::replication::{Plea, Position};
use crossbeam::channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages that wait; one more is dropped.
const QUEUE_MAX: usize = 256;
/// How long the master may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// The way to the master.
#[derive(Clone)]
pub struct MasterLine {
    node: Arc<str>,
    to: Sender<Peer>,
}

impl MasterLine {
    /// A line of a node, and what is said on it.
    pub fn new(node: &str) -> (MasterLine, Receiver<Peer>) {
        let (to, said) = bounded(QUEUE_MAX);
        (MasterLine { node: node.into(), to }, said)
    }

    /// Asks for a change of a tablet's configuration.
    pub fn plead(&self, tablet: &str, epoch: u64, plea: &Plea) {
        let (word, member) = match plea {
            Plea::Remove(member) => ("REMOVE", Some(member)),
            Plea::Add(member) => ("ADD", Some(member)),
            Plea::NoLease => ("NOLEASE", None),
            Plea::Tell => ("TELL", None),
        };
        let mut words = vec![word.into()];
        words.extend(member.map(|member| member.to_string()));
        self.say("@PLEA", tablet, epoch, words);
    }

    /// An epoch is sealed; the log ends here.
    pub fn sealed(&self, tablet: &str, epoch: u64, end: Position) {
        let end = vec![end.epoch.to_string(), end.version.to_string()];
        self.say("@SEALED", tablet, epoch, end);
    }

    /// This node has left an epoch.
    pub fn resigned(&self, tablet: &str, epoch: u64) {
        self.say("@RESIGNED", tablet, epoch, Vec::new());
    }

    fn say(&self, verb: &str, tablet: &str, epoch: u64, more: Vec<String>) {
        let words = [tablet.to_string(), epoch.to_string(), self.node.to_string()];
        let words = words.into_iter().chain(more).map(String::into_bytes).collect();
        let _ = self.to.try_send(Peer::new(verb, words));
    }
}

/// Passes on to the master what is said on a line, for ever. What waits while the master does not answer is
/// dropped.
pub fn run(config: &Config, pool: &Pool, said: &Receiver<Peer>) {
    let address = config.via(&config.master.name, &config.master.address);
    for peer in said {
        let verb = peer.verb.clone();
        let request = Request::new(Command::Peer(peer));
        if let Err(error) = pool.call(address, &request, Instant::now() + ANSWER) {
            log::debug!("{verb} does not reach the master: {error}");
            said.try_iter().for_each(drop);
        }
    }
}
