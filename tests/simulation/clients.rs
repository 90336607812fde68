//! Clients: reads and writes through any node, retries, and what they are told.

use super::ops::{Ask, Look, choose};
use super::plan::Adversary;
use super::values::Part;
use super::world::*;
use penncloud::error::Error;
use penncloud::protocol::cell::Key;
use penncloud::protocol::command::{Op, RequestId};
use penncloud::replication::{Input, Outcome, Proposal, Reads, Replica, Setting, Table};
use std::sync::Arc;

/// How long a client waits for an operation.
const PATIENCE: u64 = 4 * SECOND;
/// The client that sends once and waits: retries would hide stale reads.
const PATIENT: usize = CLIENTS - 1;
/// How long an operation may take when all is well.
const PROBE_PATIENCE: u64 = 2 * SECOND;
/// Writes of a burst, and the size of each: more than may be prepared.
const BURST: u64 = 60;
const BURST_BYTES: usize = 2000;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Client(usize),
    /// Who writes a lot at once, and waits for no answer.
    Burst,
    /// Part of a protocol of several steps.
    Part(Part),
}

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Asked {
    pub who: Who,
    pub seq: u64,
    pub t: usize,
    pub look: Look,
    /// What to do together. None: a read.
    pub ops: Vec<Op>,
    pub retry: bool,
    /// Which of its client's tries it is.
    pub nth: u32,
}

#[derive(Clone, Debug)]
pub enum Told {
    Value(Option<Vec<u8>>),
    Outcome(Outcome),
    Retry,
}

/// An operation of a client that is not over.
pub struct Doing {
    seq: u64,
    t: usize,
    ask: Ask,
    /// The node that is asked; none: any one, at every try.
    through: Option<usize>,
    began: u64,
    deadline: u64,
    /// Whether some try was not refused definitely.
    open: bool,
    /// Tries sent. The connection of a try is closed when the next is made: its answer is never heard.
    tries: u32,
    waits: bool,
}

pub struct Client {
    pub id: u128,
    seq: u64,
    pub doing: Option<Doing>,
}

impl Client {
    pub fn new(i: usize) -> Client {
        Client { id: i as u128 + 1, seq: 0, doing: None }
    }
}

impl World {
    /// A client asks for something.
    pub fn begin(&mut self, c: usize) {
        let until = if c == PATIENT { CLIENTS_UNTIL - PATIENCE } else { CLIENTS_UNTIL };
        if self.now >= until {
            return;
        }
        let name = format!("c{c}-{}", self.clients[c].seq + 1);
        let nobody = Table::default();
        let known = self.nodes.iter().find_map(|node| node.replica(0));
        let known = known.map_or(&nobody, |replica| replica.committed());
        let ask = choose(&mut self.random, &name, known);
        let patience = if c == PATIENT { 2 * PATIENCE } else { PATIENCE };
        self.ask(c, ask, 0, None, patience);
    }

    fn ask(&mut self, c: usize, ask: Ask, t: usize, through: Option<usize>, patience: u64) {
        let (began, deadline) = (self.now, self.now + patience);
        let client = &mut self.clients[c];
        client.seq += 1;
        let (id, seq) = (client.id, client.seq);
        self.observers[t].asks((id, seq), ask.ops.clone());
        let (open, tries, waits) = (false, 0, false);
        client.doing = Some(Doing { seq, t, ask, through, began, deadline, open, tries, waits });
        self.again(c, seq);
    }

    /// 19: now a write to each tablet, and a read, is answered at each node.
    pub fn probe(&mut self) {
        let tablets = self.plan.tablets;
        for place in 0..self.plan.nodes * tablets {
            let (node, t) = (place / tablets, place % tablets);
            let column = format!("probe-{node}").into_bytes();
            let look = Look::Cell(Key::new(b"probe", &column));
            let write = vec![Op::put(b"probe", column, b"here")];
            for ops in [write, Vec::new()] {
                let c = self.clients.len();
                self.clients.push(Client::new(c));
                self.ask(c, Ask { look: look.clone(), ops }, t, Some(node), PROBE_PATIENCE);
            }
        }
    }

