//! What is known of one frontend: a machine that is told what was heard of it.

use std::time::{Duration, Instant};

/// Good pings in a row after which a frontend that was down is up again.
const GOOD_TO_RETURN: u8 = 2;

/// What a frontend says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Its open connections.
    pub conns: u64,
    /// Whether it wants no new visitors.
    pub draining: bool,
    /// Whether it cannot reach the store.
    pub degraded: bool,
}

impl Report {
    /// Reads `ok conns=12 draining=0 kv=ok`. Words that are not known are passed over.
    pub fn parse(body: &str) -> Option<Report> {
        let mut words = body.split_ascii_whitespace();
        if words.next() != Some("ok") {
            return None;
        }
        let mut report = Report::default();
        for (name, value) in words.filter_map(|w| w.split_once('=')) {
            match name {
                "conns" => report.conns = value.parse().ok()?,
                "draining" => report.draining = value != "0",
                "kv" => report.degraded = value != "ok",
                _ => {}
            }
        }
        Some(report)
    }
}

/// What was heard of a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It answered a ping.
    Good(Report),
    /// It took a connection.
    Accepted,
    /// Nobody listens at its address.
    Refused,
    /// No answer in time, or none that could be understood.
    Silent,
}

/// How a frontend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not asked yet.
    New,
    /// Answers.
    Up,
    /// Missed one ping.
    Suspect,
    /// Does not answer; this many good pings since.
    Down(u8),
}

/// What is known of one frontend.
#[derive(Clone, Debug)]
pub struct Health {
    /// How it is.
    pub state: State,
    /// What it said last.
    pub report: Report,
    last_sign: Option<Instant>,
}

impl Default for Health {
    fn default() -> Health {
        Health { state: State::New, report: Report::default(), last_sign: None }
    }
}

impl Health {
    /// Takes note of what was heard.
    pub fn hear(&mut self, heard: Heard, now: Instant) {
        self.state = match (&heard, self.state) {
            (Heard::Good(_), State::Down(good)) if good + 1 < GOOD_TO_RETURN => {
                State::Down(good + 1)
            }
            (Heard::Good(_), _) => State::Up,
            (Heard::Accepted, state) => state,
            (Heard::Silent, State::Up) => State::Suspect,
            (Heard::Silent | Heard::Refused, _) => State::Down(0),
        };
        if matches!(heard, Heard::Good(_) | Heard::Accepted) {
            self.last_sign = Some(now);
        }
        if let Heard::Good(report) = heard {
            self.report = report;
        }
    }

    /// How good a choice it is, 0 the best; `None` when it cannot be chosen.
    pub fn rank(&self) -> Option<u8> {
        match self.state {
            _ if self.report.draining => None,
            State::Up if !self.report.degraded => Some(0),
            State::Up => Some(1),
            State::Suspect => Some(2),
            State::New | State::Down(_) => None,
        }
    }

    /// Whether there was a sign of life within this time.
    pub fn is_fresh(&self, within: Duration, now: Instant) -> bool {
        self.last_sign.is_some_and(|at| now.saturating_duration_since(at) <= within)
    }

    /// Whether the next ping should not wait: it may bring a frontend back.
    pub fn is_returning(&self) -> bool {
        matches!(self.state, State::Down(good) if good > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Heard {
        Heard::Good(Report::default())
    }

    fn after(all: &[Heard]) -> State {
        let mut health = Health::default();
        all.iter().for_each(|heard| health.hear(heard.clone(), Instant::now()));
        health.state
    }

    #[test]
    fn a_refused_connection_is_down_at_once() {
        assert_eq!(after(&[good(), Heard::Refused]), State::Down(0));
    }

    #[test]
    fn one_lost_ping_is_a_suspicion_and_two_are_down() {
        assert_eq!(after(&[good(), Heard::Silent]), State::Suspect);
        assert_eq!(after(&[good(), Heard::Silent, good()]), State::Up);
        assert_eq!(after(&[good(), Heard::Silent, Heard::Silent]), State::Down(0));
    }

    #[test]
    fn two_good_pings_in_a_row_bring_it_back() {
        assert_eq!(after(&[good()]), State::Up);
        assert_eq!(after(&[Heard::Refused, good()]), State::Down(1));
        assert_eq!(after(&[Heard::Refused, good(), Heard::Silent, good()]), State::Down(1));
        assert_eq!(after(&[Heard::Refused, good(), good()]), State::Up);
    }

    #[test]
    fn a_connection_alone_brings_nothing_back() {
        assert_eq!(after(&[Heard::Refused, Heard::Accepted, Heard::Accepted]), State::Down(0));
    }

    #[test]
    fn reports_are_read() {
        let report = Report { conns: 12, draining: true, degraded: true };
        assert_eq!(Report::parse("ok conns=12 draining=1 kv=lost more=1\n"), Some(report));
        assert_eq!(Report::parse("ok\n"), Some(Report::default()));
        for body in ["", "no", "<html>", "ok conns=many"] {
            assert_eq!(Report::parse(body), None, "{body}");
        }
    }

    #[test]
    fn the_degraded_are_worse_and_the_draining_are_none() {
        let rank = |body| {
            let mut health = Health::default();
            health.hear(Heard::Good(Report::parse(body).expect("a report")), Instant::now());
            health.rank()
        };
        assert_eq!(rank("ok kv=ok"), Some(0));
        assert_eq!(rank("ok kv=lost"), Some(1));
        assert_eq!(rank("ok draining=1"), None);
    }
}
