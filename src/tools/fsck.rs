//! `penncloud fsck`: reads everything that a node has on disk, says what it is, and finds damage.
//! Nothing is changed.

use crate::error::{Error, Result};
use crate::storage::{CheckpointSummary, DataDir, Inspection, LogSummary, inspect};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Checks the data directory of a node, or those of all nodes of a cluster. Damage is an error, after
/// everything was looked at.
pub fn run(dir: &Path, out: &mut dyn Write) -> Result<()> {
    let (mut tablets, mut damaged) = (0, 0);
    for node in nodes(dir)? {
        let data = DataDir::open_existing(&node)?;
        writeln!(out, "{}: store {}", node.display(), data.store_uuid())?;
        for name in data.tablets()? {
            let inspection = inspect(&data.tablet(&name))?;
            tablets += 1;
            damaged += usize::from(!inspection.damage().is_empty());
            describe(&name, &inspection, out)?;
        }
        for copy in data.damaged()? {
            writeln!(out, "  tablets-damaged/{copy}: set aside, not looked at")?;
        }
    }
    if damaged > 0 {
        return Err(Error::Corrupt(format!("{damaged} of {tablets} tablets are damaged")));
    }
    writeln!(out, "{tablets} tablets, all whole")?;
    Ok(())
}

/// The directory itself if it is a node's, else the nodes' directories in it.
fn nodes(dir: &Path) -> Result<Vec<PathBuf>> {
    let is_node = |path: &PathBuf| path.join("format").is_file();
    if is_node(&dir.to_path_buf()) {
        return Ok(vec![dir.to_path_buf()]);
    }
    let listed = std::fs::read_dir(dir)
        .map_err(|e| Error::from(e).during(format_args!("list {}", dir.display())))?;
    let mut paths = listed.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(is_node);
    paths.sort();
    if paths.is_empty() {
        let dir = dir.display();
        return Err(Error::config(format!("{dir} is no data directory of a node or a cluster")));
    }
    Ok(paths)
}

fn describe(name: &str, found: &Inspection, out: &mut dyn Write) -> Result<()> {
    let state = if found.damage().is_empty() { "whole" } else { "DAMAGED" };
    writeln!(out, "  {name}: {state}; {}", contents(found))?;
    for damage in found.damage() {
        writeln!(out, "    {damage}")?;
    }
    for remark in remarks(found) {
        writeln!(out, "    {remark}")?;
    }
    Ok(())
}

fn contents(found: &Inspection) -> String {
    let mut parts = Vec::new();
    if let Ok(Some(config)) = &found.config {
        parts.push(format!("epoch {}", config.epoch));
    }
    if let Some(checkpoint) = found.checkpoint() {
        parts.push(files(&checkpoint));
    }
    if let Ok(LogSummary { start, end, segments, bytes, kept, kept_bytes, .. }) = found.log {
        let (start, end) = (start.version, end.version);
        parts
            .push(format!("log from {start} to {end} ({segments} segments, {} KiB)", bytes / 1024));
        if kept > 0 {
            let kib = kept_bytes / 1024;
            parts.push(format!("{kept} segments of before, {kib} KiB, for replicas that lag"));
        }
    }
    parts.join(", ")
}

fn files(checkpoint: &CheckpointSummary) -> String {
    let CheckpointSummary { position, cells, items, runs, run_bytes, values, value_bytes } =
        checkpoint;
    let (version, run_kib, value_kib) = (position.version, run_bytes / 1024, value_bytes / 1024);
    format!(
        "checkpoint of version {version} ({cells} cells in {runs} runs, {run_kib} KiB, and {values} files of values, \
         {value_kib} KiB; {items} other items)"
    )
}

/// What is worth a word but no damage.
fn remarks(found: &Inspection) -> Vec<String> {
    let mut remarks = Vec::new();
    if found.log.as_ref().is_ok_and(|log| log.torn) {
        remarks.push(
            "the log ends in a write that was never acknowledged: the next start cuts it off"
                .into(),
        );
    }
    if found.installing {
        remarks.push(
            "another replica's table was being installed: the next start finishes it, and what else is here goes"
                .into(),
        );
    }
    if found.kept.is_err() {
        remarks.push(
            "nothing is lost with a segment of before: a replica that lacks what it held takes the table"
                .into(),
        );
    }
    if !found.has_mark {
        remarks.push("there is no durable mark: a lost end of the log would go unnoticed".into());
    }
    if found.unfinished > 0 {
        let files = found.unfinished;
        remarks.push(format!("{files} unfinished files: the next start removes them"));
    }
    if found.leftovers > 0 {
        let files = found.leftovers;
        remarks.push(format!(
            "{files} files of cells that nothing names: the next start removes them"
        ));
    }
    remarks
}
