//! The drive: folders and files of a user. What the web's handlers call; it knows no HTTP.
//!
//! # What is kept, in the row `<user>/files`
//!
//! ```text
//! node/<id>               JSON of a folder or file ([`Node`])
//! child/<folder>/<name>   id of what has this name in this folder
//! data/<id>               the bytes of a file; never changed, only written and removed
//! gone/<folder>           a removed folder whose contents are still to be removed ([`sweep`])
//! ```
//!
//! Ids are UUIDs; the root is the nil UUID. Names are data, never paths: any Unicode but what would
//! mislead ([`name`]). `usage` in the row `<user>` counts the bytes of all files and keeps them within the user's
//! [`quota`](crate::quota).
//!
//! # How it changes
//!
//! Every change is one BATCH on the user, all or none. It names what it relies on: a folder that gets an
//! entry is written over with the value it had when it was read (CPUT of the same bytes), so a folder that
//! was moved, renamed or removed meanwhile refuses it and the change is tried again on what is there now.
//! A move names every folder above its target in this way, which is why two moves at once cannot make a
//! ring. Bytes are uploaded before the BATCH that makes them visible; an upload that ends before leaves
//! nothing (the store gives up what was staged and not committed).
//!
//! # Invariants
//!
//! * Every node but the root has exactly one entry, `child/<parent>/<name>`, and the entry names it.
//! * Every node leads to the root, or to a folder that is `gone`.
//! * `data/<id>` is there if and only if a file's node names it.
//! * `usage` grows and shrinks in the BATCH that makes bytes visible or removes them.
//!
//! # Caveats
//!
//! Two names that look alike but are written differently (NFC and NFD) are two names. A list costs one
//! read an entry beside its scan. Names are sorted within a page, pages by the bytes of the names.

pub mod name;
mod remove;
mod transfer;
mod tree;

pub use remove::sweep;
pub use tree::ROOT;

use crate::client::{Client, Op};
use crate::error::{Error, Result};
use crate::quota::{Quota, Reservation};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// Entries of one page of a list.
pub const PAGE_ENTRIES: usize = 200;
/// Folders above a folder or file.
pub const DEPTH_MAX: usize = 100;
/// Largest node cell that is read.
const NODE_BYTES_MAX: u64 = 16 << 10;
/// How often a change is tried again on what is there now.
const RACES: usize = 8;

/// A user's drive.
#[derive(Clone)]
pub struct Drive {
    client: Client,
    user: String,
    row: String,
    quota: Quota,
}

/// A folder or a file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its id. In the store the column says so.
    #[serde(skip)]
    pub id: Uuid,
    /// The folder it is in; its own id for the root.
    pub parent: Uuid,
    /// Its name in that folder; empty for the root.
    pub name: String,
    /// Whether it is a folder.
    pub folder: bool,
    /// Bytes of a file.
    pub size: u64,
    /// Content type, as it was guessed from the name.
    #[serde(rename = "type")]
    pub content_type: String,
    /// Id of its bytes; nil for a folder.
    pub data: Uuid,
    /// When it was made or its bytes last changed, in milliseconds since 1970.
    pub modified: u64,
}

impl Node {
    /// Whether it is the drive itself.
    pub fn is_root(&self) -> bool {
        self.id == ROOT
    }

    fn new_folder(id: Uuid, parent: Uuid, name: &str) -> Node {
        Node {
            id,
            parent,
            name: name.into(),
            folder: true,
            size: 0,
            content_type: String::new(),
            data: Uuid::nil(),
            modified: now_ms(),
        }
    }

    fn new_file(parent: Uuid, name: &str, size: u64) -> Node {
        let content_type = mime_guess::from_path(name).first_or_octet_stream().to_string();
        let (id, data) = (Uuid::now_v7(), Uuid::now_v7());
        let folder = Node::new_folder(id, parent, name);
        Node { folder: false, size, content_type, data, ..folder }
    }

    fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain structures have a JSON form")
    }

    fn parse(id: Uuid, value: &[u8]) -> Result<Node> {
        let node: Node = serde_json::from_slice(value).map_err(Error::corrupt)?;
        Ok(Node { id, ..node })
    }
}

/// A node with the bytes it was read from: what a change relies on.
#[derive(Clone, Debug)]
struct Seen {
    node: Node,
    bytes: Vec<u8>,
}

/// One page of a folder.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Folders first, then by name.
    pub entries: Vec<Node>,
    /// The name after which the next page begins, if there is one.
    pub more_after: Option<String>,
}

/// The cells of an empty drive: part of making an account.
pub fn first_cells(user: &str) -> Vec<Op> {
    let root = Node::new_folder(ROOT, ROOT, "");
    vec![Op::put_if(row(user), node_column(ROOT), root.json(), 0)]
}

impl Drive {
    /// The drive of a user, who may keep so much.
    pub fn new(client: &Client, user: &str, quota: Quota) -> Drive {
        Drive { client: client.clone(), user: user.into(), row: row(user), quota }
    }

    /// Reserves room for uploads of at least and at most so many bytes together. `Quota` says that there is too little.
    pub fn reserve(&self, least: u64, most: u64) -> Result<Reservation> {
        self.quota.reserve(&self.client, &self.user, least, most)
    }

    fn see(&self, id: Uuid) -> Result<Option<Seen>> {
        let found = self.client.get(&self.row, node_column(id), NODE_BYTES_MAX)?;
        found.map(|f| Ok(Seen { node: Node::parse(id, &f.value)?, bytes: f.value })).transpose()
    }

    fn put_node(&self, node: &Node) -> Op {
        Op::put_if(self.row.as_str(), node_column(node.id), node.json(), 0)
    }

    fn put_child(&self, node: &Node) -> Op {
        Op::put_if(self.row.as_str(), child_column(node), node.id.to_string(), 0)
    }

    fn delete_child(&self, node: &Node) -> Op {
        Op::delete(self.row.as_str(), child_column(node))
    }

    /// Refuses the BATCH when the node is not as it was seen.
    fn unchanged(&self, seen: &Seen) -> Op {
        self.replace(seen, seen.bytes.clone())
    }

    /// Writes a node over the one that was seen.
    fn replace(&self, seen: &Seen, new: Vec<u8>) -> Op {
        Op::Cput {
            row: self.row.clone().into(),
            column: node_column(seen.node.id).into(),
            old: seen.bytes.clone(),
            new,
            ttl: None,
        }
    }
}

fn row(user: &str) -> String {
    format!("{user}/files")
}

fn node_column(id: Uuid) -> String {
    format!("node/{id}")
}

fn data_column(id: Uuid) -> String {
    format!("data/{id}")
}

fn gone_column(id: Uuid) -> String {
    format!("gone/{id}")
}

fn children_prefix(folder: Uuid) -> String {
    format!("child/{folder}/")
}

fn child_column(node: &Node) -> String {
    format!("{}{}", children_prefix(node.parent), node.name)
}

fn parse_id(value: &[u8]) -> Result<Uuid> {
    Uuid::try_parse_ascii(value).map_err(Error::corrupt)
}

fn moved_meanwhile() -> Error {
    Error::retry("the folder was being changed by someone else at the same moment")
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_comes_back_from_its_json() {
        let node = Node::new_file(ROOT, "\"><img src=x>.png", 7);
        assert_eq!(node.content_type, "image/png");
        assert_eq!(Node::parse(node.id, &node.json()).unwrap(), node);
    }

    #[test]
    fn cells_are_named_as_the_design_says() {
        let folder = Node::new_folder(Uuid::from_u128(7), ROOT, "a b");
        assert_eq!(node_column(folder.id), "node/00000000-0000-0000-0000-000000000007");
        assert_eq!(child_column(&folder), "child/00000000-0000-0000-0000-000000000000/a b");
        assert_eq!(row("alice"), "alice/files");
    }
}
