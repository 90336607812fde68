//! Nodes: lives and deaths, syncs, and what replicas want done.

use super::world::*;
use penncloud::replication::{Input, Output, Plea};

impl World {
    pub(super) fn start(&mut self, i: usize) {
        if self.nodes[i].replica.is_some() {
            return;
        }
        self.nodes[i].start(self.now, self.rules, TIMING);
        self.seen[i] = self.nodes[i].disk.checkpoint.version;
        self.tokens[i].clear();
        let life = self.nodes[i].life;
        self.after(self.random.0 % (50 * MS), Event::Tick { node: i, life });
        self.after(10 * MS, Event::Beat { node: i, life });
    }

    pub(super) fn crash(&mut self, i: usize) {
        let longest = if self.random.chance(50) { 300 * MS } else { 5 * SECOND };
        self.crash_for(i, longest);
    }

    /// Dies, loses some of what was not synced, and comes back within a time.
    pub(super) fn crash_for(&mut self, i: usize, longest: u64) {
        if self.nodes[i].replica.take().is_none() {
            return;
        }
        let node = &mut self.nodes[i];
        node.paused_until = 0;
        let writable =
            if node.disk.installing.is_some() { 0 } else { node.disk.buffer.len() as u64 };
        let survives = self.random.below(writable + 1) as usize;
        node.disk.sync(survives);
        node.disk.buffer.clear();
        let back = self.random.between(50 * MS, longest);
        self.after(back, Event::Start { node: i });
    }

    pub(super) fn step(&mut self, i: usize, input: Input) {
        let clock = self.nodes[i].clock(self.now);
        let Some(replica) = &mut self.nodes[i].replica else { return };
        let outputs = replica.step(clock, input);
        self.observe(i);
        for output in outputs {
            self.perform(i, output);
        }
        self.sync(i);
    }

    /// What a replica takes as committed is committed.
    pub(super) fn observe(&mut self, i: usize) {
        let Some(replica) = &self.nodes[i].replica else { return };
        let version = replica.committed().version;
        let new: Vec<_> = replica
            .entries()
            .filter(|e| e.version > self.seen[i] && e.version <= version)
            .cloned()
            .collect();
        self.seen[i] = self.seen[i].max(version);
        let table = replica.committed().clone();
        for entry in new {
            let checked = self.observer.committed(self.now, &entry);
            self.fail(checked);
        }
        if table.version > self.observer.version() {
            self.fail(Err(format!(
                "{} committed version {} out of nowhere",
                name(i),
                table.version
            )));
        }
    }

    pub(super) fn perform(&mut self, i: usize, output: Output) {
        let disk = &mut self.nodes[i].disk;
        match output {
            Output::Adopt(configuration, sealed) => {
                if configuration.epoch < disk.adopted.0.epoch || sealed < disk.adopted.1 {
                    self.fail(Err(format!("{}: an epoch fell", name(i))));
                } else {
                    disk.adopted = (configuration, sealed);
                }
            }
            Output::Truncate(version) => disk.truncate(version),
            Output::Append(entry) => disk.buffer.push_back(entry),
            Output::Install(table) => {
                disk.installing = Some(table);
                let life = self.nodes[i].life;
                let delay = self.random.between(MS, 200 * MS);
                self.after(delay, Event::Installed { node: i, life });
            }
            Output::Send(to, message) => {
                let to = number(&to);
                self.send(i, to, Event::Deliver { from: i, to, message });
            }
            Output::Plead(plea) => {
                let epoch = self.epoch(i);
                self.turn_against(i, &plea);
                self.send(i, self.master_place(), Event::Pleaded { node: i, epoch, plea });
            }
            Output::Sealed(epoch, end) => {
                self.send(i, self.master_place(), Event::Sealed { node: i, epoch, end })
            }
            Output::Resigned(_) => {}
            Output::Answer(token, outcome) => {
                if let Some((client, seq)) = self.tokens[i].remove(&token) {
                    self.answer(client, seq, Told::Outcome(outcome));
                }
            }
            Output::Confirm(token, answer) => {
                let Some((client, seq)) = self.tokens[i].remove(&token) else { return };
                let Some(key) = self.key_of(client, seq) else { return };
                let Some(replica) = &self.nodes[i].replica else { return };
                let told = if answer.is_ok() {
                    Told::Value(value(replica.committed(), &key))
                } else {
                    Told::Retry
                };
                self.answer(client, seq, told);
            }
        }
    }

    /// The adversary: a member is being added, and just then the master's answer and the newcomer's link to the
    /// primary are cut. Random faults alone seldom find what this finds.
    pub(super) fn turn_against(&mut self, i: usize, plea: &Plea) {
        let Plea::Add(newcomer) = plea else { return };
        if self.now < FAULTS_UNTIL && self.random.chance(5) {
            let (newcomer, master) = (number(newcomer), self.master_place());
            self.cut(vec![(i, newcomer), (newcomer, i), (master, i)]);
        }
    }

    pub(super) fn epoch(&self, i: usize) -> u64 {
        self.nodes[i].replica.as_ref().map_or(0, |r| r.configuration().epoch)
    }

    /// Starts a sync of what is buffered, unless one runs.
    pub(super) fn sync(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        if node.syncing || node.disk.buffer.is_empty() || node.disk.installing.is_some() {
            return;
        }
        node.syncing = true;
        let (life, n) = (node.life, node.disk.buffer.len());
        let stall = node.stalled_until.saturating_sub(self.now);
        let delay = stall + self.random.between(300, 8 * MS);
        self.after(delay, Event::Synced { node: i, life, n });
    }

    pub(super) fn synced(&mut self, i: usize, life: u64, n: usize) {
        if self.nodes[i].life != life || self.nodes[i].replica.is_none() {
            return;
        }
        self.nodes[i].syncing = false;
        self.nodes[i].disk.sync(n);
        let end = self.nodes[i].disk.end().version;
        if self.nodes[i].paused_until <= self.now {
            self.step(i, Input::Persisted(end));
        } else {
            let at = self.nodes[i].paused_until;
            self.at(at, Event::Synced { node: i, life, n: 0 });
        }
    }

    pub(super) fn installed(&mut self, i: usize, life: u64) {
        if self.nodes[i].life != life || self.nodes[i].replica.is_none() {
            return;
        }
        let Some(table) = self.nodes[i].disk.installing.take() else { return };
        let version = table.version;
        self.nodes[i].disk.install(table);
        self.step(i, Input::Persisted(version));
    }

    /// A node's own checkpoint, of what it knows to be committed.
    pub(super) fn checkpoint(&mut self, i: usize) {
        let Some(replica) = &self.nodes[i].replica else { return };
        if self.nodes[i].disk.installing.is_some() {
            return;
        }
        let table =
            if self.rules.checkpoint_committed { replica.committed() } else { replica.last() }
                .clone();
        if table.version <= self.nodes[i].disk.end().version {
            self.nodes[i].disk.take_checkpoint(table);
        }
    }

    pub(super) fn beat(&mut self, i: usize, life: u64) {
        let Some(replica) = &self.nodes[i].replica else { return };
        let (epoch, sealed) = (replica.configuration().epoch, replica.sealed_epoch());
        self.send(i, self.master_place(), Event::Heartbeat { node: i, life, epoch, sealed });
        self.after(300 * MS, Event::Beat { node: i, life });
    }
}
