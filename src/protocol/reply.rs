//! Answers, and how each is written on the wire.

use super::cell::Bytes;
use super::entry::Answer;
use super::word::{Line, LineBuilder};
use crate::error::{Error, Result};

/// An answer. Bytes of a VALUE follow on the wire, apart, so that they can be streamed.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Done; what follows depends on the request.
    Ok(Vec<Vec<u8>>),
    /// A value, or a part of it: `len` bytes and one LF follow on the wire.
    Value {
        /// Version of the cell.
        version: u64,
        /// Bytes that follow.
        len: u64,
        /// Bytes of the whole value.
        total: u64,
    },
    /// No such cell.
    NotFound,
    /// The condition does not hold.
    Mismatch {
        /// The cell's version; 0: no such cell.
        version: u64,
        /// Which item of the BATCH.
        at: Option<usize>,
    },
    /// Columns of a row.
    Columns {
        /// The columns.
        columns: Vec<Column>,
        /// Whether more follow after the last one.
        more: bool,
    },
    /// Rows of a node.
    Rows {
        /// The rows.
        rows: Vec<Row>,
        /// Whether more follow after the last one.
        more: bool,
    },
    /// The group of an owner.
    Group {
        /// Name of the group.
        name: String,
        /// Name and address of each node, those alive first.
        nodes: Vec<(String, String)>,
    },
    /// A step of the handshake.
    Auth(Vec<Vec<u8>>),
    /// Answer to PING.
    Pong,
    /// Lines for people, ended by an empty line.
    Text(String),
    /// Answer to a message between PennCloud's own processes.
    Peer {
        /// Words before the length.
        words: Vec<Vec<u8>>,
        /// The bytes.
        payload: Vec<u8>,
    },
    /// Refused.
    Error(Error),
}

/// A column in the answer to SCAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: Vec<u8>,
    /// Version of the cell.
    pub version: u64,
    /// Length of the value.
    pub len: u64,
    /// Whether it is a big value, which has no bytes here.
    pub big: bool,
    /// The value, if it was asked for.
    pub value: Option<Bytes>,
}

/// A row in the answer to ROWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: Vec<u8>,
    /// How many cells it has.
    pub cells: u64,
    /// Bytes of its values.
    pub bytes: u64,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        let version = answer.version.to_string().into_bytes();
        Reply::Ok(std::iter::once(version).chain(answer.words.iter().map(|w| w.to_vec())).collect())
    }
}

impl Answer {
    /// What is remembered of a refusal.
    pub fn refused(why: &Reply) -> Answer {
        let mut line = Vec::new();
        why.write(&mut line);
        let line = line.trim_ascii_end();
        Answer { version: 0, words: vec![line.into()] }
    }

    /// The refusal, if it is one.
    pub fn refusal(&self) -> Option<Reply> {
        if self.version > 0 {
            return None;
        }
        match parse(self.words.first()?) {
            Ok(Head::Whole(reply)) => Some(reply),
            _ => None,
        }
    }
}

impl Reply {
    /// `OK` and one thing.
    pub fn ok(value: impl std::fmt::Display) -> Reply {
        Reply::Ok(vec![value.to_string().into_bytes()])
    }

    /// Appends the answer as it goes over the wire; of a VALUE, the line alone.
    pub fn write(&self, out: &mut Vec<u8>) {
        let line = match self {
            Reply::Ok(words) => words.iter().fold(LineBuilder::new("OK"), |line, w| line.word(w)),
            Reply::Value { version, len, total } => LineBuilder::new("VALUE")
                .plain(version)
                .plain(len)
                .option("total", total.to_string()),
            Reply::NotFound => LineBuilder::new("NOTFOUND"),
            Reply::Mismatch { version, at } => {
                LineBuilder::new("MISMATCH").plain(version).option_if("at", *at)
            }
            Reply::Columns { columns, more } => return write_columns(columns, *more, out),
            Reply::Rows { rows, more } => return write_rows(rows, *more, out),
            Reply::Group { name, nodes } => {
                nodes.iter().fold(LineBuilder::new("GROUP").word(name), |line, (node, address)| {
                    line.word(node).word(address)
                })
            }
            Reply::Auth(words) => {
                words.iter().fold(LineBuilder::new("AUTH"), |line, w| line.word(w))
            }
            Reply::Pong => LineBuilder::new("PONG"),
            Reply::Text(text) => {
                out.extend(text.trim_end().bytes());
                return out.extend(b"\n\n");
            }
            Reply::Peer { words, payload } => {
                let line = words
                    .iter()
                    .fold(LineBuilder::new("@DATA"), |line, w| line.word(w))
                    .plain(payload.len());
                out.extend(line.build());
                out.extend_from_slice(payload);
                return out.push(b'\n');
            }
            Reply::Error(error) => error_line(error),
        };
        out.extend(line.build());
    }
}

fn write_columns(columns: &[Column], more: bool, out: &mut Vec<u8>) {
    out.extend(
        LineBuilder::new("COLUMNS")
            .plain(columns.len())
            .option("more", u8::from(more).to_string())
            .build(),
    );
    for column in columns {
        let line =
            LineBuilder::default().word(&column.name).plain(column.version).plain(column.len);
        let line = line.option_if("big", column.big.then_some(1)).build();
        out.extend(&line[1..]);
        if let Some(value) = &column.value {
            out.extend_from_slice(value);
            out.push(b'\n');
        }
    }
}

