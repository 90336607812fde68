//! The rules that a replica keeps, as switches. Production runs with [`Rules::ALL`]; a simulation takes one away and
//! must find the damage. What readers, checkpoints, the master and the clocks must keep is switched there.

/// Which rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A commit needs the member that is being added.
    pub pending_add_commits: bool,
    /// A lease needs the member that is being added.
    pub pending_add_leases: bool,
    /// After a member was removed nothing commits until its read lease has run out.
    pub remove_hold: bool,
    /// A sealed node answers only when its promises have run out.
    pub promise_wait: bool,
    /// A new primary serves nothing before its first entry is committed.
    pub barrier: bool,
    /// An entry is acknowledged to the primary only when it is on disk.
    pub ack_after_sync: bool,
    /// A failed condition is answered only when what it saw is committed.
    pub failed_condition_waits: bool,
    /// An outcome that rests on no entry is a read, and needs what reads need.
    pub looks_are_reads: bool,
    /// A request executes once.
    pub dedup: bool,
    /// An acknowledgement covers only what is known to be equal to the primary's log in this epoch.
    pub ack_match: bool,
    /// A restarted primary counts its epoch as sealed.
    pub restart_seals: bool,
    /// A read lease counts from the replica's own last message, not from the receipt of the grant.
    pub lease_from_own_ack: bool,
    /// A commit needs every in-sync member, not a majority.
    pub all_of_isr: bool,
    /// Entries are taken only where they follow the log's own.
    pub prev_matches: bool,
    /// What is prepared and not committed has a bound.
    pub prepared_bounded: bool,
    /// A log is cut where it differs from the primary's, not at the own committed point.
    pub truncate_by_lineage: bool,
    /// A member counts until the master's answer to its removal has arrived.
    pub remove_after_answer: bool,
    /// Messages of an older epoch are refused.
    pub epoch_fence: bool,
    /// A process starts with a promise, for those that it has forgotten.
    pub promise_at_start: bool,
    /// Reads need a lease at all.
    pub lease_check: bool,
    /// Seal and commit gate cover the leases that this node has handed out itself.
    pub own_grants: bool,
    /// The commit gate covers the promises of a sealed primary whose own removal of a member wins.
    pub sealed_promise: bool,
    /// A read is confirmed by all on whom a commit depends, not by any one.
    pub confirm_all: bool,
    /// What has a version, and nobody knows whether it will be committed, is told to be unknown.
    pub unknown_not_refused: bool,
    /// What a repeat is refused with is logged: a first try that is held up somewhere meets it.
    pub refusals_logged: bool,
    /// Who resigns has sealed the epoch, and holds no lease of it.
    pub resign_seals: bool,
    /// A primary resigns when its barrier and all that it has prepared are committed, not before.
    pub resign_drains: bool,
    /// A primary that goes on waits for the leases for which it waited before.
    pub hold_carried_over: bool,
    /// A primary that began without a wait, because the one before had resigned, waits when it removes a member.
    pub hand_over_owes: bool,
}

impl Rules {
    /// All of them: what production runs with.
    pub const ALL: Rules = Rules {
        pending_add_commits: true,
        pending_add_leases: true,
        remove_hold: true,
        promise_wait: true,
        barrier: true,
        ack_after_sync: true,
        failed_condition_waits: true,
        looks_are_reads: true,
        dedup: true,
        ack_match: true,
        restart_seals: true,
        lease_from_own_ack: true,
        all_of_isr: true,
        prev_matches: true,
        prepared_bounded: true,
        truncate_by_lineage: true,
        remove_after_answer: true,
        epoch_fence: true,
        promise_at_start: true,
        lease_check: true,
        own_grants: true,
        sealed_promise: true,
        confirm_all: true,
        unknown_not_refused: true,
        refusals_logged: true,
        resign_seals: true,
        resign_drains: true,
        hold_carried_over: true,
        hand_over_owes: true,
    };
}
