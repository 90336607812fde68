//! Damage that was met while a tablet's cells were read, whoever's read it was.

use crate::error::{Error, Result};
use std::sync::Mutex;

/// The first damage that was met, until somebody takes it.
#[derive(Debug, Default)]
pub struct Damage(Mutex<Option<Error>>);

impl Damage {
    /// Notes damage; other errors are none.
    pub fn note(&self, error: &Error) {
        if matches!(error, Error::Corrupt(_)) {
            let mut found = self.0.lock().expect("it is not left half-changed");
            found.get_or_insert_with(|| error.clone());
        }
    }

    /// Takes what was met; what is met from now on is noted anew.
    pub fn take(&self) -> Option<Error> {
        self.0.lock().expect("it is not left half-changed").take()
    }

    /// Notes the damage that a read met.
    pub(in crate::storage) fn noted<T>(&self, read: Result<T>) -> Result<T> {
        if let Err(error) = &read {
            self.note(error);
        }
        read
    }
}
