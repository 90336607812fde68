//! What the processes of a cluster share and nobody else may know.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Secrets of the cluster: `secrets.json` in the data directory, mode 0600.
#[derive(Clone, Deserialize, serde::Serialize)]
pub struct Secrets {
    /// Shared by all processes; proves membership in `AUTH`. 64 hexadecimal digits.
    pub cluster: String,
    /// Password of the console's first account, `admin`.
    pub admin_password: String,
}

impl Secrets {
    /// The secrets file of a data directory.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("secrets.json")
    }

    /// Reads the secrets of a data directory.
    pub fn load(data_dir: &Path) -> Result<Secrets> {
        let path = Secrets::path(data_dir);
        let text = std::fs::read_to_string(&path).map_err(|e| {
            Error::config(format!(
                "cannot read the secrets {}: {e} (./run.sh makes them at the first start)",
                path.display()
            ))
        })?;
        let secrets: Secrets = serde_json::from_str(&text)
            .map_err(|e| Error::config(format!("{}: {e}", path.display())))?;
        if secrets.cluster.len() < 64 || !secrets.cluster.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::config(format!(
                "{}: `cluster` must be 64 hexadecimal digits",
                path.display()
            )));
        }
        Ok(secrets)
    }
}
