//! master

use crate::config::Config;
use crate::error::{Error, Result};

/// Runs the master named `name` until the process is told to end.
pub fn run(_config: &Config, name: &str) -> Result<()> {
    Err(Error::config(format!("{name}: not built")))
}
