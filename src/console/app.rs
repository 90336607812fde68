//! What the handlers share, and the way from a request to one of them.

use super::admin::Admin;
use super::page::{Shell, problem};
use super::session::{Session, Sessions};
use super::{assets, audit, browse, dashboard, door, orders, queue};
use crate::client::Client;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::http::{self, Method, Request, Response, Routed, Router, guard, status_of};
use crate::mail::{Mailboxes, Queue};
use std::sync::Arc;
use std::time::Duration;

/// What a page may load: its own files and nothing else; nothing inline, no scripts.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";
/// Name of the session's cookie.
pub(super) const COOKIE: &str = "pc_console";
/// How long the console waits for the store: a page that says that it is down beats one that does not come.
const STORE_TIME: Duration = Duration::from_secs(2);

/// What the handlers share.
pub(super) struct App {
    pub(super) config: Config,
    /// Name of this process.
    pub(super) name: String,
    pub(super) client: Client,
    pub(super) admin: Admin,
    pub(super) sessions: Sessions,
    pub(super) queue: Queue,
}

impl App {
    pub(super) fn new(config: &Config, name: &str) -> Result<App> {
        let client = Client::new(config)?.with_time_limit(STORE_TIME);
        Ok(App {
            config: config.clone(),
            name: name.into(),
            admin: Admin::new(config, client.clone())?,
            sessions: Sessions::new(client.clone()),
            queue: Queue::new(Mailboxes::new(client.clone(), config)),
            client,
        })
    }
}

/// A request of anyone.
pub(super) struct Guest {
    pub(super) app: Arc<App>,
}

impl Guest {
    pub(super) fn shell(&self, title: &'static str) -> Shell {
        let process = self.app.name.clone();
        Shell { title, section: "", csrf: None, process, refresh: None, done: None }
    }
}

/// A request of the admin.
pub(super) struct Visit {
    pub(super) app: Arc<App>,
    pub(super) session: Session,
}

impl Visit {
    pub(super) fn shell(&self, title: &'static str, section: &'static str) -> Shell {
        let guest = Guest { app: self.app.clone() };
        Shell { section, csrf: Some(self.session.csrf.clone()), ..guest.shell(title) }
    }

    /// Refuses a form that was not made for this session.
    pub(super) fn check_form(&self, form: &http::Form) -> Result<()> {
        match self.session.accepts(form.get("csrf").unwrap_or_default()) {
            true => Ok(()),
            false => {
                Err(Error::Denied("the form is of another session; load the page again".into()))
            }
        }
    }
}

/// The routers over the shared state: what `http` calls.
pub(super) struct Front {
    app: Arc<App>,
    public: Router<Guest>,
    private: Router<Visit>,
}

impl Front {
    pub(super) fn new(app: Arc<App>) -> Front {
        let public = Router::new()
            .get("/ping", ping)
            .get("/static/*path", assets::serve)
            .get("/login", door::show)
            .post("/login", door::log_in);
        let private = Router::new()
            .get("/", dashboard::show)
            .get("/nodes/:node/:action", orders::ask)
            .post("/nodes/:node/:action", orders::give)
            .get("/kv", browse::nodes)
            .get("/kv/:node", browse::rows)
            .get("/kv/:node/row", browse::columns)
            .get("/kv/:node/cell", browse::cell)
            .get("/queue", queue::show)
            .post("/queue", queue::give)
            .get("/audit", audit::show)
            .post("/logout", door::log_out);
        Front { app, public, private }
    }

    fn route(&self, request: &mut Request<'_>) -> Response {
        let guest = Guest { app: self.app.clone() };
        if let Err(error) = guard::check_origin(request) {
            return failed(guest.shell("Refused"), &error, request);
        }
        match self.public.dispatch(&guest, request) {
            Routed::NotFound => self.route_private(request),
            routed => finish(routed, || guest.shell("Problem"), request),
        }
    }

    fn route_private(&self, request: &mut Request<'_>) -> Response {
        let own = request.query("auto").is_none();
        let cookie = request.cookie(COOKIE).unwrap_or_default();
        let Some(session) = self.app.sessions.find(cookie, own) else {
            return Response::redirect("/login");
        };
        let visit = Visit { app: self.app.clone(), session };
        let routed = self.private.dispatch(&visit, request);
        finish(routed, || visit.shell("Problem", ""), request)
    }
}

impl http::App for Front {
    fn respond(&self, request: &mut Request<'_>) -> Response {
        guard::add_headers(self.route(request), PAGE_POLICY)
    }

    fn error(&self, status: u16, why: &str, id: &str) -> Response {
        let guest = Guest { app: self.app.clone() };
        guard::add_headers(problem(guest.shell("Problem"), status, why, id), PAGE_POLICY)
    }
}

fn finish(routed: Routed, shell: impl FnOnce() -> Shell, request: &Request<'_>) -> Response {
    match routed {
        Routed::Response(response) => response,
        Routed::Error(error) => failed(shell(), &error, request),
        Routed::NotFound => problem(shell(), 404, "The address may be mistyped.", &request.id),
        Routed::MethodNotAllowed(methods) => {
            let why = format!("This address knows {}.", Method::list(&methods));
            problem(shell(), 405, &why, &request.id).with_header("Allow", &Method::list(&methods))
        }
    }
}

fn failed(shell: Shell, error: &Error, request: &Request<'_>) -> Response {
    problem(shell, status_of(error), &error.to_string(), &request.id)
}

fn ping(_guest: &Guest, _request: &mut Request<'_>) -> Result<Response> {
    Ok(Response::text(200, "ok\n"))
}