    /// Sends a request, again if need be; gives up when its time is over.
    pub fn again(&mut self, c: usize, seq: u64) {
        let Some(doing) = self.clients[c].doing.as_mut().filter(|d| d.seq == seq) else { return };
        if self.now >= doing.deadline {
            let refused = !doing.ask.ops.is_empty() && !doing.open && !doing.waits;
            return self.give_up(c, seq, refused);
        }
        doing.open |= doing.waits;
        if c == PATIENT && doing.tries > 0 && doing.open {
            return self.after(100 * MS, Event::Again { client: c, seq });
        }
        let retry = doing.open;
        (doing.tries, doing.waits) = (doing.tries + 1, true);
        let (t, nth, who) = (doing.t, doing.tries, Who::Client(c));
        let (look, ops) = (doing.ask.look.clone(), doing.ask.ops.clone());
        let asked = Arc::new(Asked { who, seq, t, look, ops, retry, nth });
        let any = self.random.below(self.plan.nodes as u64) as usize;
        let node = doing.through.unwrap_or(any);
        let delay = self.delay_of_try(retry);
        if self.is_peace() || self.random.chance(98) {
            self.after(delay, Event::Request { node, asked, hops: 0 });
        }
        let wait = self.random.between(300 * MS, 900 * MS);
        self.after(wait, Event::Again { client: c, seq });
    }

    /// Now and then a first try is held up on its way, while the client tries again.
    fn delay_of_try(&mut self, retry: bool) -> u64 {
        let held_up = if self.plan.adversary == Some(Adversary::FirstTry) { 20 } else { 1 };
        if !retry && !self.is_peace() && self.random.chance(held_up) {
            return self.random.between(300 * MS, 2 * SECOND);
        }
        self.random.between(100, 2 * MS)
    }

    fn give_up(&mut self, c: usize, seq: u64, refused: bool) {
        if c >= CLIENTS {
            let ask = self.clients[c].doing.as_ref().map(|doing| &doing.ask);
            return self.fail(Err(format!("19: in peace nobody answers {ask:?}")));
        }
        if refused {
            let checked = self.observers[0].refused((self.clients[c].id, seq));
            self.fail(checked);
        } else {
            self.tally.unknown += 1;
        }
        self.done(c);
    }

    fn done(&mut self, c: usize) {
        self.clients[c].doing = None;
        let held_up = self.plan.adversary == Some(Adversary::FirstTry);
        let longest = if held_up { SECOND } else { 60 * MS };
        let pause = self.random.between(MS, longest);
        if c < CLIENTS {
            self.after(pause, Event::Client { client: c });
        }
    }

    /// A write that nobody waits for, many times at once.
    pub fn burst(&mut self) {
        let node = self.random.below(self.plan.nodes as u64) as usize;
        let look = Look::Cell(Key::new(b"burst", b"b"));
        for n in 0..BURST {
            let ops = vec![Op::put(b"burst", b"b", vec![b'0' + (n % 10) as u8; BURST_BYTES])];
            let (who, seq, retry, look) = (Who::Burst, 0, false, look.clone());
            let asked = Arc::new(Asked { who, seq, t: 0, look, ops, retry, nth: 1 });
            self.after(n * 100, Event::Request { node, asked, hops: 0 });
        }
    }

