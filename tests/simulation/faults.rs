//! Faults: what breaks, for how long, and the adversaries.

use super::plan::Adversary;
use super::world::*;
use penncloud::master::membership;
use penncloud::replication::{DiskSpace, Reads};

impl World {
    pub fn fault(&mut self) {
        if self.is_peace() {
            return;
        }
        let i = self.random.below(self.plan.nodes as u64) as usize;
        match self.plan.adversary {
            Some(adversary) if self.random.chance(60) => self.adverse(adversary),
            _ => self.random_fault(i),
        }
        let pause = self.random.between(50 * MS, 1500 * MS);
        self.after(pause, Event::Fault);
    }

    fn random_fault(&mut self, i: usize) {
        match self.random.below(122) {
            0..4 => self.adverse(Adversary::Forget),
            4..22 => self.crash(i),
            22..32 => self.pause(i),
            32..36 => self.suspend(i),
            36..50 => self.cut_pairs(),
            50..62 => self.isolate(i, true, true),
            62..72 => {
                let out = self.random.chance(50);
                self.isolate(i, out, !out);
            }
            72..82 => {
                let stall = self.random.between(100 * MS, 5 * SECOND);
                self.nodes[i].stalled_until = self.now + self.until_peace(stall);
            }
            82..90 => self.checkpoint(i),
            90..94 => self.stop_master(),
            94..97 => (0..self.plan.nodes).for_each(|i| self.crash(i)),
            97..103 => self.adverse(Adversary::Resign),
            103..105 => self.adverse(Adversary::OwnGrants),
            105 => self.adverse(Adversary::Hold),
            106 => self.adverse(Adversary::HandOver),
            107 => self.adverse(Adversary::Partition),
            108 => {
                self.tell_master(membership::Input::Shutdown { node: name(i), force: true });
                let back = self.random.between(SECOND, 6 * SECOND);
                self.after(back, Event::WakeUp { node: i });
            }
            109 => self.lose_disk(i),
            110..113 => {
                let (dies, left) = (self.random.chance(50), self.random.between(3, 9) as u32);
                self.flap(i, dies, left);
            }
            113..117 => self.fill_disk(i),
            117..120 => self.burst(),
            _ => self.pause_master(),
        }
    }

    /// A node dies and comes back at once, or its links are cut for a moment, again and again.
    pub fn flap(&mut self, i: usize, dies: bool, left: u32) {
        if left == 0 || self.is_peace() {
            return;
        }
        if dies {
            self.crash_for(i, 150 * MS);
        } else {
            let others = (0..=self.plan.nodes).filter(|j| *j != i);
            let cuts = others.flat_map(|j| [(i, j), (j, i)]).collect();
            let length = self.random.between(20 * MS, 400 * MS);
            self.cut_for(cuts, length);
        }
        let pause = self.random.between(200 * MS, 900 * MS);
        self.after(pause, Event::Flap { node: i, dies, left: left - 1 });
    }

    /// A disk is low, or full, for a while.
    fn fill_disk(&mut self, i: usize) {
        self.nodes[i].space = [DiskSpace::Low, DiskSpace::Exhausted][self.random.below(2) as usize];
        let length = self.random.between(100 * MS, 6 * SECOND);
        let space = DiskSpace::Enough;
        self.after(self.until_peace(length), Event::Space { node: i, space });
    }

    fn pause_master(&mut self) {
        let length = self.random.between(100 * MS, 9 * SECOND);
        self.master.paused_until = self.now + self.until_peace(length);
    }

    fn adverse(&mut self, adversary: Adversary) {
        let Some(primary) = self.route(0).primary.as_deref().map(number) else { return };
        let other = (primary + 1 + self.random.below(self.plan.nodes as u64 - 1) as usize)
            % self.plan.nodes;
        match adversary {
            Adversary::Add => self.isolate(other, true, true),
            Adversary::Remove => self.isolate(other, true, true),
            Adversary::Forget => self.forget(primary),
            Adversary::OwnGrants => self.elect_again(primary, other),
            Adversary::Hold => self.resign_during_hold(primary, other),
            Adversary::Resign => self.resign_any(primary),
            Adversary::Suspend => self.suspend(primary),
            Adversary::Master => self.stop_master(),
            Adversary::HandOver => self.resign_before_removal(primary, other),
            Adversary::Partition => self.cut_off_both(primary, other),
            Adversary::Reader => self.isolate(other, true, true),
            Adversary::FirstTry => self.pause(other),
        }
    }

    fn pause(&mut self, i: usize) {
        let longest = if self.plan.tablets > 1 { 3 * SECOND } else { 9 * SECOND };
        let length = self.random.between(100 * MS, longest);
        self.nodes[i].paused_until = self.now + self.until_peace(length);
    }

