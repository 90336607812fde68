//! `put`: a value from the command line, a file or standard input.

use super::arguments::Put;
use super::end::{End, done};
use super::progress::Watched;
use crate::client::{Client, Uploaded, Written};
use crate::error::Result;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Where a value comes from, and its length if that is known.
type Source<'a> = (Box<dyn Read + 'a>, Option<u64>);

pub(super) fn run(store: &Client, put: &Put, max: u64, out: &mut dyn Write) -> Result<(), End> {
    let (from, known) = source(put)?;
    let value = upload(store, put, from, known, max).map_err(End::upload)?;
    let staged = match value {
        Uploaded::Staged { id, .. } => Some(id),
        Uploaded::Inline(_) => None,
    };
    let mut op = value.into_op(put.row.0.as_slice(), put.column.0.as_slice(), put.if_version);
    if let Some(seconds) = put.ttl {
        op = op.with_ttl(seconds);
    }
    let written = store.write(op);
    let is_visible = written.as_ref().map_or_else(|e| !e.is_definite(), is_done);
    if let Some(id) = staged.filter(|_| !is_visible) {
        // If this fails, the store does it when the value's time is over.
        let _ = store.abandon(&put.row.0, id);
    }
    let (version, _) = done(written)?;
    writeln!(out, "{version}").map_err(End::output)
}

fn is_done(written: &Written) -> bool {
    matches!(written, Written::Done { .. })
}

fn upload(
    store: &Client,
    put: &Put,
    from: Box<dyn Read + '_>,
    known: Option<u64>,
    max: u64,
) -> Result<Uploaded> {
    let mut from = Watched::new(from, put.length.or(known), true);
    match put.length {
        Some(length) => store.upload(&put.row.0, &mut Exactly { from, length, seen: 0 }, max),
        None => store.upload(&put.row.0, &mut from, max),
    }
}

fn source(put: &Put) -> Result<Source<'_>, End> {
    match (&put.file, &put.value) {
        (Some(path), _) => file(path),
        (None, Some(value)) if value == OsStr::new("-") => Ok((Box::new(io::stdin().lock()), None)),
        (None, Some(value)) => Ok((Box::new(value.as_bytes()), Some(value.len() as u64))),
        (None, None) => Err(End::usage("no value is given")),
    }
}

/// What is no regular file has no length before it ends.
fn file(path: &Path) -> Result<Source<'static>, End> {
    let cannot = |e| End::usage(format!("cannot read {}: {e}", path.display()));
    let file = File::open(path).map_err(cannot)?;
    let about = file.metadata().map_err(cannot)?;
    if about.is_dir() {
        return Err(End::usage(format!("{} is a directory", path.display())));
    }
    let length = about.is_file().then_some(about.len());
    Ok((Box::new(file), length))
}

/// A reader that fails unless exactly so many bytes come.
struct Exactly<R> {
    from: R,
    length: u64,
    seen: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.seen += n as u64;
        let is_end = n == 0 && !buffer.is_empty();
        if self.seen > self.length || (is_end && self.seen < self.length) {
            let how = if is_end { "ended after" } else { "has at least" };
            let (seen, length) = (self.seen, self.length);
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the value {how} {seen} bytes, not {length}"),
            ));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_or_more_bytes_than_announced_are_an_error() {
        let read = |length| {
            let mut value = Vec::new();
            let from = &b"12345"[..];
            Exactly { from, length, seen: 0 }.read_to_end(&mut value).map(|_| value)
        };
        assert_eq!(read(5).unwrap(), b"12345");
        let why = |length| read(length).unwrap_err().to_string();
        assert_eq!(why(6), "the value ended after 5 bytes, not 6");
        assert_eq!(why(4), "the value has at least 5 bytes, not 4");
    }
}
