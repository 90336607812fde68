//! Seeded simulation of a group's tablets and their master: the code that production runs, over a network, disks
//! and clocks that fail.
//!
//! A seed is a run: everything that happens follows from it. Twenty seconds of faults, then peace, in which
//! everything must come back. All the time an omniscient observer compares what clients are told, what replicas
//! commit and what is on disk.
//!
//! # Invariants, and where each is checked
//!
//! 1. One primary serves: `check_one_primary`, after every step.
//! 2. Changes of the register: `check_change`, at every compare-and-swap.
//! 3. Epochs never fall: `check_output` at every adoption, `check_start`.
//! 4. Nothing is acknowledged in an epoch that was left: `check_ack`.
//! 5. Equal names, equal logs: `Observer::prepared`, at every append.
//! 6. What a replica commits was committed by its primary: `observe`. What a primary commits all have: 7.
//! 7. Committed entries are on every disk of the in-sync set: `check_durable`, at every first commit, change,
//!    crash, cut of a log and installed table.
//! 8. Committed entries are not cut off, committed points do not fall, equal versions are equal tables:
//!    `check_output`, `observe`, `check_state` at every checkpoint, `is_finished`.
//! 9. An acknowledgement covers what is equal to the primary's log and on disk: `check_ack`.
//! 10. Nothing is served before the barrier: `check_serving`.
//! 11. Who may read takes part in every commit: `check_commit`.
//! 12. Leases end before promises: `check_lease`, every 50 ms.
//! 13. Reads and failed conditions: `Observer::read`, `Observer::mismatch`.
//! 14. Executed once, and never once refused: `Observer::committed`, `Observer::refused`.
//! 15. Conditions hold in the order of commits: `Observer::check_condition`.
//! 16. Big values: `check_heads`, `check_chunks`, `check_values_at_end`.
//! 17. Prepared before acknowledged, applied before published: `check_ack`, `check_output`. The bound on memory is
//!     the shell's.
//! 18. A new disk is in no in-sync set before it was added: `check_change`; till then 7 counts it for nothing.
//!     Damaged disks are the shell's and the master's: `tests/storage`, `tests/master.rs`.
//! 19. In peace everything comes back within ten seconds, and all clients are answered: `is_whole`, `is_finished`.

mod check;
mod clients;
mod faults;
mod invariants;
mod master;
mod node;
mod nodes;
mod plan;
mod values;
mod world;

use penncloud::replication::{Reads, Rules};
use plan::{Adversary, Plan, Switches};
use world::{Tally, World};

/// Runs one seed; the error says which invariant broke, and when.
fn run(seed: u64, switches: Switches, plan: Plan) -> Result<Tally, String> {
    std::panic::catch_unwind(move || World::new(seed, switches, plan).run())
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
    let mut tally = Tally::default();
    for seed in seeds(n) {
        match run(seed, Switches::ALL, Plan::of(seed)) {
            Ok(one) => tally.add(&one),
            Err(why) => panic!("SEED={seed}: {why}"),
        }
    }
    println!("{n} seeds: {tally:?}");
}

/// A rule taken away: its name in REPLICATION.md, or what it is; the switches without it; the plans in which it is
/// missed; and the first seed that shows the damage.
struct Ablation {
    name: &'static str,
    without: Switches,
    plan: fn(u64) -> Plan,
    kept: u64,
}

/// Takes away a rule of the replicas.
macro_rules! rule {
    ($name:literal, $plan:expr, $kept:literal, $($rule:ident),+) => {
        Ablation {
            name: $name,
            without: Switches { rules: Rules { $($rule: false,)+ ..Rules::ALL }, ..Switches::ALL },
            plan: $plan,
            kept: $kept,
        }
    };
}

/// Takes away a rule of what is around the replicas.
macro_rules! around {
    ($name:literal, $plan:expr, $kept:literal, $rule:ident) => {
        Ablation {
            name: $name,
            without: Switches { $rule: false, ..Switches::ALL },
            plan: $plan,
            kept: $kept,
        }
    };
}

fn against_add(seed: u64) -> Plan {
    Plan::against(Adversary::Add, seed)
}
fn against_forget(seed: u64) -> Plan {
    Plan::against(Adversary::Forget, seed)
}
fn against_remove(seed: u64) -> Plan {
    Plan::against(Adversary::Remove, seed)
}
fn against_grants(seed: u64) -> Plan {
    Plan::against(Adversary::OwnGrants, seed)
}
fn against_hold(seed: u64) -> Plan {
    Plan::against(Adversary::Hold, seed)
}
fn against_hand_over(seed: u64) -> Plan {
    Plan::against(Adversary::HandOver, seed)
}
fn confirm_against_partition(seed: u64) -> Plan {
    Plan { reads: Reads::Confirm, ..Plan::against(Adversary::Partition, seed) }
}
fn against_resign(seed: u64) -> Plan {
    Plan::against(Adversary::Resign, seed)
}
fn against_reader(seed: u64) -> Plan {
    Plan::against(Adversary::Reader, seed)
}
fn against_suspend(seed: u64) -> Plan {
    Plan::against(Adversary::Suspend, seed)
}
fn against_first_try(seed: u64) -> Plan {
    Plan::against(Adversary::FirstTry, seed)
}
fn against_master(seed: u64) -> Plan {
    Plan::against(Adversary::Master, seed)
}

