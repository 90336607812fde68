//! Bytes in and out of the drive.

use super::{Drive, Node, RACES, data_column, moved_meanwhile, name};
use crate::client::{Uploaded, ValueReader, Written};
use crate::error::{Error, Result};
use crate::quota::Reservation;
use std::io::Read;
use uuid::Uuid;

/// Names that are tried where one is taken: `photo (2).jpg` to `photo (100).jpg`.
const NUMBERS_MAX: usize = 100;

impl Drive {
    /// Makes a file in a folder from everything that a reader gives, at most `max` bytes; `None` when the
    /// folder is not there. Where the name is taken both are kept: the new one gets a number. What it needs is taken
    /// from a reservation, which grows while there is room for it.
    pub fn upload(
        &self,
        folder: Uuid,
        name: &str,
        from: &mut dyn Read,
        max: u64,
        room: &mut Reservation,
    ) -> Result<Option<Node>> {
        name::check(name)?;
        if self.folder_with_room(folder)?.is_none() {
            return Ok(None);
        }
        let value = self.client.upload(&self.row, &mut room.covering(from), max)?;
        let made = self.make_file(folder, name, &value, room);
        if !matches!(made, Ok(Some(_)) | Err(Error::Unknown(_))) {
            self.give_up(&value);
        }
        made
    }

    /// One BATCH: the folder is as it was, the name is free, and node, entry, bytes and usage appear.
    fn make_file(
        &self,
        folder: Uuid,
        name: &str,
        value: &Uploaded,
        room: &mut Reservation,
    ) -> Result<Option<Node>> {
        let (mut number, mut races) = (1, 0);
        while number <= NUMBERS_MAX && races < RACES {
            let Some(above) = self.folder_with_room(folder)? else { return Ok(None) };
            let free = if number == 1 { name.to_string() } else { name::numbered(name, number) };
            let node = Node::new_file(folder, &free, value.length());
            let bytes = value.clone().into_op(self.row.as_str(), data_column(node.data), Some(0));
            let mut items =
                vec![self.unchanged(&above), self.put_child(&node), self.put_node(&node), bytes];
            items.extend(room.spend(node.size));
            match self.client.batch(&self.user, items)? {
                Written::Done { .. } => {
                    room.spent(node.size);
                    return Ok(Some(node));
                }
                Written::Mismatch { at: 1, .. } => number += 1,
                _ => races += 1,
            }
        }
        if races < RACES { Err(too_many(name)) } else { Err(moved_meanwhile()) }
    }

    /// Staged bytes that no file will name; if this fails the store does it at their deadline.
    fn give_up(&self, value: &Uploaded) {
        if let Uploaded::Staged { id, .. } = value
            && let Err(error) = self.client.abandon(&self.row, *id)
        {
            log::debug!("{}: a staged value was left to its deadline: {error}", self.user);
        }
    }

    /// Opens a file's bytes from `offset` on, `length` of them (all that is left unless told); `None` when
    /// they are not there.
    pub fn open(
        &self,
        file: &Node,
        offset: u64,
        length: Option<u64>,
    ) -> Result<Option<ValueReader>> {
        self.client.open(&self.row, data_column(file.data), offset, length)
    }
}

fn too_many(name: &str) -> Error {
    Error::bad(format!("there are {NUMBERS_MAX} files named like “{name}” already"))
}
