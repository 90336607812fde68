//! The frontend: the pages that people see. It keeps nothing: accounts, sessions, mail and files are in the
//! store, so any frontend serves any user at any time.
//!
//! # From request to page
//!
//! ```text
//! http::serve ─▶ Front::respond ─▶ origin check (unsafe methods) ─▶ public router  (Guest)
//!                                                              └─▶ session ─▶ private router (Visit)
//!                                                                     └─ none: 303 /login?next=…, or 403 and what was typed
//! ```
//!
//! * A *guest* is anyone; a *visit* is a request of someone who is signed in. Handlers are functions of one
//!   of the two and the request, so a private page cannot forget to ask for the session.
//! * Each part brings its own routes: `account`, `files`, `mail`.
//! * A page is an askama template in `html/`, with a [`Shell`] for what surrounds it. Templates
//!   escape by default.
//! * Every form carries the session's token, and [`Visit::form`] and
//!   [`Visit::multipart`] refuse one without it; these are the only ways by which
//!   handlers read a body.
//!
//! # Invariants
//!
//! * Every page and download has the headers of [`http::guard`]; user bytes never run in our origin.
//! * A failed action says what failed, whether anything is lost, and what to do (`problem`).
//! * Every page works without scripts; scripts only make it smoother.
//!
//! # Threads
//!
//! One a connection (`http`), one that asks every second whether the store answers, one that goes on with
//! deletions of accounts that are not finished ([`crate::account::deletion`]), and one that waits for
//! SIGTERM: then `/ping` says `draining=1`, and the process ends when the open requests have been answered,
//! or after `drain::TIME_MAX`.
//!
//! # Caveats
//!
//! The forms by which people sign in and sign up carry no token, since there is no session yet that it could belong
//! to: the origin check guards them, and a client that names no origin is no browser.
//!
//! A session is read from the store with each request. Times are shown in UTC until a script makes them
//! local.

mod account;
mod app;
mod assets;
mod deletion;
mod download;
mod drain;
mod files;
mod flash;
mod headers;
mod mail;
mod page;
mod problem;
mod programs;
mod settings;
pub mod text;
mod upload;
mod used;
mod visit;

pub use app::App;
pub use page::{Section, Shell};
pub use visit::{Guest, Visit};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::{http, net};
use std::sync::Arc;

/// Runs the frontend named `name` until the process is told to end.
pub fn run(config: &Config, name: &str) -> Result<()> {
    let process = config.frontends.iter().find(|f| f.name == name);
    let process = process.ok_or_else(|| {
        Error::config(format!("the configuration has no frontend named {name:?}"))
    })?;
    assets::check()?;
    let listener = net::bind(&process.address)?;
    let app = Arc::new(App::new(config, process)?);
    drain::on_signal(app.clone())?;
    app::watch_store(&app)?;
    app::sweep_deletions(&app)?;
    log::info!("{name}: {}://{}", config.http.scheme(), process.advertised());
    http::serve(listener, &config.http, Arc::new(app::Front::new(app)))
}
