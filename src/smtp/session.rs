//! The conversation with one client: a line comes in, an [`Action`] comes out.

use super::command::{self, Command, Recipient, Sender};
use super::data::Fault;
use super::reply::Reply;
use super::{ERRORS_MAX, LINE_BYTES_MAX};
use crate::error::Error;
use crate::mail::Address;

/// What HELP says.
const HELP: [&str; 3] = [
    "PennCloud takes mail for its own users.",
    "Commands: EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT",
    "Standards: RFC 5321, 1870, 2034, 2920, 6152",
];
/// Octets over the limit that are read away before a message that is too big also ends the session.
pub const EXCESS_FACTOR: u64 = 4;

/// What a session is told about its server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our name and the domain of our users, in lower case.
    pub domain: String,
    /// Octets of a message.
    pub message_bytes_max: u64,
    /// Recipients of a message (RFC 5321, 4.5.3.1.8: at least 100).
    pub recipients_max: usize,
}

/// What the shell has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer.
    Reply(Reply),
    /// Answer and close.
    Close(Reply),
    /// Find out who has this address, and has room for a message of so many octets (0: not known), and call
    /// [`Session::recipient`].
    LookUp(Address, u64),
    /// Answer, read a message up to its end, deliver it, and call [`Session::message`].
    Receive(Reply, Envelope),
}

/// Where a message comes from and where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// None is the null path.
    pub sender: Option<Address>,
    /// Users; somebody with several addresses may be named several times.
    pub users: Vec<String>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every recipient has it on disk; the id by which our log and its Received line name it.
    Stored(String),
    /// Larger than the limit, and read away up to its end.
    TooBig,
    /// So much larger than the limit that its end was not waited for.
    FarTooBig,
    /// Refused for its header.
    Faulty(Fault),
    /// A CR or LF alone in it.
    BareNewline,
    /// The store failed for one recipient at least.
    Failed(Error),
}

/// Why a line cannot be parsed at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFault {
    /// Longer than [`LINE_BYTES_MAX`].
    TooLong,
    /// A CR or LF alone in it.
    BareNewline,
}

/// One client's session.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    /// What the client calls itself; none before EHLO or HELO.
    name: Option<String>,
    extended: bool,
    transaction: Option<Transaction>,
    errors: usize,
}

/// From MAIL to the end of the message.
#[derive(Debug, Default)]
struct Transaction {
    sender: Option<Address>,
    /// Octets of the message, where the client said so.
    size: u64,
    users: Vec<String>,
    /// Whether the address that is being looked up is our postmaster's.
    postmaster: bool,
    /// Whether a recipient was named, taken or not.
    asked: bool,
}

impl Session {
    /// A session that has just begun.
    pub fn new(settings: Settings) -> Session {
        Session { settings, name: None, extended: false, transaction: None, errors: 0 }
    }

    /// The first reply (RFC 5321, 3.1).
    pub fn greeting(&self) -> Reply {
        Reply::plain(220, [format!("{} ESMTP PennCloud", self.settings.domain)])
    }

    /// What the client calls itself.
    pub fn client_name(&self) -> &str {
        self.name.as_deref().unwrap_or("unknown")
    }

