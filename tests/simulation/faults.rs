//! Faults: what breaks, for how long, and the adversaries.

use super::world::*;

impl World {
    pub(super) fn fault(&mut self) {
        if self.now >= FAULTS_UNTIL {
            return;
        }
        let n = self.plan.nodes as u64;
        let i = self.random.below(n) as usize;
        match self.random.below(100) {
            0..4 => self.forget(),
            4..22 => self.crash(i),
            22..36 => {
                self.nodes[i].paused_until = self.now + self.random.between(100 * MS, 9 * SECOND)
            }
            36..50 => self.cut_pairs(),
            50..62 => self.isolate(i, true, true),
            62..72 => {
                let (out, into) =
                    if self.random.chance(50) { (true, false) } else { (false, true) };
                self.isolate(i, out, into);
            }
            72..82 => {
                self.nodes[i].stalled_until = self.now + self.random.between(100 * MS, 5 * SECOND)
            }
            82..90 => self.checkpoint(i),
            90..96 => {
                self.master.up = false;
                let back = self.random.between(100 * MS, 5 * SECOND);
                self.after(back, Event::MasterStart);
            }
            _ => (0..self.plan.nodes).for_each(|i| self.crash(i)),
        }
        let pause = self.random.between(50 * MS, 1500 * MS);
        self.after(pause, Event::Fault);
    }

    /// The adversary: the primary is cut off with a lease that still runs, and those who promised it to wait die
    /// and are back at once.
    pub(super) fn forget(&mut self) {
        let Some(primary) = self.master.route.primary.clone() else { return };
        let primary = number(&primary);
        self.isolate(primary, true, true);
        for i in (0..self.plan.nodes).filter(|i| *i != primary) {
            self.crash_for(i, 100 * MS);
        }
    }

    pub(super) fn cut(&mut self, cuts: Vec<(usize, usize)>) {
        for cut in &cuts {
            *self.cuts.entry(*cut).or_default() += 1;
        }
        let pause = self.random.between(200 * MS, 6 * SECOND);
        self.after(pause, Event::Heal { cuts });
    }

    pub(super) fn cut_pairs(&mut self) {
        let places = self.plan.nodes as u64 + 1;
        let n = self.random.between(1, 4);
        let cuts = (0..n)
            .map(|_| (self.random.below(places) as usize, self.random.below(places) as usize))
            .collect();
        self.cut(cuts);
    }

    pub(super) fn isolate(&mut self, i: usize, out: bool, into: bool) {
        let others = (0..=self.plan.nodes).filter(|j| *j != i);
        let cuts = others
            .flat_map(|j| [out.then_some((i, j)), into.then_some((j, i))])
            .flatten()
            .collect();
        self.cut(cuts);
    }

    pub(super) fn heal(&mut self, cuts: &[(usize, usize)]) {
        for cut in cuts {
            let n = self.cuts.get_mut(cut).expect("it was cut");
            *n -= 1;
            if *n == 0 {
                self.cuts.remove(cut);
            }
        }
    }
}
