//! Nodes: lives and deaths, syncs, and what replicas want done.

use super::cells::Written;
use super::clients::Told;
use super::node::{Held, Task, Work};
use super::plan::Adversary;
use super::world::*;
use penncloud::master::membership;
use penncloud::replication::Node as Name;
use penncloud::replication::{Input, Message, Output, Plea};

/// Tables are compared when a replica passes versions that this divides; their digests at all others.
const COMPARED_EVERY: u64 = 8;
/// Entries that are read back at a time.
const READ_BACK: usize = 8;

impl World {
    pub fn start(&mut self, i: usize) {
        if self.nodes[i].is_up() || self.nodes[i].shut_down {
            return;
        }
        let (rules, timing) = (self.switches.rules, self.timing());
        self.nodes[i].start(self.now, rules, timing);
        self.tokens.retain(|(node, _), _| *node != i);
        let life = self.nodes[i].life;
        for t in 0..self.plan.tablets {
            let checked = self.check_start(i, t);
            self.fail(checked);
            let log_start = self.nodes[i].tablets[t].disk.log_start();
            self.step(i, t, Input::LogStart(log_start));
        }
        let first = self.random.below(50 * MS);
        self.after(first, Event::Tick { node: i, life });
        self.after(10 * MS, Event::Beat { node: i, life });
        if self.plan.tablets > 1 {
            self.after(500 * MS, Event::Sweep { node: i, life });
        }
    }

    pub fn crash(&mut self, i: usize) {
        let longest = if self.random.chance(50) { 300 * MS } else { 5 * SECOND };
        self.crash_for(i, longest);
    }

    /// Dies, loses some of what was not synced, and comes back within a time.
    pub fn crash_for(&mut self, i: usize, longest: u64) {
        if !self.nodes[i].is_up() {
            return;
        }
        self.stop(i);
        let back = self.random.between(20 * MS, longest);
        self.after(self.until_peace(back), Event::Start { node: i });
    }

    fn stop(&mut self, i: usize) {
        self.nodes[i].paused_until = 0;
        for held in &mut self.nodes[i].tablets {
            held.replica = None;
            let disk = &mut held.disk;
            let written = if disk.installing.is_some() { 0 } else { disk.buffer.len() };
            let kept = self.random.below(written as u64 + 1) as usize;
            disk.lose_power(kept, self.random.chance(50));
        }
        self.check_all_durable();
    }

    /// The master takes a node out of service, or puts it back.
    pub fn serve(&mut self, i: usize, serves: bool) {
        if serves && self.nodes[i].shut_down {
            self.nodes[i].shut_down = false;
            self.start(i);
        }
        if !serves && self.nodes[i].is_up() {
            self.nodes[i].shut_down = true;
            self.stop(i);
        }
    }

    /// Asks for a node that was shut down, again and again: the master or its word may be lost.
    pub fn wake_up(&mut self, i: usize) {
        self.tell_master(membership::Input::Wakeup { node: name(i) });
        if self.now < FAULTS_UNTIL + 5 * SECOND {
            self.after(SECOND, Event::WakeUp { node: i });
        }
    }

    /// A disk dies with its node. When nothing that the node said is on its way any more, a new, empty one takes its
    /// place.
    pub fn lose_disk(&mut self, i: usize) {
        let back = self.random.between(4500 * MS, 6 * SECOND);
        if self.nodes[i].is_up() && self.now + back < FAULTS_UNTIL && self.plan.min_insync == 1 {
            self.stop(i);
            self.after(back, Event::Replace { node: i });
        }
    }

    /// The new disk, where nothing is lost by that; else the old one comes back.
    pub fn replace_disk(&mut self, i: usize) {
        let keeps = |node: &String| number(node) != i && self.is_known(number(node));
        let is_kept = |t: usize| self.route(t).isr.iter().any(keeps);
        let kept = (0..self.plan.tablets).all(is_kept) && self.is_known(i);
        if kept && !self.nodes[i].is_up() && !self.nodes[i].shut_down {
            self.nodes[i].store += 100;
            for held in &mut self.nodes[i].tablets {
                *held = Default::default();
            }
            self.check_all_durable();
        }
        self.start(i);
    }

