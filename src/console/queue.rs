//! The queue of messages that leave: how long it is, what waits for whom, and orders about single messages.

use super::app::Visit;
use super::audit;
use super::page::{Shell, render, size};
use crate::account::now_s;
use crate::error::{Error, Result};
use crate::http::{Request, Response};
use crate::mail::Queue;
use crate::mail::queue::{Entry, Found, Order, Place, SHARDS};
use askama::Template;
use std::collections::BTreeMap;

/// Entries of a shard that the page reads.
const SHARD_ENTRIES: usize = 200;
/// Messages and domains that the page shows.
const SHOWN: usize = 100;

#[derive(Template)]
#[template(path = "console/queue.html")]
struct Page {
    shell: Shell,
    found: Result<Contents>,
}

/// What the page shows.
struct Contents {
    length: usize,
    /// Whether a shard holds more than was read.
    more: bool,
    oldest: String,
    /// Recipients who wait, by domain, most first.
    domains: Vec<(String, usize)>,
    messages: Vec<Line>,
}

/// One message.
struct Line {
    place: String,
    sender: String,
    size: String,
    age: String,
    state: String,
    held: bool,
    /// Each recipient who is not done, and what was heard last.
    waiting: Vec<(String, String)>,
}

/// The page.
pub(super) fn show(visit: &Visit, request: &mut Request<'_>) -> Result<Response> {
    let said = match request.query("unaudited") {
        Some(_) => "Done. The audit row did not take the line; the log has it.",
        None => "Done.",
    };
    let done = request.query("done").map(|_| said.to_string());
    let shell = Shell { done, ..visit.shell("Queue", "queue") };
    render(200, &Page { shell, found: contents(&visit.app.queue) })
}

/// Follows an order about one message, after it was written down.
pub(super) fn give(visit: &Visit, request: &mut Request<'_>) -> Result<Response> {
    let form = request.form()?;
    visit.check_form(&form)?;
    let unknown = || Error::bad("this is no order about a message");
    let place = form.get("place").and_then(Place::parse).ok_or_else(unknown)?;
    let word = form.get("order").unwrap_or_default();
    let order = parse(word).ok_or_else(unknown)?;
    let audited = audit::write(&visit.app.client, request.peer, &format!("{word} message {place}"));
    visit.app.queue.order(&place, order)?;
    let note = if audited.is_ok() { "" } else { "&unaudited=1" };
    Ok(Response::redirect(&format!("/queue?done=1{note}")))
}

fn parse(word: &str) -> Option<Order> {
    match word {
        "hold" => Some(Order::Hold),
        "release" => Some(Order::Release),
        "retry" => Some(Order::Retry),
        "delete" => Some(Order::Delete),
        _ => None,
    }
}

fn contents(queue: &Queue) -> Result<Contents> {
    let (mut all, mut more): (Vec<Found>, bool) = (Vec::new(), false);
    for shard in 0..SHARDS {
        let (found, rest) = queue.list(shard, None, SHARD_ENTRIES)?;
        all.extend(found);
        more |= rest;
    }
    all.sort_by_key(|found| found.place.due());
    let now = now_s();
    let oldest = all.iter().map(|found| found.entry.queued).min();
    Ok(Contents {
        length: all.len(),
        more,
        oldest: oldest.map_or_else(|| "–".into(), |queued| age(now, queued)),
        domains: domains(&all),
        messages: all.iter().take(SHOWN).map(|found| line(found, now)).collect(),
    })
}

fn domains(all: &[Found]) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let open = all.iter().flat_map(|found| &found.entry.recipients).filter(|r| r.is_open());
    open.for_each(|r| *counts.entry(r.address.domain().to_string()).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.truncate(SHOWN);
    counts
}

fn line(found: &Found, now: u64) -> Line {
    let entry = &found.entry;
    let waiting = entry.recipients.iter().filter(|r| r.is_open()).map(|recipient| {
        let said = recipient.answer.as_ref().map(ToString::to_string).unwrap_or_default();
        (recipient.address.to_string(), said)
    });
    Line {
        place: found.place.to_string(),
        sender: entry.sender.as_ref().map_or_else(|| "<>".into(), ToString::to_string),
        size: size(entry.size),
        age: age(now, entry.queued),
        state: state(found, now),
        held: entry.held.is_some(),
        waiting: waiting.take(SHOWN).collect(),
    }
}

fn state(found: &Found, now: u64) -> String {
    let Entry { held, lease, tries, .. } = &found.entry;
    match (held, lease) {
        (Some(why), _) => format!("held: {why}"),
        (None, Some(lease)) => format!("in the hands of {}", lease.node),
        (None, None) => {
            let left = (found.place.due() / 1000).saturating_sub(now);
            format!("{tries} tries, the next in {left} s")
        }
    }
}

/// How long ago, for people.
fn age(now: u64, queued_ms: u64) -> String {
    match now.saturating_sub(queued_ms / 1000) {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s @ 7200..172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let said = [0, 119, 120, 7199, 7200, 172_800].map(|s| age(s, 0));
        assert_eq!(said, ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
    }
}
