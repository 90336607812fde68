//! AUTH: who the client is (RFC 4954).

use super::super::AUTH_ERRORS_MAX;
use super::super::auth::{Dialog, Mechanism, Next};
use super::super::command;
use super::super::reply::Reply;
use super::{Action, Service, Session, out_of_order};
use crate::account::LogIn;
use crate::error::Error;

/// Said of an unknown name, a wrong password and a foreign identity alike.
const WRONG: &str = "User name and password do not fit";

impl Session {
    /// Takes the answer to [`Action::Authenticate`]: the user, if name and password fit.
    pub fn authenticated(&mut self, found: Result<LogIn<String>, Error>) -> Action {
        let action = match found {
            Ok(LogIn::Welcome(user)) => {
                self.errors = 0;
                self.user = Some(user);
                Action::Reply(Reply::new(235, "2.7.0", "Welcome"))
            }
            Ok(LogIn::Wrong) => self.refuse_login(),
            // RFC 4954, 4: a failure that passes.
            Ok(LogIn::Wait(seconds)) => Action::Reply(Reply::new(
                454,
                "4.7.0",
                format!("Too many tries; the next one is heard in {seconds} s"),
            )),
            Err(error) => {
                log::warn!("nobody can be authenticated: {error}");
                Action::Reply(Reply::new(454, "4.7.0", "This cannot be found out now"))
            }
        };
        self.count(action)
    }

    /// Whether AUTH may be said here: to a submission service, under TLS unless that is not asked for (RFC 4954, 4;
    /// RFC 8314, 3.3).
    pub(super) fn takes_passwords(&self) -> bool {
        let submission = self.settings.service == Service::Submission;
        submission && (self.secure || self.settings.auth_in_clear)
    }

    pub(super) fn auth(&mut self, mechanism: Mechanism, initial: Option<&str>) -> Action {
        if self.settings.service != Service::Submission {
            return Action::Reply(command::not_offered("AUTH"));
        }
        if !self.takes_passwords() {
            return Action::Reply(Reply::new(538, "5.7.11", "A password is taken under TLS only"));
        }
        // RFC 4954, 4: after EHLO, and once. Not within a transaction either: none begins here before it.
        if !self.extended {
            return out_of_order("Say EHLO first");
        }
        if self.user.is_some() {
            return out_of_order("You have done so already");
        }
        self.next(Dialog::begin(mechanism, initial))
    }

    pub(super) fn next(&mut self, next: Next) -> Action {
        match next {
            Next::Ask(question, dialog) => {
                self.dialog = Some(dialog);
                Action::Reply(question)
            }
            Next::Refuse(reply) => Action::Reply(reply),
            // RFC 4616, 2: nobody acts as somebody else here.
            Next::Done(said) if self.user_of(&said.identity) != self.user_of(&said.name) => {
                self.refuse_login()
            }
            Next::Done(mut said) => {
                said.name = self.user_of(&said.name);
                Action::Authenticate(said)
            }
        }
    }

    /// The user whom a name means, which may be the whole address; in lower case. An address elsewhere is nobody's name.
    fn user_of(&self, name: &str) -> String {
        let name = name.to_ascii_lowercase();
        let own = name.strip_suffix(self.settings.domain.as_str());
        own.and_then(|rest| rest.strip_suffix('@')).map(String::from).unwrap_or(name)
    }

    fn refuse_login(&mut self) -> Action {
        self.auth_errors += 1;
        if self.auth_errors >= AUTH_ERRORS_MAX {
            return Action::Close(Reply::new(421, "4.7.0", "Too many wrong passwords"));
        }
        Action::Reply(Reply::new(535, "5.7.8", WRONG))
    }
}
