//! What a run is like: its size, its faults, and the rules that are switched off.

use penncloud::replication::{Reads, Rules};

/// Rules of the protocol that the surroundings of a replica keep; the others are [`Rules`].
#[derive(Clone, Copy, Debug)]
pub struct Switches {
    pub rules: Rules,
    /// Nobody hears of an epoch before it is on disk.
    pub epoch_stored: bool,
    /// A checkpoint holds committed entries alone.
    pub checkpoint_committed: bool,
    /// A reader at a replica has it ask the primary whether a prepared entry is committed that touches what it reads: its
    /// writer may have been answered.
    pub dirty_check: bool,
    /// Readers see the table after the last committed entry, not after the last prepared one.
    pub serve_committed: bool,
    /// A reader has a lease when it copies, and looks whether it still runs after it.
    pub read_then_check: bool,
    /// The rates of two clocks differ by no more than promises outlast leases.
    pub drift_bound: bool,
    /// Clocks go on while a machine is suspended.
    pub suspend_counts: bool,
    /// Only members of the in-sync set become primaries.
    pub promote_from_isr: bool,
    /// The master's register survives its restart.
    pub durable_register: bool,
    /// The master tells nobody of a change before it is on disk.
    pub register_synced: bool,
    /// A new disk is not taken for the one on which others count.
    pub disks_told_apart: bool,
    /// The master adds members that have caught up.
    pub adds: bool,
    /// Requests are executed on the conditions that they name.
    pub conditions: bool,
    /// What nobody reads any more is removed.
    pub sweeps: bool,
    /// The head of a big value is written after its chunks.
    pub head_last: bool,
    /// A staged value is abandoned, in the log, before its chunks go.
    pub abandon_first: bool,
    /// Chunks of what was overwritten stay for a while.
    pub retire_grace: bool,
}

impl Switches {
    pub const ALL: Switches = Switches {
        rules: Rules::ALL,
        epoch_stored: true,
        checkpoint_committed: true,
        dirty_check: true,
        serve_committed: true,
        read_then_check: true,
        drift_bound: true,
        suspend_counts: true,
        promote_from_isr: true,
        durable_register: true,
        register_synced: true,
        disks_told_apart: true,
        adds: true,
        conditions: true,
        sweeps: true,
        head_last: true,
        abandon_first: true,
        retire_grace: true,
    };
}

/// What a directed adversary waits for. Random faults alone seldom find what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adversary {
    /// A member is being added: cuts off the master's answer, and the newcomer from the primary.
    Add,
    /// Cuts off a primary whose lease runs, and restarts those who promised it to wait.
    Forget,
    /// A primary asks for a removal: restarts it before the answer comes.
    Remove,
    /// Has the primary elected again while a member that is cut off still holds a lease from it.
    OwnGrants,
    /// Cuts off a replica, and has another resign while the primary still waits for the lease of the first.
    Hold,
    /// Asks primaries to resign that have just begun.
    Resign,
    /// A primary resigns while a member with a lease stands still, which the next one removes at once.
    HandOver,
    /// Cuts off a primary together with another member.
    Partition,
    /// Cuts off members, and holds readers up between their two steps.
    Reader,
    /// Suspends a primary while the others go on.
    Suspend,
    /// Holds first tries up.
    FirstTry,
    /// Stops the master.
    Master,
}

/// What a seed's run is like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub nodes: usize,
    /// One for cells; with a second one for the chunks of big values.
    pub tablets: usize,
    pub min_insync: u32,
    pub reads: Reads,
    pub loss_percent: u64,
    pub long_delays: bool,
    /// Every second fault is this one.
    pub adversary: Option<Adversary>,
}

impl Plan {
    /// The plan of a seed: one in six reads by confirmation, one in six has big values.
    pub fn of(seed: u64) -> Plan {
        let mut random = Random(seed ^ 0x9e37);
        Plan {
            nodes: [3, 3, 3, 2, 5][random.below(5) as usize],
            min_insync: 1 + random.below(2) as u32,
            loss_percent: random.below(9),
            long_delays: random.chance(50),
            reads: if seed % 6 == 4 { Reads::Confirm } else { Reads::Lease },
            tablets: if seed % 6 == 5 { 2 } else { 1 },
            adversary: None,
        }
    }

    /// A plan in which an adversary has its way, in a network that loses little.
    pub fn against(adversary: Adversary, seed: u64) -> Plan {
        let adversary = Some(adversary);
        let lease = Plan { reads: Reads::Lease, tablets: 1, ..Plan::of(seed) };
        Plan { nodes: 3, min_insync: 1, loss_percent: 1, adversary, ..lease }
    }

    /// A plan with leases and nothing else.
    pub fn leasing(seed: u64) -> Plan {
        Plan { reads: Reads::Lease, tablets: 1, ..Plan::of(seed) }
    }

    /// A plan with big values.
    pub fn with_big_values(seed: u64) -> Plan {
        Plan { reads: Reads::Lease, tablets: 2, ..Plan::of(seed) }
    }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
