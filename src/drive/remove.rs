//! Removing. A file goes in one BATCH. A folder is cut off in one BATCH, after which nobody can reach what
//! is in it, and its contents follow in bounded steps, each one BATCH. `gone/<folder>` remembers what is
//! left to do, so whoever comes next goes on where the last one stopped.

use super::{
    Drive, Node, RACES, ROOT, Seen, children_prefix, data_column, gone_column, moved_meanwhile,
    node_column, parse_id,
};
use crate::client::{Client, Op, Scan, Written};
use crate::error::{Error, Result};
use crate::quota::{Quota, count};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Entries that one step removes: a file takes five of the 256 items of a BATCH.
const STEP_ENTRIES: usize = 50;
/// How long whoever removes a folder goes on with its contents; the rest waits for the next one.
const SWEEP_TIME: Duration = Duration::from_secs(2);

impl Drive {
    /// Removes a file, or a folder with everything in it; `None` when it is not there.
    pub fn remove(&self, id: Uuid) -> Result<Option<Node>> {
        if id == ROOT {
            return Err(Error::bad("the drive itself cannot be removed"));
        }
        for _ in 0..RACES {
            let Some(seen) = self.see(id)? else { return Ok(None) };
            if let Written::Done { .. } = self.client.batch(&self.user, self.removal(&seen))? {
                self.sweep_quietly();
                return Ok(Some(seen.node));
            }
        }
        Err(moved_meanwhile())
    }

    /// The changes that take a node out of its folder, and its bytes with it, once.
    fn removal(&self, seen: &Seen) -> Vec<Op> {
        let (row, node) = (self.row.as_str(), &seen.node);
        let mut items = vec![
            self.unchanged(seen),
            self.delete_child(node),
            Op::delete(row, node_column(node.id)),
        ];
        if node.folder {
            items.push(Op::put(row, gone_column(node.id), ""));
        } else {
            items.push(Op::delete(row, data_column(node.data)));
            items.push(count(&self.user, -(node.size as i64)));
        }
        items
    }

    /// What was cut off is out of sight already: a failure here only leaves work for the next one.
    fn sweep_quietly(&self) {
        if let Err(error) = self.sweep(Instant::now() + SWEEP_TIME) {
            log::info!("{}: removed folders are still to be swept: {error}", self.user);
        }
    }

    /// Goes on removing the contents of removed folders until a deadline; true when nothing is left.
    fn sweep(&self, deadline: Instant) -> Result<bool> {
        while let Some(folder) = self.next_gone()? {
            while self.sweep_step(folder)? {
                if Instant::now() >= deadline {
                    return Ok(false);
                }
            }
            self.client.write(Op::delete(self.row.as_str(), gone_column(folder)))?;
        }
        Ok(true)
    }

    fn next_gone(&self) -> Result<Option<Uuid>> {
        let columns = self.first_columns("gone/", 1)?;
        columns.first().map(|(name, _)| parse_id(&name["gone/".len()..])).transpose()
    }

    /// Removes some entries of a removed folder; false when there were none. Where someone else does the same
    /// at the same moment, one of the two BATCHes is refused and its maker looks again.
    fn sweep_step(&self, folder: Uuid) -> Result<bool> {
        let mut items = Vec::new();
        let entries = self.first_columns(&children_prefix(folder), STEP_ENTRIES)?;
        for (column, id) in &entries {
            match self.see(parse_id(id)?)? {
                Some(seen) if seen.node.parent == folder => items.extend(self.removal(&seen)),
                _ => items.push(Op::delete(self.row.as_str(), column.as_slice())),
            }
        }
        if items.is_empty() {
            return Ok(false);
        }
        self.client.batch(&self.user, items).map(|_| true)
    }

    fn first_columns(&self, prefix: &str, limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let (columns, _) = self.client.scan(Scan {
            row: self.row.clone().into(),
            prefix: prefix.into(),
            limit,
            values: true,
            ..Scan::default()
        })?;
        let with_value = |value: Option<_>| {
            value.map_or(Vec::new(), |v: crate::protocol::cell::Bytes| v.to_vec())
        };
        Ok(columns.into_iter().map(|c| (c.name, with_value(c.value))).collect())
    }
}

/// Goes on removing what a user's removed folders held, for a moment.
pub fn sweep(client: &Client, user: &str) {
    Drive::new(client, user, Quota::default()).sweep_quietly();
}
