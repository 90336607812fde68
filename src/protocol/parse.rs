//! Requests, as they are read off a line.

use super::cell::{NAME_BYTES_MAX, ValueId, parse_hex128};
use super::command::{
    Command, LIMIT_DEFAULT, LIMIT_MAX, Op, Options, Payload, Peer, Request, RequestId, Scan,
};
use super::word::Line;
use crate::error::{Error, Result};

/// Parses a command's line (without its end). Values are empty until [`Request::fill`].
pub fn parse(line: &[u8]) -> Result<(Request, Payload)> {
    let mut line = Line::parse(line)?;
    let verb = line.text("verb")?;
    let (command, payload) = parse_command(&verb, &mut line)?;
    let options = parse_options(&mut line)?;
    line.end()?;
    Ok((Request { command, options }, payload))
}

/// Parses the line of a BATCH item.
pub fn parse_item(line: &[u8]) -> Result<(Op, Payload)> {
    let mut line = Line::parse(line)?;
    let verb = line.text("verb")?;
    let (op, payload) = parse_op(&verb, &mut line)?
        .ok_or_else(|| Error::bad(format!("{verb:?} cannot be an item of a BATCH")))?;
    line.end()?;
    Ok((op, payload))
}

fn parse_command(verb: &str, line: &mut Line) -> Result<(Command, Payload)> {
    if let Some((op, payload)) = parse_op(verb, line)? {
        return Ok((Command::Write(op), payload));
    }
    if verb.starts_with('@') {
        return parse_peer(verb, line);
    }
    let command = match verb {
        "GET" => Command::Get {
            row: parse_name(line, "row")?,
            column: parse_name(line, "column")?,
            offset: line.option_number("offset")?.unwrap_or(0),
            length: line.option_number("length")?,
            if_version: line.option_number("if")?,
            local: line.flag("local")?,
        },
        "BATCH" => {
            let owner = parse_name(line, "owner")?;
            let n: usize = line.number("n")?;
            return Ok((Command::Batch { owner, items: Vec::new() }, Payload::Items(n)));
        }
        "STAGE" => Command::Stage {
            row: parse_name(line, "row")?,
            id: line.option("id").map(|id| ValueId::parse(&id)).transpose()?,
        },
        "CHUNK" => {
            let (row, id) = (parse_name(line, "row")?, ValueId::parse(&line.word("id")?)?);
            let offset = line.number("offset")?;
            let payload = Payload::One(line.number("len")?);
            return Ok((Command::Chunk { row, id, offset, value: Vec::new() }, payload));
        }
        "STAGED" => Command::Staged {
            row: parse_name(line, "row")?,
            id: ValueId::parse(&line.word("id")?)?,
        },
        "ABANDON" => Command::Write(Op::Abandon {
            row: parse_name(line, "row")?,
            id: ValueId::parse(&line.word("id")?)?,
        }),
        "SCAN" => Command::Scan(Scan {
            row: parse_name(line, "row")?,
            prefix: line.option("prefix").unwrap_or_default(),
            after: line.option("after"),
            limit: parse_limit(line)?,
            reverse: line.flag("reverse")?,
            values: line.flag("values")?,
            local: line.flag("local")?,
        }),
        "ROWS" => Command::Rows {
            prefix: line.option("prefix").unwrap_or_default(),
            after: line.option("after"),
            limit: parse_limit(line)?,
        },
        "WHERE" => Command::Where { owner: parse_name(line, "owner")? },
        "NODES" => Command::Nodes,
        "SUSPECT" => Command::Suspect { node: line.text("node")? },
        "SHUTDOWN" => Command::Shutdown { node: line.text("node")?, force: line.flag("force")? },
        "WAKEUP" => Command::Wakeup { node: line.text("node")? },
        "AUTH" => {
            let words = (0..line.words_left()).map(|_| line.word("word")).collect::<Result<_>>()?;
            Command::Auth(words)
        }
        "STATUS" => Command::Status,
        "PING" => Command::Ping,
        "HELP" => Command::Help,
        "QUIT" => Command::Quit,
        _ => {
            return Err(Error::bad(format!(
                "unknown verb {}; HELP lists them",
                super::word::display(verb.as_bytes())
            )));
        }
    };
    Ok((command, Payload::None))
}

