//! Which runs are merged, and when. Pure: no files.
//!
//! Of n flushes of one size with at most k runs, at least some cells have to be rewritten m times once n exceeds the
//! binomial of m + k over k; and with runs merged by how often they were merged before, none is rewritten more often
//! than that (Bentley and Saxe 1980; Mathieu, Staelin, Young and Yousefi 2014). So each run says in its footer how often
//! its cells have been merged, and once there are too many runs the newest that were merged least are. Sizes count only
//! against what is out of proportion: a large run is not rewritten for the sake of a few small ones.
//!
//! What is overwritten and deleted is garbage until a merge of all. That is due once the files take more than twice what
//! is alive.

use crate::storage::cells::SETTLED;
use std::ops::Range;

/// With more runs than this, some are merged.
pub const RUNS_MAX: usize = 16;

/// Bytes of garbage for which nothing is done, however little is alive.
const SLACK_BYTES: u64 = 4 << 20;

/// A run is not merged with newer ones that are together this many times smaller.
const FACTOR: u64 = 16;

/// What is known of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Length of its file.
    pub bytes: u64,
    /// How often its cells were merged, or [`SETTLED`].
    pub merges: u32,
}

/// What is known of a tablet's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// Length of all value files.
    pub bytes: u64,
    /// Whether one of them is less than half referred to.
    pub sparse: bool,
}

/// The runs to be merged, by their places from the oldest on, if any are due.
pub fn choose(runs: &[Size], values: Values, live_bytes: u64) -> Option<Range<usize>> {
    let bytes = runs.iter().map(|run| run.bytes).sum::<u64>() + values.bytes;
    let has_garbage = bytes > live_bytes.saturating_mul(2).saturating_add(SLACK_BYTES);
    if has_garbage && (runs.len() > 1 || (values.sparse && !runs.is_empty())) {
        return Some(0..runs.len());
    }
    (runs.len() > RUNS_MAX).then(|| least_merged(runs))
}

/// How often the cells of a merge of these runs will have been merged.
pub fn merges_of(runs: &[Size]) -> u32 {
    runs.iter().map(|run| run.merges).max().unwrap_or(0).saturating_add(1)
}

/// The newest runs that were merged least, two or more; if all are out of proportion, the two that are cheapest.
fn least_merged(runs: &[Size]) -> Range<usize> {
    let mut levels: Vec<u32> = runs.iter().map(|run| run.merges).collect();
    levels.sort_unstable();
    levels.dedup();
    let groups = levels.into_iter().map(|level| newest(runs, level));
    let mut groups = groups.filter(|group| group.len() > 1);
    groups.next().unwrap_or_else(|| cheapest(runs))
}

/// The two neighbours that are smallest together.
fn cheapest(runs: &[Size]) -> Range<usize> {
    let together = |start: &usize| runs[*start].bytes + runs[start + 1].bytes;
    let start = (0..runs.len() - 1).min_by_key(together).expect("there are two runs or more");
    start..start + 2
}

