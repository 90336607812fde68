//! One transaction with another host: a reply comes in, an [`Action`] comes out (pure).

use super::answer::{Class, Reply};
use super::command::{self, Login, Offer, Order};
use crate::mail::queue::Answer;
use std::collections::VecDeque;

/// What the shell has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Wait for a reply.
    Wait(Wait),
    /// Send these octets, then wait for a reply.
    Send(Vec<u8>, Wait),
    /// Forget what came in the clear, shake hands, and call [`Machine::secured`].
    Shake,
    /// Send the message with its end, then wait for a reply.
    Body(Wait),
    /// Close: [`Machine::results`] say what came of it.
    Close,
}

/// How long to wait for a reply (RFC 5321, 4.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Five minutes: the greeting, and what is not named otherwise.
    Command,
    /// Two minutes: DATA.
    Data,
    /// Ten minutes: the dot.
    Dot,
    /// A moment: QUIT, which nothing depends on.
    Quit,
}

/// How far TLS is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// Where it is offered.
    Offered,
    /// Not any more: the handshake has failed before.
    Clear,
    /// Nothing is sent without.
    Demanded,
}

/// What came of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The host has taken the message for it.
    Sent(Answer),
    /// Not now.
    Deferred(Answer),
    /// Never.
    Failed(Answer),
}

/// What a reply is the answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// AUTH PLAIN, or the last step of AUTH LOGIN.
    Auth,
    /// The questions of AUTH LOGIN.
    LoginName,
    LoginPassword,
    Mail,
    Recipient(usize),
    Data,
    Dot,
    /// The end of a message for nobody.
    EmptyDot,
    Quit,
}

/// The conversation.
#[derive(Debug)]
pub struct Machine {
    order: Order,
    secrecy: Secrecy,
    login: Option<Login>,
    host: String,
    offer: Offer,
    secure: bool,
    signed_in: bool,
    /// What is still to be answered, in order.
    expected: VecDeque<Expect>,
    /// What is known of each recipient.
    results: Vec<Option<Outcome>>,
    /// Recipients that were taken by RCPT.
    accepted: Vec<usize>,
    /// Whether the host was told MAIL: what it says then is about this message.
    began: bool,
    greeted: bool,
    handshake_failed: bool,
}

impl Machine {
    /// Before the greeting of a host.
    pub fn new(order: Order, host: &str, secrecy: Secrecy, login: Option<Login>) -> Machine {
        Machine {
            results: vec![None; order.recipients.len()],
            order,
            secrecy,
            login,
            host: host.into(),
            offer: Offer::default(),
            secure: false,
            signed_in: false,
            expected: [Expect::Greeting].into(),
            accepted: Vec::new(),
            began: false,
            greeted: false,
            handshake_failed: false,
        }
    }

    /// What to do first: wait for the greeting.
    pub fn begin(&self) -> Action {
        Action::Wait(Wait::Command)
    }

    /// What came of each recipient, when all is over.
    pub fn results(self) -> Vec<Outcome> {
        let silent = || Outcome::Deferred(Answer::of_ours("4.4.2", "the session ended early"));
        self.results.into_iter().map(|known| known.unwrap_or_else(silent)).collect()
    }

    /// Whether the host heard nothing of this message, so that another host may be asked in the same try.
    pub fn is_untouched(&self) -> bool {
        !self.began
    }

    /// Whether the host said anything.
    pub fn was_greeted(&self) -> bool {
        self.greeted
    }

    /// Whether it is to be tried in the clear, on a new connection.
    pub fn wants_clear(&self) -> bool {
        self.handshake_failed && self.secrecy == Secrecy::Offered
    }

    /// The handshake went well, or did not.
    pub fn secured(&mut self, result: Result<(), String>) -> Action {
        match result {
            Ok(()) => {
                self.secure = true;
                self.offer = Offer::default();
                self.say(command::ehlo(&self.order.name), Expect::Ehlo, Wait::Command)
            }
            Err(why) => {
                self.handshake_failed = true;
                self.end(&Answer::of_ours("4.7.5", format!("the TLS handshake failed: {why}")));
                Action::Close
            }
        }
    }