    pub fn request(&mut self, i: usize, asked: Arc<Asked>, hops: u8) {
        if !self.is_for_now(i, &asked) {
            return self.answer(asked, Told::Retry);
        }
        let t = asked.t;
        match asked.ops.is_empty() {
            false if self.replica(i, t).leads() => {
                let proposal = self.proposal(i, &asked);
                self.step(i, t, Input::Propose(proposal));
            }
            true if self.can_read(i, t) || self.reads_anyhow(i, t) => self.read(i, asked),
            true if self.can_ask(i, t) => {
                let token = self.token(i, asked);
                self.step(i, t, Input::Query(token));
            }
            _ => match self.primary_of(i, t).filter(|primary| hops == 0 && *primary != i) {
                Some(node) => self.send(i, node, Event::Request { node, asked, hops: 1 }),
                None => self.answer(asked, Told::Retry),
            },
        }
    }

    fn proposal(&mut self, i: usize, asked: &Arc<Asked>) -> Proposal {
        let (token, low) = (self.token(i, asked.clone()), asked.seq);
        let request = match asked.who {
            Who::Client(c) => Some(RequestId { client: self.clients[c].id, request: low, low }),
            Who::Part(_) | Who::Burst => None,
        };
        let (mut ops, setting) = (asked.ops.clone(), self.setting(i));
        if !self.switches.conditions {
            ops.iter_mut().for_each(drop_condition);
        }
        let single = ops.len() == 1;
        Proposal { token, request, retry: asked.retry, ops, single, setting }
    }

    pub fn setting(&self, i: usize) -> Setting {
        Setting {
            now: self.now / MS,
            stage_ms: super::values::STAGE_MS,
            retire_ms: if self.switches.retire_grace { super::values::RETIRE_MS } else { 0 },
            tablet_bytes_max: 1 << 30,
            disk_space: self.nodes[i].space,
        }
    }

    pub fn replica(&self, i: usize, t: usize) -> &Replica {
        self.nodes[i].replica(t).expect("events of dead nodes are dropped")
    }

    pub fn can_read(&self, i: usize, t: usize) -> bool {
        self.replica(i, t).may_read(self.nodes[i].clock(self.now))
    }

    /// Without leases a reader at any member asks the primary what is committed.
    fn can_ask(&self, i: usize, t: usize) -> bool {
        let (replica, me) = (self.replica(i, t), &self.nodes[i].name);
        self.plan.reads == Reads::Confirm && replica.configuration().isr.contains(me)
    }

    pub fn primary_of(&self, i: usize, t: usize) -> Option<usize> {
        let primary = self.replica(i, t).configuration().primary.clone()?;
        Some(number(&primary))
    }

    fn token(&mut self, i: usize, asked: Arc<Asked>) -> u64 {
        self.next_token += 1;
        self.tokens.insert((i, self.next_token), asked);
        self.next_token
    }

    /// The rule off: a member copies without a lease, and looks for one when it has copied.
    fn reads_anyhow(&self, i: usize, t: usize) -> bool {
        let configuration = self.replica(i, t).configuration();
        !self.switches.read_then_check && configuration.members.contains(&self.nodes[i].name)
    }

    /// A read by a thread beside the replica: takes a view, the value together with the lease, and looks at the
    /// clock after it. Now and then the thread is held up between the two, alone or with its node.
    fn read(&mut self, i: usize, asked: Arc<Asked>) {
        let (t, replica) = (asked.t, self.replica(i, asked.t));
        let touched = |entry: &Arc<_>| asked.look.is_touched_by(entry);
        if !replica.leads() && replica.prepared().any(touched) && self.switches.dirty_check {
            let token = self.token(i, asked);
            return self.step(i, t, Input::Query(token));
        }
        if self.can_read(i, t) {
            let checked = self.check_serving(i, t);
            self.fail(checked);
        }
        let replica = self.replica(i, t);
        let committed = self.switches.serve_committed;
        let table: &Table = if committed { replica.committed() } else { replica.last() };
        let copied = Told::Value(asked.look.at(table));
        let lease = self.switches.rules.lease_check;
        let lease_until = if lease { replica.lease_until() } else { u64::MAX };
        let (life, often) = (self.nodes[i].life, self.plan.adversary == Some(Adversary::Reader));
        let mut delay = self.random.between(10, 200);
        if !self.is_peace() && self.random.chance(if often { 30 } else { 1 }) {
            delay = self.random.between(MS, 4 * SECOND);
        }
        if !self.is_peace() && asked.who == Who::Client(PATIENT) && self.random.chance(1) {
            let length = self.random.between(3 * SECOND, 8 * SECOND);
            self.nodes[i].paused_until = self.now + self.until_peace(length);
        }
        self.after(delay, Event::Check { node: i, life, asked, copied, lease_until });
    }

