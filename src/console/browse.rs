//! Raw rows, columns and values, as the asked backend itself holds them.
//!
//! Names are bytes. In addresses and fields they are words of the text protocol: `%XX` for what is not
//! printable ASCII, so every name can be typed and shown.

use super::app::Visit;
use super::gather::routes;
use super::page::{Shell, problem, render, size};
use super::value::{self, Shape};
use crate::config::Backend;
use crate::error::{Error, Result};
use crate::http::{Request, Response};
use crate::protocol::command::{Command, Scan};
use crate::protocol::reply::{Column, Reply};
use crate::protocol::word;
use askama::Template;
use std::io::Read;

/// Rows or columns on a page.
const PAGE: usize = 50;

#[derive(Template)]
#[template(path = "console/nodes.html")]
struct Nodes<'a> {
    shell: Shell,
    groups: Vec<(&'a str, &'a [Backend])>,
}

/// The choice of a backend; or straight to the one that serves a row.
pub(super) fn nodes(visit: &Visit, request: &mut Request<'_>) -> Result<Response> {
    if let Some(row) = named(request, "row")? {
        let node = server_of(visit, &row)?;
        return Ok(Response::redirect(&link(
            &format!("/kv/{node}/row"),
            &[("row", word_of(&row).as_bytes())],
        )));
    }
    let groups = visit.app.config.groups.iter().map(|g| (g.name.as_str(), &*g.backends));
    render(200, &Nodes { shell: visit.shell("Data", "data"), groups: groups.collect() })
}

/// The backend that serves a row.
fn server_of(visit: &Visit, row: &[u8]) -> Result<String> {
    let routes = routes(&visit.app)?;
    let tablet = routes.tablet_of_row(row)?;
    let primary = tablet.primary.clone();
    primary.ok_or_else(|| Error::retry(format!("tablet {} has no primary now", tablet.id)))
}

/// A line of a list: a name, what is said of it, and where it leads.
struct Line {
    name: String,
    facts: [String; 2],
    href: String,
    preview: Option<String>,
}

#[derive(Template)]
#[template(path = "console/rows.html")]
struct Rows {
    shell: Shell,
    node: String,
    prefix: String,
    lines: Result<Vec<Line>>,
    next: Option<String>,
}

/// One page of a backend's rows.
pub(super) fn rows(visit: &Visit, request: &mut Request<'_>) -> Result<Response> {
    let Some(node) = node_of(visit, request) else { return Ok(no_node(visit, request)) };
    let prefix = request.query("prefix").unwrap_or_default().to_string();
    let found = page_of_rows(visit, address_of(visit, node), request);
    let base = format!("/kv/{}", node.name);
    let (lines, next) = match found {
        Ok((rows, more)) => {
            let next = rows.last().filter(|_| more).map(|last| {
                link(
                    &base,
                    &[("prefix", prefix.as_bytes()), ("after", word_of(&last.name).as_bytes())],
                )
            });
            (Ok(rows.into_iter().map(|row| row_line(&base, row)).collect()), next)
        }
        Err(error) => (Err(error), None),
    };
    let shell = visit.shell("Rows", "data");
    render(200, &Rows { shell, node: node.name.clone(), prefix, lines, next })
}

type PageOf<T> = Result<(Vec<T>, bool)>;

fn page_of_rows(
    visit: &Visit,
    address: &str,
    request: &Request<'_>,
) -> PageOf<crate::protocol::reply::Row> {
    let prefix = named(request, "prefix")?.unwrap_or_default();
    let after = named(request, "after")?;
    visit.app.client.rows_of(address, &prefix, after.as_deref(), PAGE)
}

fn row_line(base: &str, row: crate::protocol::reply::Row) -> Line {
    let name = word_of(&row.name);
    Line {
        href: link(&format!("{base}/row"), &[("row", name.as_bytes())]),
        facts: [row.cells.to_string(), size(row.bytes)],
        preview: None,
        name,
    }
}