    /// Replicas speak to one another only if their disks are those that the master knows.
    pub fn deliver(
        &mut self,
        from: usize,
        stores: (u64, u64),
        to: usize,
        t: usize,
        message: Message,
    ) {
        let same = (self.nodes[from].store, self.nodes[to].store) == stores;
        if same && self.is_known(from) && self.is_known(to) {
            let from = self.nodes[from].name.clone();
            self.step(to, t, Input::Message(from, fetched(message)));
        }
    }

    /// A replica takes an input. What is to be done here is done at once, in order; what others hear waits for the end
    /// of the round, where one message may say what several said.
    pub fn step(&mut self, i: usize, t: usize, input: Input) {
        let clock = self.nodes[i].clock(self.now);
        let Some(replica) = &mut self.nodes[i].tablets[t].replica else { return };
        let outputs = replica.step(clock, input);
        let before = self.nodes[i].tablets[t].seen;
        self.observe(i, t);
        for output in outputs {
            let checked = self.check_output(i, t, before, &output);
            self.fail(checked);
            self.perform(i, t, output);
        }
        self.work(i, t);
        let checked = self.check_step(i, t);
        self.fail(checked);
        let (life, now_and_then) = (self.nodes[i].life, self.random.chance(30));
        if !now_and_then {
            self.speak(i, t);
        } else if !self.nodes[i].tablets[t].said.is_empty() {
            let round = self.random.between(10, MS);
            self.after(round, Event::Speak { node: i, life, t });
        }
    }

    /// The end of a round.
    pub fn speak(&mut self, i: usize, t: usize) {
        for output in std::mem::take(&mut self.nodes[i].tablets[t].said) {
            if self.nodes[i].is_up() {
                self.say_output(i, t, output);
            }
        }
    }

    /// What a replica takes as committed is committed.
    fn observe(&mut self, i: usize, t: usize) {
        let held = &mut self.nodes[i].tablets[t];
        let Some(replica) = &held.replica else { return };
        let (version, seen) = (replica.committed().version, held.seen);
        if version < seen {
            let fell = Err(format!("8: the committed point of {} fell from {seen}", name(i)));
            return self.fail(fell);
        }
        if version == seen {
            return;
        }
        let Some(new) = self.observers[t].lineage(replica.committed(), seen) else {
            return self.fail(Err(format!("8: {} committed {version} out of nowhere", name(i))));
        };
        held.seen = version;
        for entry in new {
            let is_first = entry.version > self.observers[t].version();
            let checked = self.observers[t].committed(self.now, &entry);
            self.fail(checked);
            if is_first {
                let checked = self.check_commit(i, t, &entry);
                self.fail(checked);
            }
        }
        let is_due = seen / COMPARED_EVERY < version / COMPARED_EVERY;
        let checked = if is_due { self.check_state(i, t) } else { self.check_digest(i, t) };
        self.fail(checked);
    }

    fn perform(&mut self, i: usize, t: usize, output: Output) {
        let batch_bytes = self.timing().batch_bytes;
        let held = &mut self.nodes[i].tablets[t];
        match output {
            Output::Adopt(configuration, sealed) => {
                held.outbox.adopt();
                if !self.switches.epoch_stored {
                    held.epochs = (configuration.epoch, sealed);
                }
                held.disk.tasks.push_back(Task::Adopt(configuration, sealed));
            }
            Output::Truncate(version) => held.disk.tasks.push_back(Task::Truncate(version)),
            Output::Append(entry) => held.disk.tasks.push_back(Task::Append(entry)),
            Output::Install(table) => held.disk.tasks.push_back(Task::Install(table)),
            said => {
                let now = match self.switches.epoch_stored {
                    true => held.outbox.say(said),
                    false => Some(said),
                };
                now.into_iter().for_each(|said| held.gather(said, batch_bytes));
            }
        }
    }