fn write_rows(rows: &[Row], more: bool, out: &mut Vec<u8>) {
    out.extend(
        LineBuilder::new("ROWS")
            .plain(rows.len())
            .option("more", u8::from(more).to_string())
            .build(),
    );
    for row in rows {
        out.extend(
            &LineBuilder::default().word(&row.name).plain(row.cells).plain(row.bytes).build()[1..],
        );
    }
}

/// The one place where an [`Error`] becomes a word of the protocol.
fn error_line(error: &Error) -> LineBuilder {
    let (verb, why) = match error {
        Error::Bad(why) | Error::Config(why) => ("BAD", why.as_str()),
        Error::Denied(why) => ("DENIED", why.as_str()),
        Error::TooBig(why) => ("TOOBIG", why.as_str()),
        Error::Retry(why) => ("RETRY", why.as_str()),
        Error::Unknown(why) | Error::Corrupt(why) | Error::Io(_, why) => ("UNKNOWN", why.as_str()),
        Error::NoSpace => ("NOSPACE", ""),
        Error::TabletFull => ("TABLETFULL", ""),
        Error::Quota { used, limit } => {
            return LineBuilder::new("QUOTA").plain(used).option("max", limit.to_string());
        }
    };
    let why: String = why.chars().map(|c| if c.is_control() { '?' } else { c }).take(500).collect();
    if why.is_empty() { LineBuilder::new(verb) } else { LineBuilder::new(verb).plain(why) }
}

/// What an answer's first line says; lists and bytes follow on the wire.
#[derive(Debug)]
pub enum Head {
    /// The answer is whole.
    Whole(Reply),
    /// So many columns follow, with values or not.
    Columns(usize, bool),
    /// So many rows follow.
    Rows(usize, bool),
    /// So many bytes follow, after these words.
    Peer(Vec<Vec<u8>>, u64),
}

/// Parses an answer's first line (without its end).
pub fn parse(line: &[u8]) -> Result<Head> {
    if let Some(error) = parse_error(line) {
        return Ok(Head::Whole(Reply::Error(error)));
    }
    let mut line = Line::parse(line)?;
    let verb = line.text("verb")?;
    let reply = match verb.as_str() {
        "OK" => Reply::Ok(rest(&mut line)?),
        "VALUE" => Reply::Value {
            version: line.number("version")?,
            len: line.number("len")?,
            total: line.option_number("total")?.unwrap_or(0),
        },
        "NOTFOUND" => Reply::NotFound,
        "MISMATCH" => {
            Reply::Mismatch { version: line.number("version")?, at: line.option_number("at")? }
        }
        "QUOTA" => Reply::Error(Error::Quota {
            used: line.number("used")?,
            limit: line.option_number("max")?.ok_or_else(|| Error::corrupt("QUOTA without max"))?,
        }),
        "COLUMNS" => return Ok(Head::Columns(line.number("n")?, line.flag("more")?)),
        "ROWS" => return Ok(Head::Rows(line.number("n")?, line.flag("more")?)),
        "GROUP" => {
            let name = line.text("group")?;
            let nodes =
                (0..line.words_left() / 2).map(|_| Ok((line.text("node")?, line.text("address")?)));
            Reply::Group { name, nodes: nodes.collect::<Result<_>>()? }
        }
        "AUTH" => Reply::Auth(rest(&mut line)?),
        "PONG" => Reply::Pong,
        "@DATA" => {
            let words = (1..line.words_left()).map(|_| line.word("word")).collect::<Result<_>>()?;
            return Ok(Head::Peer(words, line.number("len")?));
        }
        _ => return Err(Error::corrupt(format!("unknown answer {verb:?}"))),
    };
    Ok(Head::Whole(reply))
}

/// Parses the line of a column.
pub fn parse_column(line: &[u8]) -> Result<Column> {
    let mut line = Line::parse(line)?;
    let (name, version, len) = (line.word("column")?, line.number("version")?, line.number("len")?);
    Ok(Column { name, version, len, big: line.flag("big")?, value: None })
}

/// Parses the line of a row.
pub fn parse_row(line: &[u8]) -> Result<Row> {
    let mut line = Line::parse(line)?;
    Ok(Row { name: line.word("row")?, cells: line.number("cells")?, bytes: line.number("bytes")? })
}

fn rest(line: &mut Line) -> Result<Vec<Vec<u8>>> {
    (0..line.words_left()).map(|_| line.word("word")).collect()
}

fn parse_error(line: &[u8]) -> Option<Error> {
    let text = String::from_utf8_lossy(line);
    let (verb, why) = text.split_once(' ').unwrap_or((&text, ""));
    let why = why.to_string();
    Some(match verb {
        "BAD" => Error::Bad(why),
        "DENIED" => Error::Denied(why),
        "TOOBIG" => Error::TooBig(why),
        "RETRY" => Error::Retry(why),
        "UNKNOWN" => Error::Unknown(why),
        "NOSPACE" => Error::NoSpace,
        "TABLETFULL" => Error::TabletFull,
        _ => return None,
    })
}
