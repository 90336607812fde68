//! What goes wrong, by a seed: processes die and stand still, connections are cut, slowed down and reset.

use super::Scene;
use crate::harness::proxy::Fault;
use crate::linearizability::Random;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const MASTER: &str = "m1";
/// Resets while connections are being reset.
const RESETS: usize = 5;
/// What lasts so long outlives a node's heartbeats, its leases and the promises made to it: another leads by then.
const OUTLIVED_MS: u64 = 4500;

/// Makes faults, one or two at a time, and mends them.
pub struct Nemesis<'a> {
    scene: &'a Scene,
    random: Random,
    nodes: Vec<String>,
    faults: Vec<String>,
    killed: BTreeSet<String>,
    paused: BTreeSet<String>,
}

impl<'a> Nemesis<'a> {
    /// The faults of a seed.
    pub fn new(scene: &'a Scene, seed: u64) -> Nemesis<'a> {
        Nemesis {
            scene,
            random: Random::new(seed),
            nodes: scene.cluster.backends(),
            faults: Vec::new(),
            killed: BTreeSet::new(),
            paused: BTreeSet::new(),
        }
    }

    /// What was done, and when.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Faults for a while; at the end there is peace, and everything is in service.
    pub fn rage(&mut self, time: Duration) {
        let end = Instant::now() + time;
        self.rest(500, 1000);
        while Instant::now() < end && !self.scene.is_over() {
            self.scene.set_faulty(true);
            for _ in 0..self.random.between(1, 3) {
                self.strike();
            }
            match self.random.chance(40) {
                true => self.rest(OUTLIVED_MS, OUTLIVED_MS + 2000),
                false => self.rest(200, 2500),
            }
            self.scene.set_faulty(false);
            self.mend();
            self.rest(100, 2000);
        }
        self.scene.cluster.wait_in_service();
    }

    fn rest(&mut self, low_ms: u64, high_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.random.between(low_ms, high_ms)));
    }

    fn note(&mut self, what: String) {
        self.faults.push(format!("{:>10.3} {what}", self.scene.now() as f64 / 1e6));
    }

    fn strike(&mut self) {
        let network = self.scene.cluster.network();
        let node = self.random.one_of(&self.nodes).clone();
        let others: Vec<String> = self.nodes.iter().filter(|n| **n != node).cloned().collect();
        let other = self.random.one_of(&others).clone();
        let fault = self.severance();
        match self.random.below(12) {
            0..3 => self.kill(&node),
            3 => self.kill(MASTER),
            4 => self.pause(&node),
            5 if self.random.chance(30) => self.pause(MASTER),
            5 => self.pause(&other),
            6 => {
                self.note(format!("{node} is alone: {fault:?}"));
                network.set_pair(&node, MASTER, fault);
                others.iter().for_each(|other| network.set_pair(&node, other, fault));
            }
            7 => {
                self.note(format!("{node} and {other} are apart: {fault:?}"));
                network.set_pair(&node, &other, fault);
            }
            8 => {
                self.note(format!("from {node} to {other} nothing passes: {fault:?}"));
                network.set(&node, &other, fault);
            }
            9 => {
                self.note(format!("{node} and the master are apart: {fault:?}"));
                network.set_pair(&node, MASTER, fault);
            }
            10 => {
                let slow = Fault::Delay(Duration::from_millis(self.random.between(20, 600)));
                self.note(format!("{node} and {other} are slow: {slow:?}"));
                network.set_pair(&node, &other, slow);
            }
            _ => self.reset(&node, &other),
        }
    }

    /// One of the ways in which nothing passes.
    fn severance(&mut self) -> Fault {
        *self.random.one_of(&[Fault::Stall, Fault::Cut, Fault::Cut])
    }

    fn kill(&mut self, name: &str) {
        if self.killed.contains(name) {
            return;
        }
        self.note(format!("{name} is killed"));
        self.scene.cluster.kill(name);
        self.paused.remove(name);
        self.killed.insert(name.into());
        if self.random.chance(40) {
            self.rest(1, 300);
            self.start(name);
        }
    }

    fn start(&mut self, name: &str) {
        self.scene.cluster.start_again(name);
        self.killed.remove(name);
        self.note(format!("{name} is started"));
    }

    fn pause(&mut self, name: &str) {
        if self.killed.contains(name) || !self.paused.insert(name.into()) {
            return;
        }
        self.note(format!("{name} is paused"));
        self.scene.cluster.pause(name);
    }

    fn reset(&mut self, node: &str, other: &str) {
        let network = self.scene.cluster.network();
        let after = Fault::ResetAfter(self.random.between(1, 20_000));
        self.note(format!("{node} and {other} are reset again and again, and by {after:?}"));
        network.set_pair(node, other, after);
        network.refuse(node, other, true);
        for _ in 0..RESETS {
            network.reset(node, other);
            self.rest(20, 200);
            network.refuse(node, other, false);
        }
    }

    fn mend(&mut self) {
        self.note("all is mended".into());
        self.scene.cluster.network().heal();
        for name in std::mem::take(&mut self.paused) {
            self.scene.cluster.resume(&name);
        }
        for name in self.killed.clone() {
            self.start(&name);
        }
    }
}
