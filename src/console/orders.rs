//! Shutting a node down and waking it up: asked for by name, audited, then ordered from the master.

use super::app::Visit;
use super::audit;
use super::gather::cluster_status;
use super::judge::without;
use super::page::{Shell, render};
use crate::error::{Error, Result};
use crate::http::{Request, Response};
use crate::protocol::command::Command;
use askama::Template;
use std::time::Duration;

/// How much longer than a request the master may take to answer: a node hands its tablets over first.
const HANDOVER: Duration = Duration::from_secs(5);

/// An order to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Shutdown,
    Wakeup,
}

impl Action {
    fn parse(word: &str) -> Result<Action> {
        match word {
            "shutdown" => Ok(Action::Shutdown),
            "wakeup" => Ok(Action::Wakeup),
            _ => Err(Error::bad("this is no order to a node")),
        }
    }

    /// The order; `force`: it was said on the page what is out of service then.
    fn command(self, node: String, force: bool) -> Command {
        match self {
            Action::Shutdown => Command::Shutdown { node, force },
            Action::Wakeup => Command::Wakeup { node },
        }
    }

    fn is_shutdown(self) -> bool {
        self == Action::Shutdown
    }

    fn words(self) -> &'static str {
        if self.is_shutdown() { "Shut down" } else { "Wake up" }
    }

    /// What was done, for the page after it.
    pub(super) fn done(word: &str, node: &str) -> Option<String> {
        match Action::parse(word).ok()? {
            Action::Shutdown => Some(format!("{node} is out of service.")),
            Action::Wakeup => Some(format!("{node} is back in service.")),
        }
    }
}

#[derive(Template)]
#[template(path = "console/order.html")]
struct Page {
    shell: Shell,
    action: Action,
    path: String,
    node: String,
    /// Tablets that nobody could write to without this node.
    lost: Vec<String>,
    /// Tablets of which one copy would be left.
    alone: Vec<String>,
    fault: Option<String>,
}

/// Asks whether it is meant.
pub(super) fn ask(visit: &Visit, request: &mut Request<'_>) -> Result<Response> {
    page(visit, request, None)
}

fn page(visit: &Visit, request: &Request<'_>, fault: Option<String>) -> Result<Response> {
    let (node, action) = order_of(visit, request)?;
    let (lost, alone) = cluster_status(&visit.app).map(|s| without(&node, &s)).unwrap_or_default();
    let shell = visit.shell(action.words(), "dashboard");
    let status = if fault.is_some() { 400 } else { 200 };
    render(status, &Page { shell, action, path: request.path.clone(), node, lost, alone, fault })
}

/// The node and the order in the path; both must be known.
fn order_of(visit: &Visit, request: &Request<'_>) -> Result<(String, Action)> {
    let node = request.param("node");
    let action = Action::parse(request.param("action"))?;
    match visit.app.config.backends().any(|b| b.name == node) {
        true => Ok((node.into(), action)),
        false => Err(Error::bad("there is no such backend")),
    }
}

/// Gives the order.
pub(super) fn give(visit: &Visit, request: &mut Request<'_>) -> Result<Response> {
    let (node, action) = order_of(visit, request)?;
    let form = request.form()?;
    visit.check_form(&form)?;
    if form.get("name").map(str::trim) != Some(&node) {
        return page(visit, request, Some(format!("Type {node} to confirm.")));
    }
    let what = format!("{} {node}", action.words().to_lowercase());
    let audited = audit::write(&visit.app.client, request.peer, &what);
    let master = visit.app.config.master_address();
    let client = visit.app.client.with_time_limit(visit.app.config.request_time() + HANDOVER);
    let order = action.command(node.clone(), form.get("force").is_some());
    if let Err(error) = client.call_at(master, order) {
        return page(visit, request, Some(format!("The master says: {error}")));
    }
    let word = request.param("action");
    let note = if audited.is_ok() { "" } else { "&unaudited=1" };
    Ok(Response::redirect(&format!("/?done={word}&node={node}{note}")))
}
