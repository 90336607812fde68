//! `penncloud format`: the data directory with its secrets and the certificates of its SMTP servers, made once.

use super::cert::{self, Made};
use crate::config::{Config, Secrets, Smtp};
use crate::error::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Random bytes of the cluster's secret.
const SECRET_BYTES: usize = 32;
/// Random bytes of the admin's first password: 16 letters.
const PASSWORD_BYTES: usize = 12;

/// Makes the data directory (mode 0700), `secrets.json` (mode 0600), and the certificates that SMTP servers are to have
/// in that directory, unless they are there. The secrets, if they were made now; `None` when the directory had valid
/// ones before.
pub fn run(config: &Config) -> Result<Option<Secrets>> {
    let dir = &config.cluster.data_dir;
    make_directory(dir)?;
    config.smtps.iter().try_for_each(|smtp| make_certificate(config, smtp))?;
    let path = Secrets::path(dir);
    if path.exists() {
        return Secrets::load(dir).map(|_| None);
    }
    let secrets = Secrets {
        cluster: hex(&random::<SECRET_BYTES>()),
        admin_password: URL_SAFE_NO_PAD.encode(random::<PASSWORD_BYTES>()),
    };
    write_durably(dir, &path, &secrets)
        .map_err(|e| Error::config(format!("cannot write {}: {e}", path.display())))?;
    Ok(Some(secrets))
}

/// A certificate elsewhere is the operator's own.
fn make_certificate(config: &Config, smtp: &Smtp) -> Result<()> {
    let is_ours = |file: &Path| file.parent() == Some(&config.cluster.data_dir);
    let files = Made { certificate: smtp.tls_cert.clone(), key: smtp.tls_key.clone() };
    if !is_ours(&files.certificate) || !is_ours(&files.key) || files.certificate.exists() {
        return Ok(());
    }
    let domain = &config.cluster.mail_domain;
    let hosts = [domain.as_str(), "localhost", "127.0.0.1", "::1"].map(String::from);
    cert::write_pair(&files, &hosts)
}

fn make_directory(dir: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| {
        Error::config(format!("cannot make the data directory {}: {e}", dir.display()))
    })
}

/// Writes beside, syncs, gives it its name and syncs the directory: there is a whole file or none, and a
/// file that another process made meanwhile is never replaced.
fn write_durably(dir: &Path, path: &Path, secrets: &Secrets) -> Result<()> {
    let text = serde_json::to_string_pretty(secrets).expect("two strings are always JSON");
    let beside = dir.join(format!("secrets.{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let named = fs::hard_link(&beside, path);
    fs::remove_file(&beside)?;
    named.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => Error::config("another process is just making it"),
        _ => e.into(),
    })?;
    File::open(dir)?.sync_all()?;
    Ok(())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Tls;
    use std::os::unix::fs::PermissionsExt;

    fn config_in(dir: &Path) -> Config {
        let mut config = Config::parse(include_str!("../../conf/local.toml")).unwrap();
        config.cluster.data_dir = dir.join("data");
        config.smtps[0].tls_cert = dir.join("data/smtp-cert.pem");
        config.smtps[0].tls_key = dir.join("data/smtp-key.pem");
        config
    }

    #[test]
    fn secrets_are_made_once_and_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let config = config_in(dir.path());
        let made = run(&config).unwrap().unwrap();
        assert!(run(&config).unwrap().is_none());
        let kept = config.secrets().unwrap();
        assert_eq!((made.cluster, made.admin_password), (kept.cluster, kept.admin_password));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&Secrets::path(&config.cluster.data_dir)), 0o600);
        assert_eq!(mode(&config.cluster.data_dir), 0o700);
        let smtp = &config.smtps[0];
        assert!(Tls::load(&smtp.tls_cert, &smtp.tls_key).is_ok());
        assert_eq!(mode(&smtp.tls_key), 0o600);
        assert_eq!(fs::read_dir(&config.cluster.data_dir).unwrap().count(), 3);
    }

    #[test]
    fn a_certificate_elsewhere_is_left_to_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config_in(dir.path());
        config.smtps[0].tls_cert = dir.path().join("own.pem");
        run(&config).unwrap();
        assert_eq!(fs::read_dir(&config.cluster.data_dir).unwrap().count(), 1);
    }

    #[test]
    fn damaged_secrets_are_refused_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let config = config_in(dir.path());
        run(&config).unwrap();
        fs::write(Secrets::path(&config.cluster.data_dir), "{}").unwrap();
        assert!(matches!(run(&config), Err(Error::Config(_))));
        assert_eq!(fs::read(Secrets::path(&config.cluster.data_dir)).unwrap(), b"{}");
    }
}