    /// The connection broke, or the host said what no reply is.
    pub fn lost(&mut self, why: &str) -> Action {
        let text = match self.expected.front() {
            Some(Expect::Dot) => format!("{why}, after the whole message was sent"),
            _ => why.to_string(),
        };
        self.end(&Answer { host: self.host.clone(), ..Answer::of_ours("4.4.2", text) });
        Action::Close
    }

    /// A reply.
    pub fn reply(&mut self, reply: &Reply) -> Action {
        let Some(expect) = self.expected.pop_front() else { return Action::Close };
        self.greeted = true;
        let answer = reply.answer(&self.host);
        if reply.code == 421 && expect != Expect::Quit {
            return self.leave(&answer, Outcome::Deferred);
        }
        match expect {
            Expect::Greeting if reply.class() == Class::Done => {
                self.say(command::ehlo(&self.order.name), Expect::Ehlo, Wait::Command)
            }
            Expect::Ehlo if reply.class() == Class::Done => {
                self.offer = Offer::of(reply);
                self.introduced()
            }
            Expect::Ehlo if reply.class() == Class::Never && !self.secure => {
                self.say(command::helo(&self.order.name), Expect::Helo, Wait::Command)
            }
            Expect::Helo if reply.class() == Class::Done => self.introduced(),
            Expect::Greeting | Expect::Ehlo | Expect::Helo => {
                self.leave(&temporary(answer), Outcome::Deferred)
            }
            Expect::StartTls if reply.class() == Class::Done => Action::Shake,
            Expect::StartTls => self.transact(),
            Expect::Auth | Expect::LoginName | Expect::LoginPassword => {
                self.auth(expect, reply, answer)
            }
            Expect::Mail => self.mail(reply, &answer),
            Expect::Recipient(n) => self.recipient(n, reply, answer),
            Expect::Data => self.data(reply, &answer),
            Expect::Dot => self.dot(reply, &answer),
            Expect::EmptyDot => self.quit(),
            Expect::Quit => Action::Close,
        }
    }

    /// After EHLO or HELO: TLS, then who we are, then the message.
    fn introduced(&mut self) -> Action {
        let wanted = !self.secure && self.secrecy != Secrecy::Clear;
        if wanted && self.offer.starttls {
            return self.say(command::starttls(), Expect::StartTls, Wait::Command);
        }
        self.transact()
    }

    fn transact(&mut self) -> Action {
        if !self.secure && (self.secrecy == Secrecy::Demanded || self.login.is_some()) {
            let why =
                Answer::of_ours("4.7.4", "the host offers no TLS, and nothing is sent without");
            return self.leave(&why, Outcome::Deferred);
        }
        if let (Some(login), false) = (&self.login, self.signed_in) {
            let (octets, expect) = match self.offer.auth_plain {
                true => (login.plain(), Expect::Auth),
                false => (command::auth_login(), Expect::LoginName),
            };
            return self.say(octets, expect, Wait::Command);
        }
        if let Some(why) = self.offer.refusal(&self.order) {
            return self.leave(&why, Outcome::Failed);
        }
        self.began = true;
        let mut octets = command::mail(&self.order, &self.offer);
        self.expected.push_back(Expect::Mail);
        if self.offer.pipelining {
            for n in 0..self.order.recipients.len() {
                octets.extend(command::rcpt(&self.order.recipients[n], &self.offer));
                self.expected.push_back(Expect::Recipient(n));
            }
            octets.extend(command::data());
            self.expected.push_back(Expect::Data);
        }
        Action::Send(octets, Wait::Command)
    }

    /// What goes wrong here is a matter of our configuration: the message waits for it to be mended.
    fn auth(&mut self, expect: Expect, reply: &Reply, answer: Answer) -> Action {
        let login = self.login.clone().unwrap_or_default();
        match (expect, reply.class()) {
            (Expect::Auth, Class::Done) => {
                self.signed_in = true;
                self.transact()
            }
            (Expect::LoginName, Class::GoOn) => {
                self.say(login.name_line(), Expect::LoginPassword, Wait::Command)
            }
            (Expect::LoginPassword, Class::GoOn) => {
                self.say(login.password_line(), Expect::Auth, Wait::Command)
            }
            _ => self.leave(&temporary(answer), Outcome::Deferred),
        }
    }

