//! The balancer: sends each visitor to a frontend that is alive.
//!
//! Every GET and HEAD is answered by a 303 to the same path and query at a frontend's advertised address,
//! round robin. The visitor's browser then speaks to that frontend, so the balancer is in nobody's way.
//!
//! # Who is alive
//!
//! One thread a frontend asks `/ping` every `ping_interval_ms`. [`health`] judges the answers:
//!
//! ```text
//!            good            silent            silent, refused
//!    new ──────────▶ up ───────────────▶ suspect ──────────▶ down
//!     │               ▲ ◀──────────────────┘ good              │
//!     └─ refused ─▶   └──────────────── two good in a row ─────┘      refused: from anywhere to down
//! ```
//!
//! `/ping` says `ok conns=12 draining=0 kv=ok`. A frontend without storage is *degraded*: chosen only where none
//! is better, because with a broken store all are. One that drains is not chosen at all. One with many more
//! connections than another comes after it.
//!
//! Between two pings a frontend may have died: where the last sign of life is older than 250 ms, the balancer
//! connects to it before it answers, within 200 ms, and takes the next one if that fails.
//!
//! # Invariants
//!
//! * A `Location` is our scheme, an address from the configuration and a target that [`is_local`]; nothing in
//!   it is copied from `Host` or any other field.
//! * No answer may be kept: `Cache-Control: no-store`.
//! * Without a frontend the answer is 503 with `Retry-After` and a page that loads itself again.
//!
//! # Threads
//!
//! One a connection (`http`), and one a frontend. The table of their health is behind a lock that is never
//! held across I/O.
//!
//! # Caveats
//!
//! * A POST also gets a 303 and so becomes a GET: forms are always served and received by a frontend, and a
//!   form that a browser sent on by itself would come without an origin. Other methods get a 307.
//! * A browser stays with its frontend; when that one dies the visitor comes back here by the address that
//!   they know. Nothing is lost by it: the session is in the store.

mod fleet;
mod health;
mod ping;

use crate::config::{self, Config, Scheme};
use crate::error::{Error, Result};
use crate::http::target::is_local;
use crate::http::{self, App, Method, Request, Response};
use crate::net;
use askama::Template;
use fleet::Fleet;
use std::net::TcpListener;
use std::sync::Arc;

/// Seconds after which a visitor who found no frontend tries again.
const RETRY_AFTER_S: u32 = 2;
/// Where the style of our own pages is.
const STYLE: &str = "/balancer/app.css";
/// What our own pages may load.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// Runs the balancer named `name` until the process is told to end.
pub fn run(config: &Config, name: &str) -> Result<()> {
    let process = config.balancers.iter().find(|b| b.name == name);
    let process = process.ok_or_else(|| {
        Error::config(format!("the configuration has no balancer named {name:?}"))
    })?;
    let listener = net::bind(&process.address)?;
    log::info!("{name}: {}://{}", config.http.scheme(), process.address);
    serve(listener, config, process)
}

/// Balances on a listener that is bound already.
pub fn serve(listener: TcpListener, config: &Config, process: &config::Balancer) -> Result<()> {
    let fleet = Arc::new(Fleet::new(&config.frontends));
    let scheme = config.http.scheme();
    ping::start(&fleet, scheme, std::time::Duration::from_millis(process.ping_interval_ms))?;
    http::serve(listener, &config.http, Arc::new(Balancer { fleet, scheme }))
}

struct Balancer {
    fleet: Arc<Fleet>,
    /// How frontends are spoken to: as we are.
    scheme: Scheme,
}

impl App for Balancer {
    fn respond(&self, request: &mut Request<'_>) -> Response {
        let response = match request.path.as_str() {
            "/ping" => self.ping(request),
            STYLE => style(),
            _ if is_local(&request.target) => self.send_on(request),
            _ => Response::text(400, "A path begins with one / and has no backslash.\n"),
        };
        response.with_header("X-Content-Type-Options", "nosniff")
    }
}

impl Balancer {
    fn ping(&self, request: &Request<'_>) -> Response {
        let (conns, up) = (request.connections, self.fleet.usable());
        Response::text(200, format!("ok conns={conns} draining=0 frontends={up}\n"))
            .with_header("Cache-Control", "no-store")
    }

    fn send_on(&self, request: &Request<'_>) -> Response {
        let Some(frontend) = self.fleet.choose() else { return none_is_up(&request.target) };
        let mut response =
            Response::redirect(&format!("{}://{frontend}{}", self.scheme, request.target))
                .with_header("Cache-Control", "no-store");
        if !matches!(request.method, Method::Get | Method::Head | Method::Post) {
            response.status = 307;
        }
        response
    }
}

#[derive(Template)]
#[template(path = "balancer/none.html")]
struct NonePage<'a> {
    seconds: u32,
    style: &'a str,
    again: &'a str,
}

fn none_is_up(again: &str) -> Response {
    let page = NonePage { seconds: RETRY_AFTER_S, style: STYLE, again };
    let page = page.render().unwrap_or_else(|e| {
        log::error!("the page for no frontend: {e}");
        "No frontend is up. Please try again in a moment.".into()
    });
    Response::html(503, page)
        .with_header("Retry-After", RETRY_AFTER_S.to_string())
        .with_header("Cache-Control", "no-store")
        .with_header("Content-Security-Policy", PAGE_POLICY)
}

fn style() -> Response {
    let bytes = include_bytes!("../../html/static/app.css");
    Response::bytes(200, "text/css; charset=utf-8", bytes.to_vec())
        .with_header("Cache-Control", "public, max-age=600")
}
