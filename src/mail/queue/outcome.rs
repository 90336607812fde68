//! What the author of a composed message sees of its recipients: the cell `outcome/<guid>` beside the copy in Sent.

use super::{Origin, Recipient, State};
use crate::client::Op;
use crate::error::Result;
use crate::mail::Mailboxes;
use crate::mail::entry::Folder;
use crate::mail::entry::row;
use serde::{Deserialize, Serialize};

/// How long it is kept.
const SHOWN_SECONDS: u64 = 30 * 24 * 60 * 60;
/// Bytes of the cell.
const SHOWN_BYTES_MAX: u64 = 1 << 20;

/// One recipient, as the author sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The address.
    pub address: String,
    /// How far it is.
    pub state: State,
    /// What was heard last; may be empty.
    pub answer: String,
}

impl Shown {
    fn of(recipient: &Recipient) -> Shown {
        Shown {
            address: recipient.address.to_string(),
            state: recipient.state,
            answer: recipient.answer.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

impl Mailboxes {
    /// Writes down how far the recipients of a composed message are.
    pub fn show_outcomes(&self, origin: &Origin, recipients: &[Recipient]) -> Result<()> {
        let shown: Vec<Shown> = recipients.iter().map(Shown::of).collect();
        let json = serde_json::to_vec(&shown).expect("it has only strings and numbers");
        let op = Op::put(row(&origin.user), column(&origin.guid), json).with_ttl(SHOWN_SECONDS);
        let ops = vec![self.unchanged_folder(&origin.user, Folder::Sent)?, op];
        self.client.batch(&origin.user, ops).map(drop)
    }

    /// How far the recipients of a message in Sent are; none of one that went nowhere else.
    pub fn outcomes(&self, user: &str, guid: &str) -> Result<Vec<Shown>> {
        let found = self.client.get(row(user), column(guid), SHOWN_BYTES_MAX)?;
        Ok(found.and_then(|found| serde_json::from_slice(&found.value).ok()).unwrap_or_default())
    }
}

fn column(guid: &str) -> String {
    format!("outcome/{guid}")
}
