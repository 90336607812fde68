//! Requests, as they are written on the wire.

use super::command::{Command, Op, Options, Request, Scan};
use super::word::LineBuilder;

impl Op {
    /// Writes the op as a line with its bytes; `options` are appended to the line. Only for the ops that
    /// have a line of their own; the others travel between nodes as [`super::entry`] encodes them.
    fn write(&self, out: &mut Vec<u8>, options: &Options) {
        let (line, first, second): (LineBuilder, &[u8], &[u8]) = match self {
            Op::Put { row, column, value, if_version, ttl } => {
                let line = LineBuilder::new("PUT").word(row).word(column).plain(value.len());
                (line.option_if("if", *if_version).option_if("ttl", *ttl), value, &[])
            }
            Op::Cput { row, column, old, new, ttl } => {
                let line = LineBuilder::new("CPUT")
                    .word(row)
                    .word(column)
                    .plain(old.len())
                    .plain(new.len());
                (line.option_if("ttl", *ttl), old, new)
            }
            Op::Delete { row, column, if_version } => (
                LineBuilder::new("DELETE").word(row).word(column).option_if("if", *if_version),
                &[],
                &[],
            ),
            Op::DeleteRow { row } => (LineBuilder::new("DELETEROW").word(row), &[], &[]),
            Op::Add { row, column, delta, max } => {
                let line = LineBuilder::new("ADD").word(row).word(column).plain(delta);
                (line.option_if("max", *max), &[], &[])
            }
            Op::Append { row, prefix, value } => {
                (LineBuilder::new("APPEND").word(row).word(prefix).plain(value.len()), value, &[])
            }
            Op::Commit { row, column, id, length, if_version, ttl, .. } => {
                let line =
                    LineBuilder::new("COMMIT").word(row).word(column).plain(id).plain(length);
                (line.option_if("if", *if_version).option_if("ttl", *ttl), &[], &[])
            }
            Op::Abandon { row, id } => (LineBuilder::new("ABANDON").word(row).plain(id), &[], &[]),
            Op::Stage { .. }
            | Op::Chunk { .. }
            | Op::DropChunks { .. }
            | Op::Forget { .. }
            | Op::Expire => {
                unreachable!("travels between nodes as an encoded op")
            }
        };
        out.extend(with_options(line, options).build());
        out.extend_from_slice(first);
        out.extend_from_slice(second);
        if !first.is_empty() || !second.is_empty() {
            out.push(b'\n');
        }
    }
}

impl Request {
    /// The request as it goes over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut payload: &[u8] = &[];
        let line = match &self.command {
            Command::Write(op) => {
                op.write(&mut out, &self.options);
                return out;
            }
            Command::Batch { owner, items } => {
                let line = LineBuilder::new("BATCH").word(owner).plain(items.len());
                out.extend(with_options(line, &self.options).build());
                items.iter().for_each(|item| item.write(&mut out, &Options::default()));
                return out;
            }
            Command::Get { row, column, offset, length, if_version, local } => {
                LineBuilder::new("GET")
                    .word(row)
                    .word(column)
                    .option_if("offset", (*offset > 0).then_some(offset))
                    .option_if("length", *length)
                    .option_if("if", *if_version)
                    .option_if("local", local.then_some(1))
            }
            Command::Stage { row, id } => LineBuilder::new("STAGE").word(row).option_if("id", *id),
            Command::Chunk { row, id, offset, value } => {
                payload = value;
                LineBuilder::new("CHUNK").word(row).plain(id).plain(offset).plain(value.len())
            }
            Command::Staged { row, id } => LineBuilder::new("STAGED").word(row).plain(id),
            Command::Scan(scan) => scan.line(),
            Command::Rows { prefix, after, limit } => {
                page(LineBuilder::new("ROWS"), prefix, after, *limit)
            }
            Command::Where { owner } => LineBuilder::new("WHERE").word(owner),
            Command::Nodes => LineBuilder::new("NODES"),
            Command::Suspect { node } => LineBuilder::new("SUSPECT").word(node),
            Command::Shutdown { node, force } => {
                LineBuilder::new("SHUTDOWN").word(node).option_if("force", force.then_some(1))
            }
            Command::Wakeup { node } => LineBuilder::new("WAKEUP").word(node),
            Command::Auth(words) => {
                words.iter().fold(LineBuilder::new("AUTH"), |line, w| line.word(w))
            }
            Command::Status => LineBuilder::new("STATUS"),
            Command::Ping => LineBuilder::new("PING"),
            Command::Help => LineBuilder::new("HELP"),
            Command::Quit => LineBuilder::new("QUIT"),
            Command::Peer(peer) => {
                payload = &peer.payload;
                let line =
                    peer.words.iter().fold(LineBuilder::new(&peer.verb), |line, w| line.word(w));
                line.plain(payload.len())
            }
        };
        out.extend(with_options(line, &self.options).build());
        out.extend_from_slice(payload);
        if !payload.is_empty() {
            out.push(b'\n');
        }
        out
    }
}

impl Scan {
    fn line(&self) -> LineBuilder {
        page(LineBuilder::new("SCAN").word(&self.row), &self.prefix, &self.after, self.limit)
            .option_if("reverse", self.reverse.then_some(1))
            .option_if("values", self.values.then_some(1))
            .option_if("local", self.local.then_some(1))
    }
}

fn page(line: LineBuilder, prefix: &[u8], after: &Option<Vec<u8>>, limit: usize) -> LineBuilder {
    let line = if prefix.is_empty() { line } else { line.option("prefix", prefix) };
    let line = match after {
        Some(after) => line.option("after", after),
        None => line,
    };
    line.option("limit", limit.to_string())
}

fn with_options(line: LineBuilder, options: &Options) -> LineBuilder {
    let line = match &options.session {
        Some(id) => line
            .option("client", format!("{:032x}", id.client))
            .option("req", id.request.to_string())
            .option("low", id.low.to_string()),
        None => line,
    };
    line.option_if("retry", options.retry.then_some(1)).option_if("deadline", options.deadline_ms)
}
