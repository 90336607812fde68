//! `penncloud kv`: the store's command line client.
//!
//! Each run is one command, carried out by [`crate::client`]: it finds the node, tries another where one does not
//! answer, and gives a write a name, so that it is executed once however often it is sent. `--node` asks one node
//! alone.
//!
//! * [`arguments`]: what can be typed, and its help. [`name`]: bytes of the command line, and bytes for people.
//! * [`get`], [`put`]: values as streams, in the memory of a few chunks; [`progress`] shows how far they are.
//! * [`change`]: the other writes. [`list`]: SCAN and ROWS, page after page. [`status`]: STATUS of many.
//! * [`end`]: how a command ends when it is not done, and its exit code.
//!
//! # What is promised
//!
//! * Results go to standard output; what went wrong, and progress, to standard error.
//! * Exit code 0 means that all of it was done. A value that was cut off, or a list that lacks its end, is never 0.
//! * `get -o FILE` writes `FILE.part`, and renames it when the value is whole and on the disk.
//! * A `put` is visible whole or not at all. One that is killed leaves staged bytes, which the store removes after
//!   `stage_ms`; one that fails removes them.
//! * A refused or failed write says whether it may have been executed.
//! * Names are printed as words of the text protocol, so each can be typed back.
//!
//! # Caveats
//!
//! * The end of a pipe looks the same whether its writer was done or died: `put --length` says how much must come.
//! * A value that is overwritten or deleted while `get` reads it still comes whole, unless the node that sends it is
//!   lost at that time: then the command fails.
//! * Several pages of a list are not one instant. `rows` asks one node of each group, which may be some milliseconds
//!   behind, and does not ask another for the pages that are left when it is lost.
//! * A `get -o FILE` that is killed leaves `FILE.part`, which the next one writes over; two at the same time write the
//!   same one.
//! * It reads the cluster's configuration and its secret: it runs where a node could run.

pub mod arguments;
mod change;
mod end;
mod get;
mod list;
mod name;
mod progress;
mod put;
mod status;

use crate::client::Client;
use crate::config::Config;
use arguments::{Arguments, Command};
use end::End;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

/// Bytes that are read or written at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Runs one command; its exit code. What went wrong is said on standard error.
pub fn run(arguments: &Arguments) -> i32 {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
    let done = execute(arguments, &mut out);
    match done.and_then(|()| out.flush().map_err(End::output)) {
        Ok(()) => 0,
        Err(end) => {
            // What was found before it went wrong is shown all the same.
            let _ = out.flush();
            if let Some(why) = end.sentence() {
                eprintln!("penncloud kv: {why}");
            }
            end.code()
        }
    }
}

fn execute(arguments: &Arguments, out: &mut dyn Write) -> Result<(), End> {
    let config = Config::load(&arguments.config).map_err(End::usage)?;
    let mut store = Client::new(&config).map_err(End::usage)?;
    if let Some(seconds) = arguments.timeout {
        store = store.with_time_limit(Duration::from_secs(seconds));
    }
    let node = arguments.node.as_deref();
    match &arguments.command {
        Command::Status => return status::run(&store, &config, node, out),
        Command::Rows(rows) => return list::rows(&store, &config, node, rows, out),
        _ => {}
    }
    if let Some(node) = node {
        store = store.through(&status::backend(&config, node)?);
    }
    match &arguments.command {
        Command::Get(get) => get::run(&store, get, out),
        Command::Put(put) => put::run(&store, put, config.store.value_bytes_max, out),
        Command::Scan(scan) => list::scan(&store, scan, out),
        command => change::run(&store, command, out),
    }
}
