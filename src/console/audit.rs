//! Who did what: one line an action, under numbers that only grow.

use super::app::Visit;
use super::page::{Shell, render};
use crate::account::now_s;
use crate::client::{Client, Op, Scan};
use crate::error::Result;
use crate::http::{Request, Response, date};
use askama::Template;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

const ROW: &str = "~console/audit";
const PREFIX: &str = "event/";
/// Lines on the page.
const SHOWN: usize = 100;

/// A line of the audit log.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Event {
    /// Seconds since 1970.
    time: u64,
    /// The account.
    who: String,
    /// The address from which it came.
    from: String,
    /// What was asked for.
    action: String,
}

impl Event {
    /// When, for people.
    fn when(&self) -> String {
        date::format(UNIX_EPOCH + Duration::from_secs(self.time.min(u64::from(u32::MAX))))
    }
}

/// Writes a line. Where the store does not take it, the process's log has it.
pub(super) fn write(client: &Client, from: SocketAddr, action: &str) -> Result<()> {
    let (who, from) = (super::admin::NAME.to_string(), from.ip().to_string());
    log::info!("audit: {who} from {from}: {action}");
    let event = Event { time: now_s(), who, from, action: action.into() };
    let value = serde_json::to_vec(&event).expect("an event is plain JSON");
    let written = client.write(Op::append(ROW, PREFIX, value));
    written.map(drop).inspect_err(|e| log::warn!("the audit row did not take the line: {e}"))
}

#[derive(Template)]
#[template(path = "console/audit.html")]
struct Page {
    shell: Shell,
    events: Result<Vec<Event>>,
}

/// The newest lines.
pub(super) fn show(visit: &Visit, _request: &mut Request<'_>) -> Result<Response> {
    render(200, &Page { shell: visit.shell("Audit", "audit"), events: newest(&visit.app.client) })
}

fn newest(client: &Client) -> Result<Vec<Event>> {
    let scan = Scan {
        row: ROW.into(),
        prefix: PREFIX.into(),
        limit: SHOWN,
        reverse: true,
        values: true,
        ..Scan::default()
    };
    let (columns, _) = client.scan(scan)?;
    let parse = |value: &[u8]| serde_json::from_slice(value).ok();
    Ok(columns.iter().filter_map(|c| parse(c.value.as_deref()?)).collect())
}
