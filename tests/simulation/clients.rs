//! Clients: reads and writes through any node, retries, and what they are told.

use super::world::*;
use penncloud::error::Error;
use penncloud::protocol::cell::Key;
use penncloud::protocol::command::{Op, RequestId};
use penncloud::replication::{Input, Outcome, Position, Proposal, Replica, Table};

impl World {
    pub(super) fn begin(&mut self, c: usize) {
        let until = if c == PATIENT { CLIENTS_UNTIL - PATIENCE } else { CLIENTS_UNTIL };
        if self.now >= until {
            return;
        }
        let column = [b'x' + self.random.below(3) as u8];
        let value = format!("c{c}-{}", self.clients[c].seq + 1).into_bytes();
        let row = b"alice".to_vec();
        let ask = match self.random.below(10) {
            0..4 => Ask::Get,
            4..7 => Ask::Write(Op::put(row, column, value)),
            7 => Ask::Write(Op::delete(row, column)),
            _ => {
                let table = self.observer_table();
                let old = value_of(&table, &column).unwrap_or_default();
                Ask::Write(Op::Cput { row, column: column.to_vec(), old, new: value, ttl: None })
            }
        };
        let client = &mut self.clients[c];
        client.seq += 1;
        client.doing = Some(Doing {
            seq: client.seq,
            key: Key::new(b"alice", &column),
            ask,
            began: self.now,
            deadline: self.now + if c == PATIENT { 2 * PATIENCE } else { PATIENCE },
            open: false,
            sent: false,
            waits: false,
        });
        let seq = client.seq;
        self.again(c, seq);
    }

    /// A guess at a current value, for conditions that sometimes hold.
    pub(super) fn observer_table(&self) -> Table {
        self.nodes
            .iter()
            .filter_map(|n| n.replica.as_ref())
            .map(|r| r.committed().clone())
            .next()
            .unwrap_or_default()
    }

    /// Sends a request, again if need be; gives up when its time is over.
    pub(super) fn again(&mut self, c: usize, seq: u64) {
        let Some(doing) = self.clients[c].doing.as_mut().filter(|d| d.seq == seq) else { return };
        if self.now >= doing.deadline {
            if matches!(doing.ask, Ask::Write(_)) && !doing.open && !doing.waits {
                let id = self.clients[c].id;
                self.observer.refused(id, seq);
            } else {
                self.tally.unknown += 1;
            }
            return self.done(c);
        }
        let once = c == PATIENT;
        if doing.waits {
            doing.open = true;
        }
        if once && doing.sent && doing.open {
            return self.after(100 * MS, Event::Again { client: c, seq });
        }
        let retry = doing.open;
        (doing.sent, doing.waits) = (true, true);
        let node = self.random.below(self.plan.nodes as u64) as usize;
        let delay = self.random.between(100, 2 * MS);
        if self.random.chance(98) {
            self.after(delay, Event::Request { node, client: c, seq, hops: 0, retry });
        }
        let wait = self.random.between(300 * MS, 900 * MS);
        self.after(wait, Event::Again { client: c, seq });
    }

    pub(super) fn done(&mut self, c: usize) {
        self.clients[c].doing = None;
        let pause = self.random.between(MS, 60 * MS);
        self.after(pause, Event::Client { client: c });
    }

    pub(super) fn key_of(&self, client: usize, seq: u64) -> Option<Key> {
        self.clients[client].doing.as_ref().filter(|d| d.seq == seq).map(|d| d.key.clone())
    }

    pub(super) fn request(&mut self, i: usize, client: usize, seq: u64, hops: u8, retry: bool) {
        let Some(doing) = self.clients[client].doing.as_ref().filter(|d| d.seq == seq) else {
            return;
        };
        let (ask, key, id) = (doing.ask.clone(), doing.key.clone(), self.clients[client].id);
        match ask {
            Ask::Write(op) if self.replica(i).leads() => {
                let token = self.token(i, client, seq);
                let request = Some(RequestId { client: id, request: seq, low: seq });
                let proposal = Proposal {
                    token,
                    request,
                    retry,
                    ops: vec![op],
                    single: true,
                    setting: setting(self.now),
                };
                self.step(i, Input::Propose(proposal));
            }
            Ask::Get if self.can_read(i) => self.read(i, client, seq, &key),
            _ if hops == 0 && self.primary_of(i).is_some_and(|p| p != i) => {
                let primary = self.primary_of(i).expect("just seen");
                self.send(
                    i,
                    primary,
                    Event::Request { node: primary, client, seq, hops: 1, retry },
                );
            }
            _ => self.answer(client, seq, Told::Retry),
        }
    }

