//! What the handlers share, and the way from a request to one of them.

use super::headers::PAGE_POLICY;
use super::visit::{Guest, Visit};
use super::{account, assets, deletion, files, flash, mail, problem, settings, visit};
use crate::account::Accounts;
use crate::client::Client;
use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::http::{self, Request, RequestId, Response, Routed, Router, guard};
use crate::quota::Quota;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often the store is asked whether it answers.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How often deletions of accounts that are not finished are looked for, and how long they are gone on with.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How long it may take to answer.
const WATCH_WITHIN: Duration = Duration::from_millis(800);

/// What the handlers share.
pub struct App {
    /// The configuration.
    pub config: Config,
    /// This process in it.
    pub process: config::Frontend,
    /// The store.
    pub client: Client,
    /// The accounts in it.
    pub accounts: Accounts,
    /// How much each user may keep.
    pub quota: Quota,
    /// Requests that are being answered.
    pub open: AtomicUsize,
    /// Whether the process is about to end.
    pub draining: AtomicBool,
    store_answers: AtomicBool,
}

impl App {
    /// The shared state of a process.
    pub fn new(config: &Config, process: &config::Frontend) -> Result<App> {
        let client = Client::new(config)?;
        Ok(App {
            accounts: Accounts::new(client.clone(), &config.cluster, &config.accounts),
            quota: Quota::new(config),
            config: config.clone(),
            process: process.clone(),
            client,
            open: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            store_answers: AtomicBool::new(true),
        })
    }

    /// The line that the balancer reads.
    fn ping(&self, connections: usize) -> String {
        format!(
            "ok conns={connections} draining={} kv={}\n",
            u8::from(self.draining.load(Ordering::SeqCst)),
            if self.store_answers.load(Ordering::Relaxed) { "ok" } else { "down" },
        )
    }
}

/// Starts the thread that keeps asking whether the store answers at all.
pub(super) fn watch_store(app: &Arc<App>) -> Result<()> {
    let app = app.clone();
    let watch = move || loop {
        app.store_answers.store(any_row_answers(&app.client), Ordering::Relaxed);
        std::thread::sleep(WATCH_EVERY);
    };
    std::thread::Builder::new()
        .name("store-watch".into())
        .spawn(watch)
        .map(drop)
        .map_err(|e| Error::config(format!("no thread for watching the store: {e}")))
}

/// Starts the thread that goes on with deletions of accounts whose frontend died or was too slow.
pub(super) fn sweep_deletions(app: &Arc<App>) -> Result<()> {
    let app = app.clone();
    let sweep = move || loop {
        std::thread::sleep(SWEEP_EVERY);
        if let Err(error) = app.accounts.finish_deletions(Instant::now() + SWEEP_EVERY) {
            log::debug!("deletions are gone on with later: {error}");
        }
    };
    std::thread::Builder::new()
        .name("deletions".into())
        .spawn(sweep)
        .map(drop)
        .map_err(|e| Error::config(format!("no thread for finishing deletions: {e}")))
}

/// Rows of different slots: one tablet that is down is not the whole store.
fn any_row_answers(client: &Client) -> bool {
    let client = client.with_time_limit(WATCH_WITHIN);
    (0..4).any(|n| client.get(format!("~ping/{n}"), "ping", 1024).is_ok())
}

/// The routers over the shared state: what `http` calls.
pub(super) struct Front {
    app: Arc<App>,
    public: Router<Guest>,
    private: Router<Visit>,
}

impl Front {
    pub(super) fn new(app: Arc<App>) -> Front {
        let public = Router::new().get("/ping", ping).get("/static/*path", assets::serve);
        let private = Router::new().get("/", home);
        Front {
            app,
            public: account::routes(public),
            private: mail::routes(files::routes(deletion::routes(settings::routes(private)))),
        }
    }

    fn route(&self, request: &mut Request) -> Response {
        let guest = Guest::new(&self.app, request);
        if let Err(error) = guard::check_origin(request) {
            return problem::of_error(&guest.shell("Refused"), request, &error);
        }
        match self.public.dispatch(&guest, request) {
            Routed::NotFound => self.route_private(guest, request),
            routed => finish(routed, || guest.shell("Problem"), request),
        }
    }

    fn route_private(&self, guest: Guest, request: &mut Request) -> Response {
        let session = match visit::session_of(&self.app, request) {
            Ok(Some(session)) => session,
            Ok(None) => {
                let answer = account::without_session(&guest, request);
                return answer
                    .unwrap_or_else(|e| problem::of_error(&guest.shell("Problem"), request, &e));
            }
            Err(error) => {
                return problem::of_no_session(&guest.shell("Problem"), request, &error);
            }
        };
        let visit = Visit::new(guest, session);
        let routed = self.private.dispatch(&visit, request);
        finish(routed, || visit.shell("Problem", super::Section::None), request)
    }
}

impl http::App for Front {
    fn respond(&self, request: &mut Request) -> Response {
        let open = super::drain::Open::enter(&self.app);
        let shown = flash::is_set(request);
        let mut response = self.route(request);
        if shown && response.is_page() {
            response = flash::clear(response);
        }
        open.until_sent(guard::add_headers(response, PAGE_POLICY))
    }

    fn error(&self, status: u16, why: &str, id: RequestId) -> Response {
        let shell = Guest::anyone(&self.app).shell("Problem");
        guard::add_headers(problem::of_server(&shell, status, why, id), PAGE_POLICY)
    }
}

/// Turns what the router says into a response: what no handler answered becomes a page of its own.
fn finish(routed: Routed, shell: impl FnOnce() -> super::Shell, request: &Request) -> Response {
    match routed {
        Routed::Response(response) => response,
        Routed::Error(error) => problem::of_error(&shell(), request, &error),
        Routed::NotFound => problem::not_found(&shell(), request),
        Routed::MethodNotAllowed(methods) => problem::wrong_method(&shell(), request, &methods),
    }
}

fn ping(guest: &Guest, request: &mut Request) -> Result<Response> {
    Ok(Response::text(200, guest.app.ping(request.connections))
        .with_header("Cache-Control", "no-store"))
}

fn home(_visit: &Visit, _request: &mut Request) -> Result<Response> {
    Ok(Response::redirect("/mail"))
}
