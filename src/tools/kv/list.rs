//! `scan` and `rows`: lists, page after page, one line each.

use super::arguments::{Rows, Scan};
use super::end::End;
use super::name::{Name, shown};
use super::status;
use crate::client::{self, Client, Column, LIMIT_MAX, Row};
use crate::config::{Config, Group};
use crate::error::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use std::io::Write;

/// Lists the columns of a row.
pub(super) fn scan(store: &Client, scan: &Scan, out: &mut dyn Write) -> Result<(), End> {
    let print = if scan.json { column_json } else { column_line };
    let page = |after: Option<&Column>, limit| {
        let after = after.map(|last| last.name.clone()).or_else(|| bytes(&scan.after));
        store.scan(client::Scan {
            row: scan.row.0.clone(),
            prefix: bytes(&scan.prefix).unwrap_or_default(),
            after,
            limit,
            reverse: scan.reverse,
            values: scan.values,
            ..client::Scan::default()
        })
    };
    pages(scan.limit, page, |column| print(column, out))
}

/// Lists the rows of one node; or of a node of each group that answers.
pub(super) fn rows(
    store: &Client,
    config: &Config,
    node: Option<&str>,
    rows: &Rows,
    out: &mut dyn Write,
) -> Result<(), End> {
    if let Some(node) = node {
        return rows_of(store, &status::backend(config, node)?, rows, out);
    }
    let answering = config.groups.iter().map(|group| a_node_of(store, config, group));
    let addresses = answering.collect::<Result<Vec<_>, End>>()?;
    addresses.iter().try_for_each(|address| rows_of(store, address, rows, out))
}

/// A node of a group that answers.
fn a_node_of(store: &Client, config: &Config, group: &Group) -> Result<String, End> {
    let mut last = End::Failed(format!("group {} has no node", group.name));
    for node in &group.backends {
        let address = config.via(&node.name, &node.address);
        match store.rows_of(address, b"", None, 1) {
            Ok(_) => return Ok(address.into()),
            Err(error) => last = End::read(error),
        }
    }
    Err(last)
}

fn rows_of(store: &Client, address: &str, rows: &Rows, out: &mut dyn Write) -> Result<(), End> {
    let print = if rows.json { row_json } else { row_line };
    let prefix = bytes(&rows.prefix).unwrap_or_default();
    let page = |after: Option<&Row>, limit| {
        store.rows_of(address, &prefix, after.map(|last| last.name.as_slice()), limit)
    };
    pages(rows.limit, page, |row| print(row, out))
}

/// Goes over pages until the limit, or the end. `page` gives what follows an entry, and whether more do.
fn pages<T>(
    limit: Option<u64>,
    page: impl Fn(Option<&T>, usize) -> Result<(Vec<T>, bool)>,
    mut print: impl FnMut(&T) -> std::io::Result<()>,
) -> Result<(), End> {
    let (mut left, mut last) = (limit.unwrap_or(u64::MAX), None);
    while left > 0 {
        let (entries, more) = page(last.as_ref(), left.min(LIMIT_MAX as u64) as usize)
            .map_err(|error| cut_off(error, last.is_some()))?;
        entries.iter().try_for_each(&mut print).map_err(End::output)?;
        left = left.saturating_sub(entries.len() as u64);
        last = entries.into_iter().next_back();
        if !more || last.is_none() {
            break;
        }
    }
    Ok(())
}

fn cut_off(error: Error, has_begun: bool) -> End {
    match (End::read(error), has_begun) {
        (End::Failed(why), true) => End::Failed(format!("the list is cut off: {why}")),
        (end, _) => end,
    }
}

fn bytes(name: &Option<Name>) -> Option<Vec<u8>> {
    name.as_ref().map(|name| name.0.clone())
}

fn column_line(column: &Column, out: &mut dyn Write) -> std::io::Result<()> {
    write!(out, "{} {} {}", column.version, column.len, shown(&column.name))?;
    match &column.value {
        Some(value) => writeln!(out, " {}", shown(value)),
        None if column.big => writeln!(out, " big=1"),
        None => writeln!(out),
    }
}

fn row_line(row: &Row, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{} {} {}", row.cells, row.bytes, shown(&row.name))
}

/// A column as an object; each text has a place for bytes that are none.
#[derive(Serialize)]
struct ColumnObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column_base64: Option<String>,
    version: u64,
    length: u64,
    big: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// A row as an object.
#[derive(Serialize)]
struct RowObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row_base64: Option<String>,
    cells: u64,
    bytes: u64,
}

/// Bytes as text where they are UTF-8, else in base64.
fn text(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

fn column_json(column: &Column, out: &mut dyn Write) -> std::io::Result<()> {
    let (name, name_base64) = text(&column.name);
    let (value, value_base64) = column.value.as_deref().map_or((None, None), text);
    let object = ColumnObject {
        column: name,
        column_base64: name_base64,
        version: column.version,
        length: column.len,
        big: column.big,
        value,
        value_base64,
    };
    json_line(&object, out)
}

fn row_json(row: &Row, out: &mut dyn Write) -> std::io::Result<()> {
    let (name, name_base64) = text(&row.name);
    let object =
        RowObject { row: name, row_base64: name_base64, cells: row.cells, bytes: row.bytes };
    json_line(&object, out)
}

fn json_line(object: &impl Serialize, out: &mut dyn Write) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, object)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers below `end` in pages of at most three; what was printed.
    fn printed(end: usize, limit: Option<u64>) -> Vec<usize> {
        let page = |after: Option<&usize>, limit: usize| {
            let begin = after.map_or(0, |last| last + 1);
            let next = (begin + limit.min(3)).min(end);
            Ok(((begin..next).collect(), next < end))
        };
        let mut printed = Vec::new();
        pages(limit, page, |n| {
            printed.push(*n);
            Ok(())
        })
        .unwrap();
        printed
    }

    #[test]
    fn pages_follow_one_another_up_to_the_limit() {
        for end in [0, 1, 3, 4, 7] {
            assert_eq!(printed(end, None), (0..end).collect::<Vec<_>>());
            for limit in 0..9 {
                assert_eq!(printed(end, Some(limit)).len(), end.min(limit as usize));
            }
        }
    }

    #[test]
    fn a_list_that_lacks_its_end_says_so() {
        let page = |after: Option<&u8>, _| match after {
            None => Ok((vec![1], true)),
            Some(_) => Err(Error::retry("gone")),
        };
        let end = pages(None, page, |_| Ok(())).unwrap_err();
        assert_eq!(end, End::Failed("the list is cut off: RETRY: gone".into()));
    }

    #[test]
    fn lines_and_objects_hold_any_bytes() {
        let column = |name: &[u8], value: Option<&[u8]>, big| Column {
            name: name.into(),
            version: 7,
            len: 3,
            big,
            value: value.map(Into::into),
        };
        let said = |print: fn(&Column, &mut dyn Write) -> std::io::Result<()>, column: &Column| {
            let mut out = Vec::new();
            print(column, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = column(b"a b", Some(b"x\ny"), false);
        assert_eq!(said(column_line, &text), "7 3 a%20b x%0Ay\n");
        assert_eq!(
            said(column_json, &text),
            "{\"column\":\"a b\",\"version\":7,\"length\":3,\"big\":false,\"value\":\"x\\ny\"}\n"
        );
        let big = column(b"\xff", None, true);
        assert_eq!(said(column_line, &big), "7 3 %FF big=1\n");
        assert_eq!(
            said(column_json, &big),
            "{\"column_base64\":\"/w==\",\"version\":7,\"length\":3,\"big\":true}\n"
        );
    }
}
