//! Writes that were passed on to a primary and are not answered yet.
//!
//! A primary that hangs answers nothing, and its connections stay open. Once the tablet has another primary, who
//! waits for the old one is told at once that the outcome is unknown, and may ask the new one. A primary that resigned
//! has answered everything, or is about to: it is waited for.

use super::node::Node;
use crate::error::{Error, Result};
use crate::net::Stream;
use crate::protocol::command::Request;
use crate::protocol::reply::Reply;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

/// Writes on their way to primaries.
#[derive(Default)]
pub struct Forwards(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    next: u64,
    by_number: BTreeMap<u64, Forward>,
}

struct Forward {
    tablet: String,
    stream: Stream,
}

impl Forwards {
    fn begin(&self, tablet: &str, stream: Stream) -> u64 {
        let mut waiting = self.0.lock().expect("a map is not left half-changed");
        waiting.next += 1;
        let number = waiting.next;
        waiting.by_number.insert(number, Forward { tablet: tablet.into(), stream });
        number
    }

    fn end(&self, number: u64) {
        self.0.lock().expect("a map is not left half-changed").by_number.remove(&number);
    }

    /// A tablet has another primary: nobody waits for the old one any more.
    pub fn cut(&self, tablet: &str) {
        let waiting = self.0.lock().expect("a map is not left half-changed");
        let of_tablet = waiting.by_number.values().filter(|forward| forward.tablet == tablet);
        of_tablet.for_each(|forward| forward.stream.close());
    }
}

impl Node {
    /// Passes a write on to a tablet's primary.
    ///
    /// # Errors
    /// [`Error::Retry`]: it was not sent. [`Error::Unknown`]: it was, and no answer came.
    pub fn forward(
        &self,
        tablet: &str,
        address: &str,
        request: &Request,
        deadline: Instant,
    ) -> Result<Reply> {
        let mut connection = self.pool.take(address, deadline)?;
        let number = self.forwards.begin(tablet, connection.stream());
        let called = connection.call(request);
        self.forwards.end(number);
        match called {
            Ok(reply) => {
                self.pool.put(address, connection);
                Ok(reply)
            }
            Err(error) => Err(Error::unknown(format!("{address} gave no answer: {error}"))),
        }
    }
}
