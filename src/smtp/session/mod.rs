//! The conversation with one client: a line comes in, an [`Action`] comes out.

mod login;
mod transaction;

use super::auth::{Credentials, Dialog};
use super::command::{self, Command};
use super::data::Fault;
use super::parameters::{MailParameters, RcptParameters};
use super::reply::Reply;
use super::{AUTH_LINE_BYTES_MAX, ERRORS_MAX, LINE_BYTES_MAX};
use crate::error::Error;
use crate::mail::Address;
use transaction::Transaction;

/// What HELP says, but for the commands.
const HELP: [&str; 2] = [
    "PennCloud takes mail for its own users, and from them.",
    "Standards: RFC 5321, 1870, 2034, 2920, 3030, 3207, 3461, 4954, 6152, 6409, 6531, 8314",
];
/// Octets over the limit that are read away before a message that is too big also ends the session.
pub const EXCESS_FACTOR: u64 = 4;

/// For whom a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Anyone who has mail for our users (RFC 5321).
    Exchange,
    /// Our users, who prove who they are, and their mail for anyone (RFC 6409).
    Submission,
}

/// What a session is told about its server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For whom it is.
    pub service: Service,
    /// Our name and the domain of our users, in lower case.
    pub domain: String,
    /// Whether there is a certificate: then STARTTLS is offered in the clear.
    pub has_tls: bool,
    /// Whether passwords are taken in the clear.
    pub auth_in_clear: bool,
    /// Whether mail of our users for other domains is taken.
    pub relays: bool,
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
    /// Answer, forget what came after the command, shake hands, and call [`Session::secured`].
    StartTls(Reply),
    /// Find out whether name and password fit, and call [`Session::authenticated`].
    Authenticate(Credentials),
    /// Find out whose address this is, and call [`Session::sender`].
    Owner(Address),
    /// Find out who has this address, and has room for a message of so many octets (0: not known), and call
    /// [`Session::recipient`].
    LookUp(Address, u64),
    /// Answer, read a message up to its end, deliver it, and call [`Session::message`].
    Receive(Reply, Envelope),
    /// Read a chunk of a message, call [`Session::message`] when that went wrong or it is the last one and delivered, else
    /// [`Session::chunk`].
    Chunk(command::Chunk, Envelope),
    /// Read so many octets away, and answer.
    Swallow(u64, Reply),
}

/// Where a message comes from and where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Our user who submits it; none for mail from outside.
    pub submitter: Option<String>,
    /// None is the null path.
    pub sender: Option<Address>,
    /// What MAIL said besides.
    pub parameters: MailParameters,
    /// Somebody with several addresses may be there several times.
    pub recipients: Vec<Target>,
}

/// One recipient that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its address.
    pub address: Address,
    /// Our user who has it; none where it is for another host.
    pub user: Option<String>,
    /// What RCPT said besides.
    pub parameters: RcptParameters,
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
    /// Longer than [`Session::line_bytes_max`].
    TooLong,
    /// A CR or LF alone in it.
    BareNewline,
}

/// One client's session.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    /// Whether TLS is on.
    secure: bool,
    /// What the client calls itself; none before EHLO or HELO.
    name: Option<String>,
    extended: bool,
    /// Our user who it has proved to be.
    user: Option<String>,
    /// What the next line answers, while it proves that.
    dialog: Option<Dialog>,
    transaction: Option<Transaction>,
    errors: usize,
    auth_errors: usize,
}

impl Session {
    /// A session that has just begun: under TLS, or in the clear.
    pub fn new(settings: Settings, secure: bool) -> Session {
        Session {
            settings,
            secure,
            name: None,
            extended: false,
            user: None,
            dialog: None,
            transaction: None,
            errors: 0,
            auth_errors: 0,
        }
    }

    /// The first reply (RFC 5321, 3.1).
    pub fn greeting(&self) -> Reply {
        Reply::plain(220, [format!("{} ESMTP PennCloud", self.settings.domain)])
    }

    /// What the client calls itself.
    pub fn client_name(&self) -> &str {
        self.name.as_deref().unwrap_or("unknown")
    }