    fn mail(&mut self, reply: &Reply, answer: &Answer) -> Action {
        match reply.class() {
            Class::Done if self.expected.is_empty() => self.next_recipient(0),
            Class::Done => Action::Wait(Wait::Command),
            class => {
                self.decide_all(class, answer);
                self.after_refusal()
            }
        }
    }

    fn next_recipient(&mut self, n: usize) -> Action {
        match self.order.recipients.get(n) {
            Some(recipient) => {
                let octets = command::rcpt(recipient, &self.offer);
                self.say(octets, Expect::Recipient(n), Wait::Command)
            }
            None if self.accepted.is_empty() => self.quit(),
            None => self.say(command::data(), Expect::Data, Wait::Data),
        }
    }

    /// 552 to a recipient means what 452 does: too many of them (RFC 5321, 4.5.3.1.10).
    fn recipient(&mut self, n: usize, reply: &Reply, answer: Answer) -> Action {
        match reply.class() {
            Class::Done => self.accepted.push(n),
            Class::Never if reply.code != 552 => self.decide(n, Outcome::Failed(answer)),
            _ => self.decide(n, Outcome::Deferred(temporary(answer))),
        }
        match self.expected.front() {
            None => self.next_recipient(n + 1),
            Some(Expect::Data) => Action::Wait(Wait::Data),
            Some(_) => Action::Wait(Wait::Command),
        }
    }

    fn data(&mut self, reply: &Reply, answer: &Answer) -> Action {
        match reply.class() {
            Class::GoOn if self.accepted.is_empty() => {
                self.say(b".\r\n".to_vec(), Expect::EmptyDot, Wait::Dot)
            }
            Class::GoOn => {
                self.expected.push_back(Expect::Dot);
                Action::Body(Wait::Dot)
            }
            class => {
                self.decide_all(class, answer);
                self.quit()
            }
        }
    }

    fn dot(&mut self, reply: &Reply, answer: &Answer) -> Action {
        if reply.class() == Class::Done {
            for n in std::mem::take(&mut self.accepted) {
                self.decide(n, Outcome::Sent(answer.clone()));
            }
        }
        self.decide_all(reply.class(), answer);
        self.quit()
    }

    /// Everybody who is not decided yet shares this answer. A code that makes no sense here is none for ever.
    fn decide_all(&mut self, class: Class, answer: &Answer) {
        for n in 0..self.results.len() {
            let outcome = match class {
                Class::Never => Outcome::Failed(answer.clone()),
                _ => Outcome::Deferred(temporary(answer.clone())),
            };
            self.decide(n, outcome);
        }
    }

    fn decide(&mut self, n: usize, outcome: Outcome) {
        self.results[n].get_or_insert(outcome);
    }

    /// MAIL was refused: what was sent with it is refused as well, and its replies are waited for.
    fn after_refusal(&mut self) -> Action {
        if self.expected.is_empty() { self.quit() } else { Action::Wait(Wait::Command) }
    }

    /// Nothing more is said but QUIT.
    fn leave(&mut self, answer: &Answer, outcome: fn(Answer) -> Outcome) -> Action {
        for n in 0..self.results.len() {
            self.decide(n, outcome(answer.clone()));
        }
        self.quit()
    }

    fn end(&mut self, answer: &Answer) {
        self.decide_all(Class::NotNow, answer);
    }

    fn quit(&mut self) -> Action {
        self.expected.clear();
        self.say(command::quit(), Expect::Quit, Wait::Quit)
    }

    fn say(&mut self, octets: Vec<u8>, expect: Expect, wait: Wait) -> Action {
        self.expected.push_back(expect);
        Action::Send(octets, wait)
    }
}

/// An answer with the class of what may pass (RFC 3463, 3.1): a refusal that is not about this message may be mended, or
/// another host may take it.
fn temporary(answer: Answer) -> Answer {
    let rest = answer.status.split_once('.').map_or("0.0", |(_, rest)| rest).to_string();
    Answer { status: format!("4.{rest}"), ..answer }
}