    /// The protocol as a Received line names it (RFC 3848).
    pub fn protocol(&self) -> &'static str {
        if self.extended { "ESMTP" } else { "SMTP" }
    }

    /// Takes a line without its CR LF.
    pub fn line(&mut self, line: &[u8]) -> Action {
        let action = match command::parse(line) {
            Ok(command) => self.command(command),
            Err(refusal) => Action::Reply(refusal),
        };
        self.count(action)
    }

    /// Takes a line that is none.
    pub fn bad_line(&mut self, fault: LineFault) -> Action {
        self.count(Action::Reply(match fault {
            LineFault::TooLong => {
                Reply::new(500, "5.5.2", format!("A line has at most {LINE_BYTES_MAX} octets"))
            }
            LineFault::BareNewline => Reply::new(500, "5.5.2", "Lines end in CR LF"),
        }))
    }

    /// Takes the answer to [`Action::LookUp`]: the user who has the address, if anybody has it; `Quota` if that user has
    /// no room.
    pub fn recipient(&mut self, found: Result<Option<String>, Error>) -> Action {
        let transaction = self.transaction.as_mut().expect("only RCPT looks an address up");
        let action = match found {
            Ok(Some(user)) => {
                transaction.users.push(user);
                Action::Reply(Reply::new(250, "2.1.5", "Recipient taken"))
            }
            // RFC 5321, 4.5.1 wants this mail taken: its sender tries until somebody reads it.
            Ok(None) if transaction.postmaster => {
                Action::Reply(Reply::new(450, "4.3.0", "No postmaster has been named yet"))
            }
            Ok(None) => Action::Reply(Reply::new(550, "5.1.1", "Nobody here has this address")),
            Err(error) => Action::Reply(Reply::of_error(&error)),
        };
        self.count(action)
    }

    /// Takes the answer to [`Action::Receive`]. The transaction is over, whatever it is.
    pub fn message(&mut self, outcome: Outcome) -> Action {
        self.transaction = None;
        let action = match outcome {
            Outcome::Stored(id) => {
                self.errors = 0;
                Action::Reply(Reply::new(250, "2.0.0", format!("Stored as {id}")))
            }
            Outcome::TooBig => Action::Reply(self.too_big()),
            Outcome::FarTooBig => Action::Close(self.too_big()),
            // RFC 5321, 6.3.
            Outcome::Faulty(Fault::Loop) => {
                Action::Reply(Reply::new(554, "5.4.6", "Too many hops: this message is in a loop"))
            }
            Outcome::Faulty(Fault::Senders) => {
                Action::Reply(Reply::new(550, "5.6.0", "A message has one From field only"))
            }
            Outcome::BareNewline => {
                Action::Close(Reply::new(550, "5.5.2", "A CR or LF alone in a message is refused"))
            }
            Outcome::Failed(error) => Action::Reply(Reply::of_error(&error)),
        };
        self.count(action)
    }

    /// The last reply of a session in which nothing was said for too long, or that took too long.
    pub fn time_is_over(&self) -> Reply {
        Reply::new(421, "4.4.2", format!("{} has waited long enough", self.settings.domain))
    }

    /// The last reply of a server that ends (RFC 5321, 3.8).
    pub fn ending(&self) -> Reply {
        let domain = &self.settings.domain;
        Reply::new(421, "4.3.2", format!("{domain} is shutting down; try again later"))
    }

    fn command(&mut self, command: Command) -> Action {
        match command {
            Command::Ehlo(name) => self.hello(name, true),
            Command::Helo(name) => self.hello(name, false),
            Command::Mail(sender) => self.mail(sender),
            Command::Rcpt(recipient) => self.rcpt(recipient),
            Command::Data => self.data(),
            Command::Rset => {
                self.transaction = None;
                ok("Forgotten")
            }
            Command::Noop => ok("Nothing done"),
            // RFC 5321, 7.3: who asks is not told who has an account.
            Command::Vrfy => {
                Action::Reply(Reply::new(252, "2.0.0", "Not verified here; send, and it will show"))
            }
            Command::Help => Action::Reply(Reply::plain(214, HELP)),
            Command::Quit => Action::Close(Reply::new(221, "2.0.0", "Good bye")),
            Command::Http => Action::Close(Reply::new(421, "4.7.0", "This is no web server")),
        }
    }

    /// RFC 5321, 4.1.1.1 and 4.1.4: it also forgets a transaction.
    fn hello(&mut self, name: String, extended: bool) -> Action {
        self.transaction = None;
        self.name = Some(name);
        self.extended = extended;
        let domain = self.settings.domain.clone();
        if !extended {
            return Action::Reply(Reply::plain(250, [domain]));
        }
        let size = format!("SIZE {}", self.settings.message_bytes_max);
        let offers = ["PIPELINING", &size, "8BITMIME", "ENHANCEDSTATUSCODES", "HELP"];
        let lines = std::iter::once(domain.as_str()).chain(offers);
        Action::Reply(Reply::plain(250, lines))
    }

    fn mail(&mut self, sender: Sender) -> Action {
        if self.name.is_none() {
            return out_of_order("Say EHLO first");
        }
        if self.transaction.is_some() {
            return out_of_order("There is a transaction already; RSET forgets it");
        }
        if sender.size.is_some_and(|size| size > self.settings.message_bytes_max) {
            return Action::Reply(self.too_big());
        }
        let size = sender.size.unwrap_or(0);
        self.transaction =
            Some(Transaction { sender: sender.address, size, ..Transaction::default() });
        Action::Reply(Reply::new(250, "2.1.0", "Sender taken"))
    }

    fn rcpt(&mut self, recipient: Recipient) -> Action {
        let Some(transaction) = &mut self.transaction else {
            return out_of_order("MAIL comes first");
        };
        transaction.asked = true;
        // RFC 5321, 4.5.3.1.10: this transaction goes on, and the client sends to the others again.
        if transaction.users.len() >= self.settings.recipients_max {
            return Action::Reply(Reply::new(452, "4.5.3", "Too many recipients in one message"));
        }
        let address = match recipient {
            Recipient::Address(address) => address,
            Recipient::Postmaster => Address::postmaster(&self.settings.domain),
        };
        if address.domain() != self.settings.domain {
            return Action::Reply(Reply::new(
                550,
                "5.7.1",
                "Mail for other domains is not relayed",
            ));
        }
        transaction.postmaster = address.is_postmaster();
        Action::LookUp(address, transaction.size)
    }

    fn data(&mut self) -> Action {
        let Some(transaction) = &self.transaction else {
            return out_of_order("MAIL and RCPT come first");
        };
        if transaction.users.is_empty() {
            // RFC 2920, 3.1: a client that pipelines sends DATA though every RCPT was refused.
            return match transaction.asked {
                true => Action::Reply(Reply::new(554, "5.5.1", "No recipient was taken")),
                false => out_of_order("RCPT comes first"),
            };
        }
        let envelope =
            Envelope { sender: transaction.sender.clone(), users: transaction.users.clone() };
        Action::Receive(
            Reply::plain(354, ["Send the message; a dot alone on a line ends it"]),
            envelope,
        )
    }

    fn too_big(&self) -> Reply {
        let max = self.settings.message_bytes_max;
        Reply::new(552, "5.3.4", format!("A message has at most {max} octets"))
    }

    /// Somebody who only makes mistakes is guessing.
    fn count(&mut self, action: Action) -> Action {
        match action {
            Action::Reply(reply) if reply.is_failure() => {
                self.errors += 1;
                if self.errors < ERRORS_MAX {
                    return Action::Reply(reply);
                }
                Action::Close(Reply::new(421, "4.7.0", "Too many errors"))
            }
            other => other,
        }
    }
}

fn ok(text: &str) -> Action {
    Action::Reply(Reply::new(250, "2.0.0", text))
}

/// RFC 5321, 4.1.4.
fn out_of_order(text: &str) -> Action {
    Action::Reply(Reply::new(503, "5.5.1", text))
}