/// The newest runs that were merged at most so often, and are not out of proportion. The oldest takes part, whatever it
/// is, if all others do and are as large together.
fn newest(runs: &[Size], level: u32) -> Range<usize> {
    let (mut start, mut bytes) = (runs.len(), 0);
    while let Some(before) = start.checked_sub(1) {
        let Size { bytes: more, merges } = runs[before];
        let is_oldest = before == 0 && more <= bytes;
        let is_similar = merges <= level && merges != SETTLED && more / FACTOR <= bytes;
        if !(is_oldest || is_similar || start == runs.len()) {
            break;
        }
        bytes += more;
        start = before;
    }
    start..runs.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A tablet whose flushes are of one size.
    #[derive(Default)]
    struct Model {
        runs: Vec<Size>,
        /// Keys that there are; none: each is new.
        keys: Option<u64>,
        /// Bytes that were there before.
        loaded: u64,
        flushed: u64,
        rewritten: u64,
        most_runs: usize,
        most_bytes: u64,
    }

    impl Model {
        /// Bytes of what runs hold together: where keys are overwritten, each is chosen by chance.
        fn together(&self, runs: &[Size]) -> u64 {
            let Some(keys) = self.keys else { return runs.iter().map(|run| run.bytes).sum() };
            let missed = runs.iter().map(|run| 1.0 - run.bytes as f64 / keys as f64);
            (keys as f64 * (1.0 - missed.product::<f64>())) as u64
        }

        fn flush(&mut self, bytes: u64) {
            self.flushed += bytes;
            self.runs.push(Size { bytes, merges: 0 });
            let live = self.keys.unwrap_or(self.loaded + self.flushed);
            while let Some(group) = choose(&self.runs, Values::default(), live) {
                let merges = match group == (0..self.runs.len()) && self.keys.is_some() {
                    true => SETTLED,
                    false => merges_of(&self.runs[group.clone()]),
                };
                let bytes = self.together(&self.runs[group.clone()]);
                self.rewritten += bytes;
                self.runs.splice(group, [Size { bytes, merges }]);
            }
            self.most_runs = self.most_runs.max(self.runs.len());
            self.most_bytes = self.most_bytes.max(self.runs.iter().map(|run| run.bytes).sum());
        }

        /// Bytes rewritten for each that was flushed.
        fn rewriting(&self) -> f64 {
            self.rewritten as f64 / self.flushed as f64
        }
    }

    #[test]
    fn what_is_only_inserted_is_rewritten_seldom() {
        for (flushes, most) in [(10, 0.0), (100, 1.0), (360, 1.9), (1000, 3.0)] {
            let mut model = Model::default();
            (0..flushes).for_each(|_| model.flush(64 * MIB));
            println!("{flushes} flushes: {:.2} bytes rewritten for each", model.rewriting());
            assert!(model.rewriting() <= most, "{flushes}: {}", model.rewriting());
            assert!(model.most_runs <= RUNS_MAX);
        }
    }

    #[test]
    fn what_is_overwritten_by_chance_takes_twice_its_room_and_is_rewritten_seldom() {
        for (size, most) in [(10, 0.9), (100, 1.8), (360, 2.5), (1000, 3.1)] {
            let mut model = Model { keys: Some(size * 64 * MIB), ..Model::default() };
            (0..size * 10).for_each(|_| model.flush(64 * MIB));
            println!("{size} times a flush: {:.2} bytes rewritten for each", model.rewriting());
            assert!(model.rewriting() <= most, "{size}: {}", model.rewriting());
            assert!(model.most_runs <= RUNS_MAX);
            assert!(model.most_bytes <= 2 * size * 64 * MIB + SLACK_BYTES);
        }
    }

    #[test]
    fn a_large_run_is_not_rewritten_for_small_ones() {
        let mut model = Model { loaded: 100_000 * MIB, ..Model::default() };
        model.runs.push(Size { bytes: model.loaded, merges: SETTLED });
        (0..20).for_each(|_| model.flush(1000 * MIB));
        (0..3000).for_each(|_| model.flush(MIB));
        assert!(model.runs[0].bytes == 100_000 * MIB);
        println!("beside a large run: {:.2} bytes rewritten for each", model.rewriting());
        assert!(model.rewriting() < 2.0, "{}", model.rewriting());
        assert!(model.most_runs <= RUNS_MAX);
    }

    #[test]
    fn sizes_of_every_kind_keep_to_the_bound() {
        let mut seed = 7u64;
        let mut model = Model::default();
        for _ in 0..5000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            model.flush(1 << (seed >> 59));
        }
        println!("sizes of every kind: {:.2} bytes rewritten for each", model.rewriting());
        assert!(model.rewriting() < 6.0, "{}", model.rewriting());
        assert!(model.most_runs <= RUNS_MAX);
    }

    #[test]
    fn garbage_is_merged_away_and_only_where_that_helps() {
        let run = |bytes| Size { bytes, merges: 0 };
        let sparse = Values { bytes: 100 * MIB, sparse: true };
        let full = Values { bytes: 100 * MIB, sparse: false };
        assert_eq!(choose(&[run(MIB)], sparse, 40 * MIB), Some(0..1));
        assert_eq!(choose(&[run(MIB)], full, 40 * MIB), None, "there is nothing to be given up");
        assert_eq!(choose(&[run(MIB), run(1)], full, 40 * MIB), Some(0..2));
        assert_eq!(choose(&[run(MIB), run(1)], full, 50 * MIB), None);
        assert_eq!(choose(&[], sparse, 0), None);
    }
}
