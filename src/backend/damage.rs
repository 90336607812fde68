//! Copies that are damaged: found so when they are opened, by reading in the background, or because a table differs from
//! the primary's. Others take over, and the copy is set aside and fetched anew.
//!
//! A copy that cannot be opened serves nothing, and is reported as *damaged*. One that was found damaged later is
//! *flawed*: it goes on until the master has an in-sync set without it. Where there is no other in-sync copy it goes on
//! and says so. Damage in its log is mended by a checkpoint of what it has in memory. What is damaged on the disk alone,
//! and a table that differs, nobody has better: it goes on with what it can read, and refuses what it cannot.

use super::holdings::{Held, known_epoch};
use super::node::Node;
use super::tablet::{Event, Tablet};
use super::trouble::With;
use crate::error::Error;
use crate::replication::Configuration;
use crate::storage;
use std::sync::Arc;
use std::time::Duration;

/// Bytes that are read in the background in a second.
const SCRUB_BYTES_PER_S: u64 = 4 << 20;
/// Pause before files in which damage was found are read again.
const AGAIN: Duration = Duration::from_secs(10);
/// Longest pause between two looks at copies that are damaged.
const MEND_PAUSE: Duration = Duration::from_secs(4);
/// How long the threads of a tablet that is given up may take to end before others are looked after first.
const CLOSE: Duration = Duration::from_secs(1);

impl Node {
    /// Reads all files of all tablets, again and again, to find damage early.
    pub fn scrub(&self) {
        let pause = Duration::from_millis(self.config.store.scrub_ms);
        let mut found = false;
        loop {
            std::thread::sleep(if found { pause.min(AGAIN) } else { pause });
            let tablets = self.tablets();
            tablets.iter().for_each(|tablet| self.scrub_tablet(tablet));
            found = tablets.iter().any(|tablet| tablet.troubles.has(With::Files));
        }
    }

    fn scrub_tablet(&self, tablet: &Tablet) {
        let pace = |bytes: u64| {
            std::thread::sleep(Duration::from_micros(bytes * 1_000_000 / SCRUB_BYTES_PER_S));
        };
        let found = storage::scrub(&self.data.tablet(&tablet.id), pace)
            .and_then(|()| tablet.view().table.check(pace));
        match found {
            Ok(()) => tablet.troubles.end(With::Files),
            Err(Error::Corrupt(why)) => {
                tablet.troubles.note(With::Files, &format!("damage on the disk: {why}"));
                self.rewrite_if_last(tablet);
            }
            Err(error) => log::warn!("tablet {} is not read for damage: {error}", tablet.id),
        }
    }

    /// Does for ever what can be done about copies that are damaged, or could not be opened: whenever the master has said
    /// something, and now and then.
    pub fn mend(self: &Arc<Node>) {
        let mut routes = self.routes();
        loop {
            routes = self.directory.wait_change(&routes, MEND_PAUSE);
            for id in self.holdings.troubled() {
                let Ok(route) = routes.tablet(&id) else { continue };
                let configuration = Configuration::of(route);
                self.mend_tablet(&id, &configuration);
                self.open_as_member(&id, &configuration);
            }
        }
    }

    /// Does what a configuration allows about a copy, if it is damaged.
    fn mend_tablet(&self, id: &str, configuration: &Configuration) {
        let tablet = self.tablet(id).filter(|tablet| tablet.troubles.is_flawed());
        if tablet.is_some_and(|tablet| !self.give_up(&tablet, configuration)) {
            return;
        }
        self.set_aside_if_damaged(id, configuration);
    }

    /// Ends a flawed copy's service, once the in-sync set does without it; whether it has ended. From then on it is as
    /// one that could not be opened.
    fn give_up(&self, tablet: &Arc<Tablet>, configuration: &Configuration) -> bool {
        let own = tablet.view().configuration.clone();
        let newest = if own.epoch > configuration.epoch { &*own } else { configuration };
        if newest.isr.is_empty() || newest.isr.contains(&*self.name) || !tablet.close(CLOSE) {
            return false;
        }
        self.holdings.put(&tablet.id, Held::Damaged(known_epoch(&tablet.id, &self.data)));
        log::warn!("tablet {}: the copy is given up, others are in sync", tablet.id);
        true
    }

    /// Sets a damaged tablet's files aside, so that it is begun anew, once the in-sync set does without this node: by
    /// the master's word, in an epoch above all in which somebody may have counted on the damaged copy.
    fn set_aside_if_damaged(&self, id: &str, configuration: &Configuration) {
        let Some(known) = self.holdings.damaged(id) else { return };
        if known == 0 {
            return self.holdings.put(id, Held::Damaged(configuration.epoch));
        }
        let isr = &configuration.isr;
        if configuration.epoch <= known || isr.is_empty() || isr.contains(&*self.name) {
            return;
        }
        match self.data.set_aside(id) {
            Ok(_) => {
                log::warn!("tablet {id}: its damaged files are set aside, it is fetched anew");
                self.holdings.remove(id);
            }
            Err(error) => log::error!("tablet {id} cannot be set aside: {error}"),
        }
    }

    /// The last in-sync copy has nobody to be fetched from.
    fn rewrite_if_last(&self, tablet: &Tablet) {
        let isr = &tablet.view().configuration.isr;
        if isr.len() == 1 && isr.contains(&*self.name) {
            tablet.tell(Event::Rewrite);
        }
    }
}