fn parse_peer(verb: &str, line: &mut Line) -> Result<(Command, Payload)> {
    let n = line.words_left();
    if n == 0 {
        return Err(Error::bad("<len> is missing"));
    }
    let words = (1..n).map(|_| line.word("word")).collect::<Result<_>>()?;
    let payload = Payload::One(line.number("len")?);
    Ok((Command::Peer(Peer { verb: verb.into(), words, payload: Vec::new() }), payload))
}

fn parse_op(verb: &str, line: &mut Line) -> Result<Option<(Op, Payload)>> {
    Ok(Some(match verb {
        "PUT" => {
            let (row, column) = (parse_name(line, "row")?, parse_name(line, "column")?);
            let payload = Payload::One(line.number("len")?);
            let (if_version, ttl) = (line.option_number("if")?, line.option_number("ttl")?);
            (Op::Put { row, column, value: Vec::new(), if_version, ttl }, payload)
        }
        "CPUT" => {
            let (row, column) = (parse_name(line, "row")?, parse_name(line, "column")?);
            let payload = Payload::Two(line.number("len1")?, line.number("len2")?);
            let ttl = line.option_number("ttl")?;
            (Op::Cput { row, column, old: Vec::new(), new: Vec::new(), ttl }, payload)
        }
        "DELETE" => {
            let (row, column) = (parse_name(line, "row")?, parse_name(line, "column")?);
            (Op::Delete { row, column, if_version: line.option_number("if")? }, Payload::None)
        }
        "DELETEROW" => (Op::DeleteRow { row: parse_name(line, "row")? }, Payload::None),
        "ADD" => {
            let (row, column) = (parse_name(line, "row")?, parse_name(line, "column")?);
            let (delta, max) = (line.number("delta")?, line.option_number("max")?);
            (Op::Add { row, column, delta, max }, Payload::None)
        }
        "APPEND" => {
            let (row, prefix) = (parse_name(line, "row")?, line.name("prefix")?);
            if prefix.len() > NAME_BYTES_MAX - 12 {
                return Err(Error::bad("<prefix> is too long"));
            }
            let payload = Payload::One(line.number("len")?);
            (Op::Append { row, prefix, value: Vec::new() }, payload)
        }
        "COMMIT" => {
            let (row, column) = (parse_name(line, "row")?, parse_name(line, "column")?);
            let (id, length) = (ValueId::parse(&line.word("id")?)?, line.number("length")?);
            let (if_version, ttl) = (line.option_number("if")?, line.option_number("ttl")?);
            (Op::Commit { row, column, id, length, if_version, ttl, head: None }, Payload::None)
        }
        _ => return Ok(None),
    }))
}

fn parse_name(line: &mut Line, name: &str) -> Result<Vec<u8>> {
    let word = line.name(name)?;
    if word.len() > NAME_BYTES_MAX {
        return Err(Error::bad(format!("<{name}> is longer than {NAME_BYTES_MAX} bytes")));
    }
    Ok(word)
}

fn parse_limit(line: &mut Line) -> Result<usize> {
    let limit = line.option_number("limit")?.unwrap_or(LIMIT_DEFAULT);
    if (1..=LIMIT_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(Error::bad(format!("limit lies between 1 and {LIMIT_MAX}")))
    }
}

fn parse_options(line: &mut Line) -> Result<Options> {
    let client = line.option("client").map(|word| {
        parse_hex128(&word).ok_or_else(|| Error::bad("client must be 32 hexadecimal digits"))
    });
    let (request, low) = (line.option_number("req")?, line.option_number("low")?);
    let session = match (client.transpose()?, request) {
        (Some(client), Some(request)) => {
            Some(RequestId { client, request, low: low.unwrap_or(0).min(request) })
        }
        (None, None) => None,
        _ => return Err(Error::bad("client and req come together")),
    };
    Ok(Options {
        session,
        retry: line.flag("retry")?,
        deadline_ms: line.option_number("deadline")?,
    })
}