#[derive(Template)]
#[template(path = "console/columns.html")]
struct Columns {
    shell: Shell,
    node: String,
    row: String,
    prefix: String,
    lines: Result<Vec<Line>>,
    next: Option<String>,
}

/// One page of a row's columns.
pub(super) fn columns(visit: &Visit, request: &mut Request<'_>) -> Result<Response> {
    let Some(node) = node_of(visit, request) else { return Ok(no_node(visit, request)) };
    let row = required(request, "row")?;
    let prefix = request.query("prefix").unwrap_or_default().to_string();
    let scan = Scan {
        row: row.clone(),
        prefix: named(request, "prefix")?.unwrap_or_default(),
        after: named(request, "after")?,
        limit: PAGE,
        ..Scan::default()
    };
    let base = format!("/kv/{}", node.name);
    let (lines, next) = match scan_at(visit, address_of(visit, node), scan) {
        Ok((columns, more)) => {
            let next = columns.last().filter(|_| more).map(|last| {
                let after = word_of(&last.name);
                let row = word_of(&row);
                let words = [("row", &row), ("prefix", &prefix), ("after", &after)];
                link(&format!("{base}/row"), &words.map(|(n, v)| (n, v.as_bytes())))
            });
            (Ok(columns.iter().map(|c| column_line(&base, &row, c)).collect()), next)
        }
        Err(error) => (Err(error), None),
    };
    let (shell, row) = (visit.shell("Columns", "data"), word_of(&row));
    render(200, &Columns { shell, node: node.name.clone(), row, prefix, lines, next })
}

/// One page of columns, with values, from the backend's own copy.
fn scan_at(visit: &Visit, address: &str, scan: Scan) -> PageOf<Column> {
    let scan = Scan { values: true, local: true, ..scan };
    match visit.app.client.call_at(address, Command::Scan(scan))? {
        Reply::Columns { columns, more } => Ok((columns, more)),
        other => Err(Error::corrupt(format!("a strange answer: {other:?}"))),
    }
}

fn column_line(base: &str, row: &[u8], column: &Column) -> Line {
    let name = word_of(&column.name);
    let words = [("row", word_of(row)), ("column", name.clone())];
    let words = words.each_ref().map(|(n, v)| (*n, v.as_bytes()));
    let preview = match (&column.value, value::is_private(row, &column.name)) {
        (_, true) => Some("hidden".into()),
        (Some(bytes), false) => Some(value::preview(bytes)),
        (None, false) => Some("a big value".into()),
    };
    Line {
        href: link(&format!("{base}/cell"), &words),
        facts: [column.version.to_string(), size(column.len)],
        preview,
        name,
    }
}

#[derive(Template)]
#[template(path = "console/cell.html")]
struct Cell {
    shell: Shell,
    node: String,
    row: String,
    column: String,
    row_href: String,
    version: u64,
    length: String,
    big: bool,
    shown: Option<value::Shown>,
    as_text: String,
    as_hex: String,
}

/// One value.
pub(super) fn cell(visit: &Visit, request: &mut Request<'_>) -> Result<Response> {
    let Some(node) = node_of(visit, request) else { return Ok(no_node(visit, request)) };
    let (row, name) = (required(request, "row")?, required(request, "column")?);
    let Some(column) = find(visit, address_of(visit, node), &row, &name)? else {
        return Err(Error::bad(format!("{} holds no such cell", node.name)));
    };
    let shown = match value::is_private(&row, &name) {
        true => None,
        false => {
            let shape = Shape::parse(request.query("as"));
            Some(value::show(&first_bytes(visit, &row, &name, &column)?, column.len, shape))
        }
    };
    let base = format!("/kv/{}", node.name);
    let (row, name) = (word_of(&row), word_of(&name));
    let as_shape = |shape: &str| {
        let words = [("row", row.as_str()), ("column", &name), ("as", shape)];
        link(&format!("{base}/cell"), &words.map(|(n, v)| (n, v.as_bytes())))
    };
    let page = Cell {
        shell: visit.shell("Value", "data"),
        node: node.name.clone(),
        row_href: link(&format!("{base}/row"), &[("row", row.as_bytes())]),
        as_text: as_shape("text"),
        as_hex: as_shape("hex"),
        version: column.version,
        length: size(column.len),
        big: column.big,
        shown,
        row,
        column: name,
    };
    render(200, &page)
}

