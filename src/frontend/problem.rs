//! Pages that say what failed, whether anything is lost, and what to do.

use super::Shell;
use super::mail::Kept;
use super::page::{self, Wait};
use super::text;
use super::visit::COOKIE;
use crate::account::password::CROWD;
use crate::error::Error;
use crate::http::target::is_local;
use crate::http::{self, Method, Request, RequestId, Response};
use askama::Template;

/// What is said while no storage node leads.
const ELECTING: &str = "The storage is electing a new primary";
/// Seconds after which a request that could not be served may be sent again.
const RETRY_AFTER_S: u64 = 3;

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    shell: &'a Shell,
    problem: Problem,
    /// Whether someone is signed in, or was as far as is known.
    signed: bool,
    /// Where "try again" leads, if it is a page.
    again: Option<String>,
    /// Until another try is heard.
    wait: Option<Wait>,
    /// What its author may send again from here.
    letter: Option<Kept>,
    /// Names the request in the log.
    id: RequestId,
}

/// What is said of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Status code.
    pub status: u16,
    /// What failed, in a few words.
    pub title: &'static str,
    /// What happened.
    pub what: String,
    /// Whether anything is lost, and what to do.
    pub advice: &'static str,
}

impl Problem {
    /// What is said of an error.
    pub fn of(error: &Error) -> Problem {
        let (title, what, advice) = words(error);
        Problem { status: http::status_of(error), title, what, advice }
    }
}

/// What is said where nothing was to be changed and the store does not answer.
fn of_reading(problem: Problem) -> Problem {
    Problem {
        title: ELECTING,
        what: "The storage node that leads what this page shows does not answer; within seconds another one takes over.".into(),
        advice: "Nothing was changed and nothing is lost. This page tries again by itself.",
        ..problem
    }
}

fn words(error: &Error) -> (&'static str, String, &'static str) {
    match error {
        Error::Bad(why) => (
            "That did not work",
            sentence(why),
            "Nothing was changed. Go back, correct it and try again.",
        ),
        Error::Denied(why) => (
            "Not allowed",
            sentence(why),
            "Nothing was changed. Open the page again and repeat what you did.",
        ),
        Error::TooBig(why) => ("Too big", sentence(why), "Nothing was stored. Everything else is as it was."),
        Error::Retry(why) if why == CROWD => (
            "Too many people at once",
            "More people sign in at this moment than can be served.".into(),
            "Nothing was changed. Please try again in a few seconds.",
        ),
        Error::Retry(_) => (
            "The storage is not ready for this",
            "It is electing a new primary, or busy with another change of yours at this moment.".into(),
            "Nothing was changed and nothing is lost. Please try again in a few seconds.",
        ),
        Error::Unknown(_) | Error::Io(..) => (
            "No answer from the storage",
            "The connection to the storage broke before it could say whether this was done.".into(),
            "What was stored before is safe. Look whether your change is there before you repeat it.",
        ),
        Error::NoSpace | Error::TabletFull => (
            "The storage is full",
            "There is no room left for new data.".into(),
            "Nothing was changed and nothing is lost. Deleting works: it makes room.",
        ),
        Error::Quota { used, limit } => (
            "Your space is used up",
            over_quota(*used, *limit),
            "Nothing was stored, and nothing is lost. Delete files, or messages in Trash: that makes room at once.",
        ),
        Error::Corrupt(_) | Error::Config(_) => (
            "Something is wrong here",
            "The stored data is not what it should be, so nothing is shown rather than something false.".into(),
            "Nothing was changed. Please tell the operator the number below.",
        ),
    }
}

fn over_quota(used: i64, limit: i64) -> String {
    let size = |bytes: i64| text::size(bytes.max(0) as u64);
    format!(
        "{} of your {} are in use, counting uploads that are under way, and this needs more than is left.",
        size(used),
        size(limit)
    )
}

/// A sentence of an error's reason.
pub(super) fn sentence(why: &str) -> String {
    let mut chars = why.chars();
    let first = chars.next().map_or_else(String::new, |c| c.to_uppercase().collect());
    let end = if why.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}

/// The page for an error of a handler.
pub(super) fn of_error(shell: &Shell, request: &Request, error: &Error) -> Response {
    respond(shell, request, logged(request, error), None)
}

/// The page for a request whose session cannot be read now: a letter in it is given back.
pub(super) fn of_no_session(shell: &Shell, request: &mut Request, error: &Error) -> Response {
    let letter = Kept::of_request(request);
    let error = Error::retry(format!("the session cannot be read: {error}"));
    respond(shell, request, logged(request, &error), letter)
}