    /// The protocol as a Received line names it (RFC 3848; RFC 6531, 4.3).
    pub fn protocol(&self) -> &'static str {
        let utf8 = self.transaction.as_ref().is_some_and(|t| t.envelope.parameters.utf8);
        match (self.extended, utf8, self.secure, self.user.is_some()) {
            (false, ..) => "SMTP",
            (_, false, false, false) => "ESMTP",
            (_, false, false, true) => "ESMTPA",
            (_, false, true, false) => "ESMTPS",
            (_, false, true, true) => "ESMTPSA",
            (_, true, false, false) => "UTF8SMTP",
            (_, true, false, true) => "UTF8SMTPA",
            (_, true, true, false) => "UTF8SMTPS",
            (_, true, true, true) => "UTF8SMTPSA",
        }
    }

    /// Octets of the next line, with its end (RFC 4954, 4: 12288 for a response, and for AUTH with one in it).
    pub fn line_bytes_max(&self) -> usize {
        if self.takes_passwords() { AUTH_LINE_BYTES_MAX } else { LINE_BYTES_MAX }
    }

    /// Whether chunks of a message have come, and its end has not.
    pub fn is_in_chunks(&self) -> bool {
        self.transaction.as_ref().is_some_and(|t| t.octets.is_some())
    }

    /// Takes a line without its CR LF.
    pub fn line(&mut self, line: &[u8]) -> Action {
        let action = match self.dialog.take() {
            Some(dialog) => self.next(dialog.answer(line)),
            None => match command::parse(line) {
                Ok(command) => self.command(command),
                Err(refusal) => Action::Reply(refusal),
            },
        };
        self.count(action)
    }

    /// Takes a line that is none.
    pub fn bad_line(&mut self, fault: LineFault) -> Action {
        let max = self.line_bytes_max();
        let in_dialog = self.dialog.take().is_some();
        self.count(Action::Reply(match fault {
            // RFC 4954, 4.
            LineFault::TooLong if in_dialog => {
                Reply::new(500, "5.5.6", format!("A response has at most {max} octets"))
            }
            LineFault::TooLong => {
                Reply::new(500, "5.5.2", format!("A line has at most {max} octets"))
            }
            LineFault::BareNewline => Reply::new(500, "5.5.2", "Lines end in CR LF"),
        }))
    }

    /// Takes the end of the handshake that [`Action::StartTls`] began. RFC 3207, 4.2: what was said in the clear may have
    /// been somebody else's words.
    pub fn secured(&mut self) {
        self.secure = true;
        self.name = None;
        self.extended = false;
        self.user = None;
        self.dialog = None;
        self.transaction = None;
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
            Command::StartTls => self.start_tls(),
            Command::Auth(mechanism, initial) => self.auth(mechanism, initial.as_deref()),
            Command::Mail(sender) => self.mail(sender),
            Command::Rcpt(recipient) => self.rcpt(recipient),
            Command::Data => self.data(),
            Command::Bdat(chunk) => self.bdat(chunk),
            Command::BadBdat => {
                Action::Close(Reply::new(501, "5.5.4", "Write it so: BDAT <octets> [LAST]"))
            }
            Command::Rset => {
                self.transaction = None;
                ok("Forgotten")
            }
            Command::Noop => ok("Nothing done"),
            // RFC 5321, 7.3: who asks is not told who has an account.
            Command::Vrfy => {
                Action::Reply(Reply::new(252, "2.0.0", "Not verified here; send, and it will show"))
            }
            Command::Help => self.help(),
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
        Action::Reply(Reply::plain(250, std::iter::once(domain).chain(self.offers())))
    }

    fn offers(&self) -> Vec<String> {
        let size = format!("SIZE {}", self.settings.message_bytes_max);
        let always =
            ["PIPELINING", &size, "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES"];
        let mut offers: Vec<String> = always.map(String::from).into();
        let more = [
            (self.offers_tls(), "STARTTLS"),
            (self.takes_passwords() && self.user.is_none(), "AUTH PLAIN LOGIN"),
            (self.offers_dsn(), "DSN"),
            (true, "HELP"),
        ];
        offers.extend(more.into_iter().filter(|(is, _)| *is).map(|(_, offer)| offer.into()));
        offers
    }

    fn help(&self) -> Action {
        let more = [(self.offers_tls(), " STARTTLS"), (self.takes_passwords(), " AUTH")];
        let more: String = more.into_iter().filter(|(is, _)| *is).map(|(_, verb)| verb).collect();
        let verbs =
            format!("Commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT{more}");
        let [who, standards] = HELP.map(String::from);
        Action::Reply(Reply::plain(214, [who, verbs, standards]))
    }

    fn offers_tls(&self) -> bool {
        self.settings.has_tls && !self.secure
    }

    /// RFC 3461 asks for notices of success too: only our own users are sent any.
    fn offers_dsn(&self) -> bool {
        self.settings.service == Service::Submission
    }

    fn start_tls(&mut self) -> Action {
        if !self.settings.has_tls {
            return Action::Reply(command::not_offered("STARTTLS"));
        }
        if self.secure {
            return out_of_order("TLS is on already");
        }
        Action::StartTls(Reply::plain(220, ["Go on under TLS"]))
    }

    /// Somebody who only makes mistakes is guessing.
    fn count(&mut self, action: Action) -> Action {
        let failure = match &action {
            Action::Reply(reply) | Action::Swallow(_, reply) => reply.is_failure(),
            _ => false,
        };
        self.errors += usize::from(failure);
        if failure && self.errors >= ERRORS_MAX {
            return Action::Close(Reply::new(421, "4.7.0", "Too many errors"));
        }
        action
    }
}

fn ok(text: &str) -> Action {
    Action::Reply(Reply::new(250, "2.0.0", text))
}

/// RFC 5321, 4.1.4.
fn out_of_order(text: &str) -> Action {
    Action::Reply(Reply::new(503, "5.5.1", text))
}