/// A column of a row, by its whole name.
fn find(visit: &Visit, address: &str, row: &[u8], name: &[u8]) -> Result<Option<Column>> {
    let scan = Scan { row: row.into(), prefix: name.into(), limit: 1, ..Scan::default() };
    let (columns, _) = scan_at(visit, address, scan)?;
    Ok(columns.into_iter().find(|c| c.name == name))
}

/// The first bytes of a value. Those of a big one lie in other tablets: the cluster is asked for them.
fn first_bytes(visit: &Visit, row: &[u8], name: &[u8], column: &Column) -> Result<Vec<u8>> {
    if let Some(bytes) = &column.value {
        return Ok(bytes[..bytes.len().min(value::BYTES_MAX)].to_vec());
    }
    let reader = visit.app.client.open(row, name, 0, Some(value::BYTES_MAX as u64))?;
    let mut bytes = Vec::new();
    if let Some(reader) = reader {
        reader.take(value::BYTES_MAX as u64).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn node_of<'a>(visit: &'a Visit, request: &Request<'_>) -> Option<&'a Backend> {
    let name = request.param("node");
    visit.app.config.backends().find(|b| b.name == name)
}

/// Where the console reaches a node.
fn address_of<'a>(visit: &'a Visit, node: &'a Backend) -> &'a str {
    visit.app.config.via(&node.name, &node.address)
}

fn no_node(visit: &Visit, request: &Request<'_>) -> Response {
    let why = "The configuration names no storage node of this name.";
    problem(visit.shell("Data", "data"), 404, why, request.id)
}

/// A name in the query, as bytes; empty counts as absent.
fn named(request: &Request<'_>, name: &str) -> Result<Option<Vec<u8>>> {
    let typed = request.query(name).unwrap_or_default().trim();
    if typed.is_empty() { Ok(None) } else { word::unescape(typed.as_bytes()).map(Some) }
}

fn required(request: &Request<'_>, name: &str) -> Result<Vec<u8>> {
    named(request, name)?.ok_or_else(|| Error::bad(format!("the address lacks {name}=")))
}

/// A name as a word of printable ASCII.
fn word_of(name: &[u8]) -> String {
    let printable = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'%' | b'=');
    let written =
        |b: &u8| if printable(b) { char::from(*b).to_string() } else { format!("%{b:02X}") };
    name.iter().map(written).collect()
}

fn link(path: &str, query: &[(&str, &[u8])]) -> String {
    let mut written = form_urlencoded::Serializer::new(String::new());
    for (name, value) in query.iter().filter(|(_, v)| !v.is_empty()) {
        written.append_pair(name, &String::from_utf8_lossy(value));
    }
    format!("{path}?{}", written.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_survives_its_address() {
        for name in [&b"alice/mail"[..], b"a b%=c", b"\0\xff\n", "grün".as_bytes(), b"<script>"] {
            let word = word_of(name);
            assert!(word.bytes().all(|b| b.is_ascii_graphic()));
            assert_eq!(word::unescape(word.as_bytes()).unwrap(), name);
        }
        assert_eq!(word_of("~console/ü".as_bytes()), "~console/%C3%BC");
    }

    #[test]
    fn links_carry_words() {
        let link = link("/kv/a1/row", &[("row", b"a%20b"), ("prefix", b"")]);
        assert_eq!(link, "/kv/a1/row?row=a%2520b");
    }
}