/// The rules of REPLICATION.md, section 10, in its order; then those that came with clean changes, confirmed reads,
/// remembered refusals and big values.
const ABLATIONS: &[Ablation] = &[
    rule!("pending add counted for commit", against_add, 0, pending_add_commits),
    rule!("pending add counted for lease", against_add, 58, pending_add_leases),
    rule!("remove hold", Plan::leasing, 16, remove_hold),
    // The wait before the answer to a seal and the new primary's commit gate cover the same promises: one alone is
    // enough, so both are taken away.
    rule!("promise wait before SEALED", Plan::leasing, 9, promise_wait, sealed_promise),
    rule!("barrier before serving", Plan::leasing, 0, barrier),
    // A lease that is looked at too early does no harm to readers of immutable views: what was current when it ran is of
    // an instant within the call. What bites is a lease that was regained after the copy.
    around!("read-then-check", against_reader, 127, read_then_check),
    around!("checkpoint only committed", Plan::leasing, 3, checkpoint_committed),
    rule!("ack after fsync", Plan::leasing, 0, ack_after_sync),
    rule!("failed CPUT waits for what it saw", Plan::leasing, 0, failed_condition_waits),
    around!("drift bound", Plan::leasing, 3, drift_bound),
    rule!("dedup", Plan::leasing, 0, dedup),
    rule!("ack = match, not log end", Plan::leasing, 1, ack_match),
    around!("dirty check at replicas", Plan::leasing, 0, dirty_check),
    around!("serving prepared values as read", Plan::leasing, 0, serve_committed),
    rule!("restarted primary is sealed", Plan::leasing, 19, restart_seals),
    rule!("read lease counted from own ack", Plan::leasing, 2, lease_from_own_ack),
    rule!("all-of-isr commit", Plan::leasing, 0, all_of_isr),
    rule!("truncation by lineage", Plan::leasing, 10, truncate_by_lineage),
    around!("clock that counts suspend", against_suspend, 0, suspend_counts),
    around!("promote only from isr", Plan::leasing, 1, promote_from_isr),
    rule!("REMOVE effective only after the master's answer", Plan::leasing, 0, remove_after_answer),
    rule!("epoch fence on PREPARE", Plan::leasing, 0, epoch_fence),
    rule!("promise at process start", against_forget, 0, promise_at_start),
    rule!("lease check at all", Plan::leasing, 0, lease_check),
    around!("durable isr at master", against_master, 2, durable_register),
    rule!("UNKNOWN, not FAILED, on timeout", Plan::leasing, 164, unknown_not_refused),
    rule!("confirm: every isr member acks", confirm_against_partition, 15, confirm_all),
    rule!("SEAL/commit gate cover the primary's own grants", against_grants, 16, own_grants),
    rule!("commit gate when a sealed primary's own REMOVE wins", against_remove, 1, sealed_promise),
    rule!("who resigns has sealed, and holds no lease", against_resign, 39, resign_seals),
    rule!("a primary resigns past its barrier, drained", against_resign, 55, resign_drains),
    rule!("a primary that goes on takes its hold along", against_hold, 9, hold_carried_over),
    rule!("a hand-over's leases are waited for at a removal", against_hand_over, 0, hand_over_owes),
    rule!("refusals of repeats are logged", against_first_try, 10, refusals_logged),
    around!("head after chunks", Plan::with_big_values, 0, head_last),
    around!("abandoned before the chunks go", Plan::with_big_values, 0, abandon_first),
    around!("grace before the chunks go", Plan::with_big_values, 14, retire_grace),
];

#[test]
fn every_rule_is_needed() {
    let found: Vec<_> =
        ABLATIONS.iter().map(|ablation| (ablation.name, damage(ablation))).collect();
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

/// The damage that is done without a rule, with the kept seed or any other of the first 3,000.
fn damage(ablation: &Ablation) -> Option<(u64, String)> {
    let seeds = std::iter::once(ablation.kept).chain(0..3000);
    let mut runs = seeds.map(|seed| (seed, run(seed, ablation.without, (ablation.plan)(seed))));
    runs.find_map(|(seed, ran)| ran.err().map(|why| (seed, why)))
}

/// The directed plans hold all invariants too, with every rule in force.
#[test]
fn adversaries_find_nothing() {
    for ablation in ABLATIONS {
        let ran = seeds(1).into_iter().try_for_each(|seed| {
            let seed = seed + ablation.kept;
            run(seed, Switches::ALL, (ablation.plan)(seed)).map(drop)
        });
        assert_eq!(ran, Ok(()), "{}", ablation.name);
    }
}