/// What is said of an error; the log has it too where it is ours.
fn logged(request: &Request, error: &Error) -> Problem {
    let problem = Problem::of(error);
    if problem.status >= 500 {
        log::warn!("{} {:?} {:?}: {error}", request.id, request.method, request.path);
    }
    if problem.status == 503 && request.method.is_safe() { of_reading(problem) } else { problem }
}

/// The page for an error of a handler that had done a part of what was asked, which `done` says.
pub(super) fn of_rest(shell: &Shell, request: &Request, error: &Error, done: &str) -> Response {
    let problem = logged(request, error);
    let advice = match error {
        Error::Quota { .. } => {
            "That is safe. Delete what you no longer need, then send the rest again."
        }
        _ => "That is safe. Send the rest again.",
    };
    let what = format!("{} {done}", problem.what);
    respond(shell, request, Problem { what, advice, ..problem }, None)
}

/// The page for what is not there.
pub(super) fn not_found(shell: &Shell, request: &Request) -> Response {
    let problem = Problem {
        status: 404,
        title: "Not here",
        what: "There is nothing at this address. It may have been moved or deleted.".into(),
        advice: "Check the address, or start from your files or your mail.",
    };
    respond(shell, request, problem, None)
}

/// The page for a path that does not take the method.
pub(super) fn wrong_method(shell: &Shell, request: &Request, allowed: &[Method]) -> Response {
    let problem = Problem {
        status: 405,
        title: "Not this way",
        what: "This address takes no requests of this kind.".into(),
        advice: "Nothing was changed. Go back and use the page's own buttons.",
    };
    let names: Vec<String> = allowed.iter().map(|m| format!("{m:?}").to_uppercase()).collect();
    respond(shell, request, problem, None).with_header("Allow", names.join(", "))
}

/// The page for someone who has to wait.
pub(super) fn wait(shell: &Shell, request: &Request, seconds: u64) -> Response {
    let problem = Problem {
        status: 429,
        title: "Too many tries",
        what: "There were too many tries from your address.".into(),
        advice: "Nothing was changed.",
    };
    let page = shown(shell, request, problem, None);
    page_of(ProblemPage { wait: Some(Wait(seconds)), ..page })
        .with_header("Retry-After", seconds.to_string())
}

/// The page for an error that the server found before any handler.
pub(super) fn of_server(shell: &Shell, status: u16, why: &str, id: RequestId) -> Response {
    let (title, advice) = match status {
        503 => ("Too busy", "Nothing was changed. Please try again in a few seconds."),
        500.. => (
            "Something went wrong",
            "Please try again; if it stays, tell the operator the number below.",
        ),
        _ => ("That request was not understood", "Nothing was changed. Go back and try again."),
    };
    let problem = Problem { status, title, what: sentence(why), advice };
    page_of(ProblemPage {
        shell,
        problem,
        signed: false,
        again: None,
        wait: None,
        letter: None,
        id,
    })
}

fn again(request: &Request) -> Option<String> {
    (request.method.is_safe() && is_local(&request.target)).then(|| request.target.clone())
}

fn respond(shell: &Shell, request: &Request, problem: Problem, letter: Option<Kept>) -> Response {
    page_of(shown(shell, request, problem, letter))
}

fn shown<'p>(
    shell: &'p Shell,
    request: &'p Request,
    problem: Problem,
    letter: Option<Kept>,
) -> ProblemPage<'p> {
    let signed = shell.user.is_some() || request.cookie(COOKIE).is_some();
    let again = again(request).filter(|_| problem.status == 429 || problem.status >= 500);
    ProblemPage { shell, problem, signed, again, wait: None, letter, id: request.id }
}

fn page_of(page: ProblemPage<'_>) -> Response {
    let (status, problem) = (page.problem.status, &page.problem);
    let plain = format!("{}: {}\n{}\n", problem.title, problem.what, problem.advice);
    let response = page::render(status, &page).unwrap_or_else(|_| Response::text(status, plain));
    if status == 503 {
        response.with_header("Retry-After", RETRY_AFTER_S.to_string())
    } else {
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_becomes_a_sentence() {
        assert_eq!(sentence("a name is needed"), "A name is needed.");
        assert_eq!(sentence("Über."), "Über.");
        assert_eq!(sentence(""), ".");
    }

    #[test]
    fn an_unknown_outcome_is_not_called_a_failure() {
        let problem = Problem::of(&Error::unknown("cut off"));
        assert_eq!(problem.status, 503);
        assert!(of_reading(problem.clone()).advice.contains("nothing is lost"));
        assert!(problem.advice.contains("before you repeat it"));
        assert!(Problem::of(&Error::retry("x")).advice.starts_with("Nothing was changed"));
    }
}