    fn say_output(&mut self, i: usize, t: usize, output: Output) {
        match output {
            Output::Send(to, message) | Output::Mention(to, message) => {
                let to = number(&to);
                let stores = (self.nodes[i].store, self.nodes[to].store);
                self.send(i, to, Event::Deliver { from: i, stores, to, t, message });
            }
            Output::Plead(epoch, plea) => {
                self.plead(i, t, epoch, plea.clone());
                self.turn_against(i, &plea);
            }
            Output::Sealed(epoch, end) => {
                let (node, tablet, end) = (name(i), self.ids[t].clone(), (end.epoch, end.version));
                self.say(i, membership::Input::Sealed { node, tablet, epoch, end });
            }
            Output::Resigned(epoch) => {
                let (node, tablet) = (name(i), self.ids[t].clone());
                self.say(i, membership::Input::Resigned { node, tablet, epoch });
                if self.plan.adversary == Some(Adversary::Resign) && self.random.chance(50) {
                    self.isolate(i, true, true);
                }
            }
            Output::Answer(token, outcome) => {
                if let Some(asked) = self.tokens.remove(&(i, token)) {
                    self.answer(asked, Told::Outcome(outcome));
                }
            }
            Output::Confirm(token, answer) => {
                let Some(asked) = self.tokens.remove(&(i, token)) else { return };
                let Some(replica) = self.nodes[i].replica(t) else { return };
                let told = match answer {
                    Ok(()) => Told::Value(asked.look.at(replica.committed())),
                    Err(_) => Told::Retry,
                };
                self.answer(asked, told);
            }
            Output::ReadBack(node, after, last) => {
                let (life, delay) = (self.nodes[i].life, self.random.between(MS, 50 * MS));
                self.after(delay, Event::ReadBack { node: i, life, t, member: node, after, last });
            }
            done => unreachable!("{done:?} does not wait for the end of a round"),
        }
    }

    /// What adversaries wait for.
    fn turn_against(&mut self, i: usize, plea: &Plea) {
        let likely = if self.plan.adversary.is_some() { 60 } else { 5 };
        if self.is_peace() || !self.random.chance(likely) {
            return;
        }
        let allowed = |wanted| self.plan.adversary.is_none_or(|adversary| adversary == wanted);
        match plea {
            Plea::Add(newcomer) if allowed(Adversary::Add) => {
                let (newcomer, master) = (number(newcomer), self.master_place());
                self.cut(vec![(i, newcomer), (newcomer, i), (master, i)]);
            }
            Plea::Remove(_) if allowed(Adversary::Remove) => self.crash_for(i, 60 * MS),
            _ => {}
        }
    }

    /// Has the log thread go on, if it rests: it takes what it is to do in order, and syncs what has gathered.
    fn work(&mut self, i: usize, t: usize) {
        while self.nodes[i].tablets[t].work == Work::Rests {
            let held = &mut self.nodes[i].tablets[t];
            match held.disk.tasks.pop_front() {
                Some(Task::Append(entry)) => held.disk.buffer.push_back(entry),
                Some(Task::Truncate(version)) => {
                    held.disk.truncate(version);
                    self.check_all_durable();
                }
                Some(Task::Adopt(configuration, sealed)) => {
                    held.disk.storing = Some((configuration, sealed));
                    self.begin_work(i, t, Work::Stores);
                }
                Some(Task::Install(table)) => {
                    held.disk.begin_install(table);
                    self.begin_work(i, t, Work::Installs);
                }
                None if held.disk.buffer.is_empty() => return,
                None => self.begin_work(i, t, Work::Syncs),
            }
        }
    }

    fn begin_work(&mut self, i: usize, t: usize, work: Work) {
        let lease = self.timing().lease;
        let node = &mut self.nodes[i];
        let (life, stall) = (node.life, node.stalled_until.saturating_sub(self.now));
        node.tablets[t].work = work;
        let delay = match work {
            Work::Installs => self.random.between(MS, 200 * MS),
            _ => stall + self.random.between(300, 8 * MS),
        };
        self.after(delay, Event::Worked { node: i, life, t });
        if delay > lease / 2 {
            self.after(lease / 2, Event::Hung { node: i, life, t });
        }
    }

