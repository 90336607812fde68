//! The tree: look at folders, make them, rename and move what is in them.

use super::{
    DEPTH_MAX, Drive, Listing, Node, PAGE_ENTRIES, RACES, Seen, children_prefix, moved_meanwhile,
    name, parse_id,
};
use crate::client::{Op, Scan, Written};
use crate::error::{Error, Result};
use uuid::Uuid;

/// The drive itself.
pub const ROOT: Uuid = Uuid::nil();

impl Drive {
    /// A folder or file; `None` when it is not there (any more).
    pub fn node(&self, id: Uuid) -> Result<Option<Node>> {
        Ok(self.see(id)?.map(|s| s.node))
    }

    /// The folders from the root down to a node, the node last; `None` when it is not there.
    pub fn path(&self, id: Uuid) -> Result<Option<Vec<Node>>> {
        Ok(self.chain(id)?.map(|chain| chain.into_iter().rev().map(|s| s.node).collect()))
    }

    /// A node and all folders above it, the root last.
    fn chain(&self, id: Uuid) -> Result<Option<Vec<Seen>>> {
        let (mut chain, mut next) = (Vec::new(), id);
        while chain.len() <= 2 * DEPTH_MAX {
            let Some(seen) = self.see(next)? else { return Ok(None) };
            next = seen.node.parent;
            let done = seen.node.is_root();
            chain.push(seen);
            if done {
                return Ok(Some(chain));
            }
        }
        Err(too_deep())
    }

    /// What has a name in a folder.
    pub fn child(&self, folder: Uuid, name: &str) -> Result<Option<Node>> {
        let column = format!("{}{name}", children_prefix(folder));
        match self.client.get(&self.row, column, 64)? {
            Some(found) => self.node(parse_id(&found.value)?),
            None => Ok(None),
        }
    }

    /// One page of a folder's entries after a name.
    pub fn list(&self, folder: Uuid, after: Option<&str>) -> Result<Listing> {
        let prefix = children_prefix(folder);
        let (columns, more) = self.client.scan(Scan {
            row: self.row.clone().into(),
            prefix: prefix.clone().into(),
            after: after.map(|name| format!("{prefix}{name}").into()),
            limit: PAGE_ENTRIES,
            values: true,
            ..Scan::default()
        })?;
        let last =
            columns.last().map(|c| String::from_utf8_lossy(&c.name[prefix.len()..]).into_owned());
        let mut entries = Vec::with_capacity(columns.len());
        for column in &columns {
            let id = parse_id(column.value.as_deref().unwrap_or_default())?;
            entries.extend(self.node(id)?);
        }
        entries.sort_by_cached_key(|node| (!node.folder, node.name.to_lowercase()));
        Ok(Listing { entries, more_after: last.filter(|_| more) })
    }

    /// Makes a folder in a folder; `None` when that one is not there. A taken name is `Bad`.
    pub fn make_folder(&self, parent: Uuid, name: &str) -> Result<Option<Node>> {
        name::check(name)?;
        for _ in 0..RACES {
            let Some(above) = self.folder_with_room(parent)? else { return Ok(None) };
            let node = Node::new_folder(Uuid::now_v7(), parent, name);
            let items = vec![self.unchanged(&above), self.put_child(&node), self.put_node(&node)];
            match self.client.batch(&self.user, items)? {
                Written::Done { .. } => return Ok(Some(node)),
                Written::Mismatch { at: 1, .. } => return Err(taken(name)),
                _ => continue,
            }
        }
        Err(moved_meanwhile())
    }

    /// A folder that may get another entry.
    pub(super) fn folder_with_room(&self, id: Uuid) -> Result<Option<Seen>> {
        let Some(chain) = self.chain(id)? else { return Ok(None) };
        if chain.len() > DEPTH_MAX {
            return Err(too_deep());
        }
        Ok(chain.into_iter().next().filter(|s| s.node.folder))
    }

    /// Gives a node another name in its folder; `None` when it is not there. A taken name is `Bad`.
    pub fn rename(&self, id: Uuid, name: &str) -> Result<Option<Node>> {
        name::check(name)?;
        for _ in 0..RACES {
            let Some(seen) = self.see_movable(id)? else { return Ok(None) };
            if seen.node.name == name {
                return Ok(Some(seen.node));
            }
            let renamed = Node { name: name.into(), ..seen.node.clone() };
            match self.client.batch(&self.user, self.relink(&seen, &renamed, Vec::new()))? {
                Written::Done { .. } => return Ok(Some(renamed)),
                Written::Mismatch { at: 1, .. } => return Err(taken(name)),
                _ => continue,
            }
        }
        Err(moved_meanwhile())
    }

    /// Moves a node into another folder; `None` when one of them is not there. A taken name is `Bad`, and
    /// so is a folder that would end up inside itself.
    pub fn move_to(&self, id: Uuid, target: Uuid) -> Result<Option<Node>> {
        for _ in 0..RACES {
            let Some(seen) = self.see_movable(id)? else { return Ok(None) };
            if seen.node.parent == target {
                return Ok(Some(seen.node));
            }
            let Some(chain) = self.chain(target)? else { return Ok(None) };
            self.check_target(&seen.node, &chain)?;
            let moved = Node { parent: target, ..seen.node.clone() };
            let relied_on = chain.iter().map(|above| self.unchanged(above)).collect();
            match self.client.batch(&self.user, self.relink(&seen, &moved, relied_on))? {
                Written::Done { .. } => return Ok(Some(moved)),
                Written::Mismatch { at: 1, .. } => return Err(taken(&moved.name)),
                _ => continue,
            }
        }
        Err(moved_meanwhile())
    }

    fn see_movable(&self, id: Uuid) -> Result<Option<Seen>> {
        if id == ROOT {
            return Err(Error::bad("the drive itself cannot be renamed or moved"));
        }
        self.see(id)
    }

    fn check_target(&self, node: &Node, chain: &[Seen]) -> Result<()> {
        if !chain[0].node.folder {
            return Err(Error::bad("the target is not a folder"));
        }
        if chain.iter().any(|above| above.node.id == node.id) {
            return Err(Error::bad("a folder cannot be moved into itself"));
        }
        if chain.len() > DEPTH_MAX { Err(too_deep()) } else { Ok(()) }
    }

    /// The BATCH that gives a node another place. Item 1 fails when the name there is taken.
    fn relink(&self, seen: &Seen, new: &Node, relied_on: Vec<Op>) -> Vec<Op> {
        let mut items = vec![
            self.replace(seen, new.json()),
            self.put_child(new),
            self.delete_child(&seen.node),
        ];
        items.extend(relied_on);
        items
    }
}

fn taken(name: &str) -> Error {
    Error::bad(format!("there is something named “{name}” already"))
}

fn too_deep() -> Error {
    Error::bad(format!("folders lie at most {DEPTH_MAX} deep"))
}
