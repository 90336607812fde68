//! What the master keeps: one record a key, as JSON.

use crate::error::{Error, Result};
use crate::protocol::cluster::{GroupRoute, SlotRange, TabletRoute};
use serde::{Deserialize, Serialize};

/// A record of the configuration store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// Names the register: tables of another one are not those that nodes were told.
    Register {
        /// Random.
        id: String,
    },
    /// A replica group.
    Group(GroupRoute),
    /// A node.
    Node(NodeRecord),
    /// A tablet's register.
    Tablet(TabletRoute),
    /// Which group has which slots. Made last: with it the tables are complete.
    Slots {
        /// All slots, in ranges.
        ranges: Vec<SlotRange>,
    },
}

/// A node as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name.
    pub name: String,
    /// `host:port` where it listens.
    pub address: String,
    /// Its group.
    pub group: String,
    /// Its disk: made when the disk was formatted, taken down when it was first seen.
    pub store_uuid: Option<String>,
}

impl Record {
    /// The key under which the record is kept.
    pub fn key(&self) -> String {
        match self {
            Record::Register { .. } => "register".into(),
            Record::Group(group) => format!("group/{}", group.name),
            Record::Node(node) => node_key(&node.name),
            Record::Tablet(tablet) => format!("tablet/{}", tablet.id),
            Record::Slots { .. } => "slots".into(),
        }
    }

    /// The record as it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record is plain JSON")
    }

    /// Reads a record that was kept.
    pub fn parse(key: &str, bytes: &[u8]) -> Result<Record> {
        let record: Record = serde_json::from_slice(bytes)
            .map_err(|e| Error::corrupt(format!("configuration record {key:?}: {e}")))?;
        match record.key() == key {
            true => Ok(record),
            false => Err(Error::corrupt(format!("configuration record {key:?} is of another key"))),
        }
    }
}

/// The key of a node's record.
pub fn node_key(name: &str) -> String {
    format!("node/{name}")
}