    /// Entries are read back from the log on disk.
    pub fn read_back(&mut self, i: usize, t: usize, (member, after, last): (Name, u64, u64)) {
        let found = self.nodes[i].tablets[t].disk.read_back(after, last, READ_BACK);
        self.step(i, t, Input::ReadBack(member, found.0, found.1));
    }

    /// A watchdog has seen that the disk hangs.
    pub fn hung(&mut self, i: usize, t: usize) {
        if self.nodes[i].tablets[t].work != Work::Rests {
            self.step(i, t, Input::Stuck(true));
        }
    }

    /// The log thread has done what it was at, and says what is on disk.
    pub fn worked(&mut self, i: usize, t: usize) {
        let held = &mut self.nodes[i].tablets[t];
        let disk = &mut held.disk;
        let work = std::mem::take(&mut held.work);
        match work {
            Work::Stores => disk.end_store(),
            Work::Syncs => disk.sync(disk.buffer.len()),
            Work::Installs => disk.end_install(),
            Work::Rests => {}
        }
        let (is_cut_later, version, stored) =
            (disk.is_cut_later(), disk.end().version, disk.stored);
        held.epochs = (disk.adopted.0.epoch, disk.adopted.1);
        let checked = self.check_unheard(i, t);
        self.fail(checked);
        self.check_all_durable();
        if work == Work::Installs {
            let checked = self.check_state(i, t);
            self.fail(checked);
        }
        self.say_stored(i, t, stored);
        self.step(i, t, Input::Stuck(false));
        if !is_cut_later {
            self.step(i, t, Input::Persisted(version));
        }
    }

    /// What waited for an epoch is said.
    fn say_stored(&mut self, i: usize, t: usize, stored: u64) {
        let batch_bytes = self.timing().batch_bytes;
        let held = &mut self.nodes[i].tablets[t];
        let now = held.outbox.stored(stored);
        now.into_iter().for_each(|said| held.gather(said, batch_bytes));
    }

    /// What a node does all the time. A process has seen nothing of its disk when it begins.
    pub fn tick(&mut self, i: usize, life: u64) {
        for t in 0..self.plan.tablets {
            let space = self.nodes[i].space;
            if std::mem::replace(&mut self.nodes[i].tablets[t].space, space) != space {
                self.step(i, t, Input::Space(space));
            }
            self.step(i, t, Input::Tick);
            let checked = self.check_tick(i, t);
            self.fail(checked);
        }
        self.after(50 * MS, Event::Tick { node: i, life });
    }

    /// A node's own checkpoint, of what it knows to be committed: it begins, or the one that is being written is.
    pub fn checkpoint(&mut self, i: usize) {
        for t in 0..self.plan.tablets {
            let committed = self.switches.checkpoint_committed;
            let Held { disk, replica: Some(replica), frozen, .. } = &mut self.nodes[i].tablets[t]
            else {
                return;
            };
            let table = if committed { replica.committed() } else { replica.last() };
            let is_durable = table.version <= replica.durable();
            match frozen.take().filter(|_| replica.committed().is_frozen()) {
                _ if !committed && table.version > disk.checkpoint.version && is_durable => {
                    disk.take_checkpoint(table.clone(), Written::all_of(table), 0);
                }
                Some(table) => {
                    let below = disk.written_out.with(&table);
                    let keep = self.random.below(200) as usize;
                    disk.take_checkpoint(table, below.clone(), keep);
                    replica.settle(below);
                }
                None if is_durable => *frozen = replica.freeze(),
                None => {}
            }
            let log_start = disk.log_start();
            self.step(i, t, Input::LogStart(log_start));
        }
    }
}

/// A table arrives as its cells, whatever its sender has written out.
fn fetched(message: Message) -> Message {
    match message {
        Message::Install { configuration, table } => {
            let table = Written::all_of(&table).holding(&table).into();
            Message::Install { configuration, table }
        }
        other => other,
    }
}