    pub fn check(&mut self, i: usize, asked: Arc<Asked>, copied: Told, lease_until: u64) {
        let in_time = match self.switches.read_then_check {
            true => self.nodes[i].clock(self.now) < lease_until,
            false => self.can_read(i, asked.t),
        };
        self.answer(asked, if in_time { copied } else { Told::Retry });
    }

    pub fn answer(&mut self, asked: Arc<Asked>, told: Told) {
        if self.is_peace() || self.random.chance(99) {
            let delay = self.random.between(100, 2 * MS);
            self.after(delay, Event::Told { asked, told });
        }
    }

    pub fn told(&mut self, asked: &Asked, told: Told) {
        match asked.who {
            Who::Client(client) => self.told_client(client, asked, told),
            Who::Burst => {}
            Who::Part(part) => self.told_part(part, asked, told),
        }
    }

    fn told_client(&mut self, c: usize, asked: &Asked, told: Told) {
        let (now, name) = (self.now, (self.clients[c].id, asked.seq));
        let current = |d: &&mut Doing| d.seq == asked.seq && d.tries == asked.nth;
        let Some(doing) = self.clients[c].doing.as_mut().filter(current) else { return };
        let (began, observer) = (doing.began, &mut self.observers[doing.t]);
        let checked = match told {
            Told::Value(value) => {
                self.tally.reads += 1;
                observer.read(&asked.look, &value, began, now)
            }
            Told::Outcome(Outcome::Done(_)) if observer.has_nothing_of(name, &asked.ops) => {
                observer.read(&asked.look, &None, began, now).and(observer.refused(name))
            }
            Told::Outcome(Outcome::Done(answer)) => observer.done(name, &answer),
            Told::Outcome(Outcome::Mismatch { version, at }) => {
                let held = observer.mismatch(&asked.ops[at], version, began, now);
                held.and(observer.refused(name))
            }
            Told::Outcome(Outcome::NotFound) => {
                observer.read(&asked.look, &None, began, now).and(observer.refused(name))
            }
            Told::Outcome(Outcome::Refused(Error::NoSpace)) => {
                self.tally.no_space += 1;
                check_no_space(&asked.ops).and(observer.refused(name))
            }
            Told::Outcome(Outcome::Refused(Error::Unknown(_))) => {
                doing.open = true;
                return;
            }
            Told::Retry | Told::Outcome(Outcome::Refused(Error::Retry(_))) => {
                doing.waits = false;
                return;
            }
            Told::Outcome(Outcome::Refused(other)) => {
                Err(format!("{:?} is told {other}", asked.ops))
            }
        };
        self.fail(checked);
        self.tally.answered += 1;
        self.done(c);
    }
}

/// The rule off: an op does what it does, whatever is there.
fn drop_condition(op: &mut Op) {
    match op {
        Op::Put { if_version, .. } | Op::Delete { if_version, .. } => *if_version = None,
        Op::Cput { row, column, new, .. } => {
            *op = Op::put(std::mem::take(row), std::mem::take(column), std::mem::take(new));
        }
        _ => {}
    }
}

/// However full disks are, what only removes is taken.
fn check_no_space(ops: &[Op]) -> Result<(), String> {
    let removes = |op: &Op| matches!(op, Op::Delete { .. } | Op::DeleteRow { .. });
    match ops.iter().all(removes) {
        true => Err(format!("{ops:?} is refused for want of space")),
        false => Ok(()),
    }
}