    pub(super) fn replica(&self, i: usize) -> &Replica {
        self.nodes[i].replica.as_ref().expect("events of dead nodes are dropped")
    }

    pub(super) fn can_read(&self, i: usize) -> bool {
        self.replica(i).may_read(self.nodes[i].clock(self.now))
    }

    pub(super) fn primary_of(&self, i: usize) -> Option<usize> {
        let primary = self.replica(i).configuration().primary.clone()?;
        Some(number(&primary))
    }

    pub(super) fn token(&mut self, i: usize, client: usize, seq: u64) -> u64 {
        self.next_token += 1;
        self.tokens[i].insert(self.next_token, (client, seq));
        self.next_token
    }

    /// A read by a thread beside the replica: copies the value, and checks the lease after it.
    pub(super) fn read(&mut self, i: usize, client: usize, seq: u64, key: &Key) {
        let replica = self.replica(i);
        let dirty =
            !replica.leads() && replica.prepared().any(|entry| touches(&entry.effects, key));
        if dirty && self.rules.dirty_check {
            let token = self.token(i, client, seq);
            return self.step(i, Input::Query(token));
        }
        let table = if self.rules.serve_committed { replica.committed() } else { replica.last() };
        let copied = value(table, key);
        let life = self.nodes[i].life;
        let delay = self.random.between(10, 200);
        if self.now < FAULTS_UNTIL && client == PATIENT && self.random.chance(4) {
            self.nodes[i].paused_until = self.now + self.random.between(3 * SECOND, 8 * SECOND);
        }
        self.after(delay, Event::Check { node: i, life, client, seq, copied });
    }

    pub(super) fn check(
        &mut self,
        i: usize,
        life: u64,
        client: usize,
        seq: u64,
        copied: Option<Vec<u8>>,
    ) {
        if self.nodes[i].life != life {
            return;
        }
        let told = if self.can_read(i) { Told::Value(copied) } else { Told::Retry };
        self.answer(client, seq, told);
    }

    pub(super) fn answer(&mut self, client: usize, seq: u64, told: Told) {
        if self.random.chance(99) {
            let delay = self.random.between(100, 2 * MS);
            self.after(delay, Event::Told { client, seq, told });
        }
    }

    pub(super) fn told(&mut self, c: usize, seq: u64, told: Told) {
        let now = self.now;
        let Some(doing) = self.clients[c].doing.as_mut().filter(|d| d.seq == seq) else { return };
        let (key, began, ask) = (doing.key.clone(), doing.began, doing.ask.clone());
        let id = self.clients[c].id;
        let checked = match (told, &ask) {
            (Told::Value(value), _) => {
                self.tally.reads += 1;
                self.observer.read(&key, &value, began, now)
            }
            (Told::Outcome(Outcome::Done(answer)), _) => self.acknowledged(id, seq, answer.version),
            (Told::Outcome(Outcome::Mismatch { .. }), Ask::Write(Op::Cput { old, .. })) => {
                self.observer.mismatch(&key, old, began, now)
            }
            (Told::Outcome(Outcome::NotFound), _) => self.observer.read(&key, &None, began, now),
            (Told::Outcome(Outcome::Refused(Error::Unknown(_))), _) => {
                self.clients[c].doing.as_mut().expect("still doing").open = true;
                return;
            }
            (Told::Retry | Told::Outcome(_), _) => {
                self.clients[c].doing.as_mut().expect("still doing").waits = false;
                return;
            }
        };
        self.fail(checked);
        self.tally.answered += 1;
        self.done(c);
    }

    /// What was acknowledged is executed, and durable on every in-sync replica.
    pub(super) fn acknowledged(&self, client: u128, seq: u64, version: u64) -> Result<(), String> {
        let executed = self.observer.executed(client, seq);
        let Some(entry) = self.observer.entry(version) else {
            return Err(format!("version {version} was acknowledged and never committed"));
        };
        if executed.is_none_or(|at| at > version) {
            return Err(format!(
                "request {client}/{seq} was acknowledged as {version}, executed as {executed:?}"
            ));
        }
        let at = Position { epoch: entry.epoch, version };
        let lacks =
            |i: &usize| self.master.route.isr.contains(&name(*i)) && !self.nodes[*i].disk.holds(at);
        match (0..self.plan.nodes).find(lacks) {
            Some(i) => Err(format!(
                "version {version} was acknowledged, and {} of the in-sync set has lost it",
                name(i)
            )),
            None => Ok(()),
        }
    }
}