    /// The machine is suspended, or its host stands still: the clock should go on. Where reads are confirmed it
    /// may stand still, even while the node runs.
    fn suspend(&mut self, i: usize) {
        let length = self.random.between(100 * MS, 3 * SECOND);
        let length = self.until_peace(length);
        let confirms = self.plan.reads == Reads::Confirm;
        if !confirms || self.random.chance(50) {
            self.nodes[i].paused_until = self.now + length;
        }
        if confirms || !self.switches.suspend_counts {
            self.nodes[i].set_rate(self.now, 0);
            self.after(length, Event::Clock { node: i });
        }
    }

    /// A primary is cut off with a lease that still runs, and those who promised it to wait die and are back at
    /// once.
    fn forget(&mut self, primary: usize) {
        self.isolate(primary, true, true);
        for i in (0..self.plan.nodes).filter(|i| *i != primary) {
            self.crash_for(i, 100 * MS);
        }
    }

    /// The master hears nothing of the primary for so long that it has the epoch sealed; just then another member,
    /// which has a lease from that primary, is cut off; and the primary is elected again.
    fn elect_again(&mut self, primary: usize, other: usize) {
        let to_master = vec![(primary, self.master_place())];
        self.cut_for(to_master, 1700 * MS);
        let then = self.random.between(1000 * MS, 1600 * MS);
        self.after(then, Event::Isolate { node: other });
    }

    /// A member that holds a lease is cut off and removed; while the primary still waits for that lease, another
    /// one resigns in order.
    fn resign_during_hold(&mut self, primary: usize, other: usize) {
        self.isolate(other, true, true);
        let next = (0..self.plan.nodes).find(|i| *i != primary && *i != other);
        for (n, node) in next.into_iter().cycle().take(8).enumerate() {
            self.ask_to_resign(node, 900 * MS + n as u64 * 150 * MS);
        }
    }

    /// A member stands still while its lease runs on; the primary resigns at once; its successor has not begun when
    /// it removes that member.
    fn resign_before_removal(&mut self, primary: usize, other: usize) {
        let length = self.random.between(2 * SECOND, 5 * SECOND);
        self.nodes[other].paused_until = self.now + self.until_peace(length);
        self.ask_to_resign(primary, 0);
        self.ask_to_resign(primary, 5 * MS);
    }

    /// Neither the primary nor the other hears of the next epoch.
    fn cut_off_both(&mut self, primary: usize, other: usize) {
        let (places, both) = (0..=self.plan.nodes, [primary, other]);
        let rest = places.filter(|j| !both.contains(j));
        let cuts = rest.flat_map(|j| both.map(|i| [(i, j), (j, i)])).flatten().collect();
        self.cut(cuts);
    }

    fn resign_any(&mut self, primary: usize) {
        let any = self.random.below(self.plan.nodes as u64) as usize;
        let node = if self.random.chance(60) { primary } else { any };
        for n in 0..4 {
            let after = n * self.random.between(MS, 300 * MS);
            self.ask_to_resign(node, after);
        }
    }

    /// Asks a node, a while from now, to leave the epoch that will then be the newest that it knows.
    fn ask_to_resign(&mut self, node: usize, after: u64) {
        for t in 0..self.plan.tablets {
            for epoch in self.route(t).epoch..self.route(t).epoch + 2 {
                self.after(after, Event::Resign { node, t, epoch });
            }
        }
    }

    pub fn cut(&mut self, cuts: Vec<(usize, usize)>) {
        let length = self.random.between(200 * MS, 6 * SECOND);
        self.cut_for(cuts, length);
    }

    fn cut_for(&mut self, cuts: Vec<(usize, usize)>, length: u64) {
        for cut in &cuts {
            *self.cuts.entry(*cut).or_default() += 1;
        }
        self.after(self.until_peace(length), Event::Heal { cuts });
    }

    fn cut_pairs(&mut self) {
        let places = self.plan.nodes as u64 + 1;
        let n = self.random.between(1, 4);
        let cuts = (0..n)
            .map(|_| (self.random.below(places) as usize, self.random.below(places) as usize))
            .collect();
        self.cut(cuts);
    }

    pub fn isolate(&mut self, i: usize, out: bool, into: bool) {
        let others = (0..=self.plan.nodes).filter(|j| *j != i);
        let cuts = others
            .flat_map(|j| [out.then_some((i, j)), into.then_some((j, i))])
            .flatten()
            .collect();
        self.cut(cuts);
    }

    pub fn heal(&mut self, cuts: &[(usize, usize)]) {
        for cut in cuts {
            let n = self.cuts.get_mut(cut).expect("it was cut");
            *n -= 1;
            if *n == 0 {
                self.cuts.remove(cut);
            }
        }
    }
}
