//! `get`: a value to standard output or to a file.

use super::BUFFER_BYTES;
use super::arguments::Get;
use super::end::End;
use super::progress::Watched;
use crate::client::{Client, ValueReader};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

pub(super) fn run(store: &Client, get: &Get, out: &mut dyn Write) -> Result<(), End> {
    let found = store.open(&get.row.0, &get.column.0, get.offset, get.length).map_err(End::read)?;
    let value = found.ok_or(End::NotFound)?;
    let version = value.version;
    match &get.output {
        Some(path) => to_file(watched(value, true), path)?,
        None => to_output(value, out)?,
    }
    if get.version {
        eprintln!("version {version}");
    }
    Ok(())
}

fn watched(value: ValueReader, elsewhere: bool) -> Watched<ValueReader> {
    let len = value.len;
    Watched::new(value, Some(len), elsewhere)
}

/// The bytes as they are; a terminal gets a line end after them.
fn to_output(value: ValueReader, out: &mut dyn Write) -> Result<(), End> {
    let is_terminal = io::stdout().is_terminal();
    let last = copy(&mut watched(value, !is_terminal), out)?;
    if is_terminal && last.is_some_and(|byte| byte != b'\n') {
        out.write_all(b"\n").map_err(End::output)?;
    }
    out.flush().map_err(End::output)
}

/// To a file of another name, which takes its name when it is whole. A device or a pipe is written as it is.
fn to_file(mut value: Watched<ValueReader>, path: &Path) -> Result<(), End> {
    let cannot =
        |path: &Path, e: io::Error| End::usage(format!("cannot write {}: {e}", path.display()));
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let mut file = OpenOptions::new().write(true).open(path).map_err(|e| cannot(path, e))?;
        return copy(&mut value, &mut file).map(drop);
    }
    let part = part_of(path);
    let file = File::create(&part).map_err(|e| cannot(&part, e))?;
    let whole = fill(&mut value, file).and_then(|()| fs::rename(&part, path).map_err(End::output));
    if whole.is_err() {
        let _ = fs::remove_file(&part);
    }
    whole
}

/// `FILE.part`.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn fill(value: &mut dyn Read, mut file: File) -> Result<(), End> {
    copy(value, &mut file)?;
    file.sync_all().map_err(End::output)
}

/// Copies all bytes; the last one.
fn copy(from: &mut dyn Read, to: &mut dyn Write) -> Result<Option<u8>, End> {
    let (mut buffer, mut last) = (vec![0; BUFFER_BYTES], None);
    loop {
        match from.read(&mut buffer).map_err(|e| End::read(e.into()))? {
            0 => return Ok(last),
            n => {
                to.write_all(&buffer[..n]).map_err(End::output)?;
                last = Some(buffer[n - 1]);
            }
        }
    }
}
