//! What is wrong with a node's copy of a tablet, for people: logged when it begins and when it is over, and said in
//! STATUS meanwhile.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// What is wrong while a disk hangs.
pub const HANGS: &str = "the disk hangs";

/// What something is wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum With {
    /// The disk: it does not answer.
    Disk,
    /// The log, or the file `epoch`: no room for them on the disk.
    Log,
    /// A table that is being taken from another node.
    Table,
    /// The next checkpoint.
    Checkpoint,
    /// The files: some of them are damaged.
    Files,
    /// The table: it differs from the primary's.
    Contents,
}

/// What is wrong with a tablet's copy. Shared by its threads.
pub struct Troubles {
    tablet: String,
    known: Mutex<BTreeMap<With, String>>,
}

impl Troubles {
    /// None.
    pub fn new(tablet: &str) -> Troubles {
        Troubles { tablet: tablet.into(), known: Mutex::default() }
    }

    /// The tablet's name.
    pub fn tablet(&self) -> &str {
        &self.tablet
    }

    /// Something is wrong, and why, in a few words.
    pub fn note(&self, with: With, why: &str) {
        let mut known = self.known.lock().expect("a map is not left half-changed");
        if known.get(&with).map(String::as_str) != Some(why) {
            log::error!("tablet {}: {why}", self.tablet);
            known.insert(with, why.into());
        }
    }

    /// It is well again, if it was not.
    pub fn end(&self, with: With) {
        let mut known = self.known.lock().expect("a map is not left half-changed");
        if let Some(why) = known.remove(&with) {
            log::info!("tablet {}: no longer: {why}", self.tablet);
        }
    }

    /// Whether something is wrong with this.
    pub fn has(&self, with: With) -> bool {
        self.known.lock().expect("a map is not left half-changed").contains_key(&with)
    }

    /// Whether the copy is damaged: others should take over.
    pub fn is_flawed(&self) -> bool {
        self.has(With::Files) || self.has(With::Contents)
    }

    /// All that is wrong, in words; none: nothing.
    pub fn words(&self) -> Option<String> {
        let known = self.known.lock().expect("a map is not left half-changed");
        let words: Vec<&str> = known.values().map(String::as_str).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_until_it_is_over() {
        let troubles = Troubles::new("a-s0");
        assert_eq!(troubles.words(), None);
        troubles.note(With::Checkpoint, "no checkpoint");
        troubles.note(With::Log, "no room");
        troubles.note(With::Log, "still no room");
        assert_eq!(troubles.words().as_deref(), Some("still no room; no checkpoint"));
        troubles.end(With::Log);
        troubles.end(With::Table);
        assert_eq!(troubles.words().as_deref(), Some("no checkpoint"));
        troubles.end(With::Checkpoint);
        assert_eq!(troubles.words(), None);
    }
}
