//! Seeded simulation of one tablet's replicas and their master: the code that production runs, over a
//! network, disks and clocks that fail.
//!
//! A seed is a run: everything that happens follows from it. Half a minute of faults, then peace, in which
//! everything must come back. All the time an omniscient observer compares what clients are told, what
//! replicas commit and what is on disk.

mod check;
mod clients;
mod faults;
mod master;
mod node;
mod nodes;
mod world;

use penncloud::replication::Rules;
pub use world::{Plan, World};

/// Runs one seed; the error says which invariant broke, and when.
pub fn run(seed: u64, rules: Rules, plan: Plan) -> Result<world::Tally, String> {
    std::panic::catch_unwind(move || World::new(seed, rules, plan).run())
        .unwrap_or_else(|panic| Err(panic_text(&*panic)))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()))
        .unwrap_or_else(|| "panic".into())
}

/// Seeds of every run of the tests, or the one that `SEED` names.
fn seeds(n: u64) -> Vec<u64> {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..n).collect(),
    }
}

#[test]
fn seeds_hold_all_invariants() {
    let usual = if crate::harness::long() { 20_000 } else { 200 };
    let n = std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let mut tally = world::Tally::default();
    for seed in seeds(n) {
        match run(seed, Rules::ALL, Plan::of(seed)) {
            Ok(one) => tally.add(&one),
            Err(why) => panic!("SEED={seed}: {why}"),
        }
    }
    println!("{n} seeds: {tally:?}");
}

/// Each rule taken away, and the first seed that shows the damage. A seed that shows none any more is looked
/// for again among the first 3,000.
const ABLATIONS: &[(&str, Rules, u64)] = &[
    ("pending_add_commits", Rules { pending_add_commits: false, ..Rules::ALL }, 38),
    ("pending_add_leases", Rules { pending_add_leases: false, ..Rules::ALL }, 100),
    ("remove_hold", Rules { remove_hold: false, ..Rules::ALL }, 23),
    // The wait before the answer to a seal and the new primary's commit gate cover the same promises: one
    // alone is enough, so both are taken away.
    ("promise_wait", Rules { promise_wait: false, sealed_promise: false, ..Rules::ALL }, 38),
    ("barrier", Rules { barrier: false, ..Rules::ALL }, 17),
    ("checkpoint_committed", Rules { checkpoint_committed: false, ..Rules::ALL }, 3),
    ("ack_after_sync", Rules { ack_after_sync: false, ..Rules::ALL }, 0),
    ("failed_condition_waits", Rules { failed_condition_waits: false, ..Rules::ALL }, 0),
    ("dedup", Rules { dedup: false, ..Rules::ALL }, 0),
    ("ack_match", Rules { ack_match: false, ..Rules::ALL }, 2),
    ("dirty_check", Rules { dirty_check: false, ..Rules::ALL }, 1),
    ("serve_committed", Rules { serve_committed: false, ..Rules::ALL }, 0),
    ("restart_seals", Rules { restart_seals: false, ..Rules::ALL }, 45),
    ("lease_from_own_ack", Rules { lease_from_own_ack: false, ..Rules::ALL }, 188),
    ("all_of_isr", Rules { all_of_isr: false, ..Rules::ALL }, 0),
    ("truncate_by_lineage", Rules { truncate_by_lineage: false, ..Rules::ALL }, 30),
    ("remove_after_answer", Rules { remove_after_answer: false, ..Rules::ALL }, 1),
    ("epoch_fence", Rules { epoch_fence: false, ..Rules::ALL }, 80),
    ("promise_at_start", Rules { promise_at_start: false, ..Rules::ALL }, 169),
    ("lease_check", Rules { lease_check: false, ..Rules::ALL }, 0),
];

#[test]
fn every_rule_is_needed() {
    let found = ABLATIONS
        .iter()
        .map(|(name, rules, kept)| (name, damage(*rules, *kept)))
        .collect::<Vec<_>>();
    for (name, damage) in &found {
        match damage {
            Some((seed, why)) => println!("without {name}: seed {seed}: {why}"),
            None => println!("without {name}: NOTHING"),
        }
    }
    assert!(
        found.iter().all(|(_, damage)| damage.is_some()),
        "a rule that is taken away does no damage"
    );
}

/// The damage that a set of rules does, with the kept seed or any other.
fn damage(rules: Rules, kept: u64) -> Option<(u64, String)> {
    let seeds = std::iter::once(kept).chain(0..3000);
    seeds
        .map(|seed| (seed, run(seed, rules, Plan::of(seed))))
        .find_map(|(seed, ran)| ran.err().map(|why| (seed, why)))
}
