//! `penncloud cert`: a certificate that its own key signs, to try TLS with. Browsers and mail programs warn of it; they
//! may be told to trust it.

use crate::error::{Error, Result};
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use std::fs::OpenOptions;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How long a certificate is good: browsers take none for longer than 398 days.
pub const DAYS: u32 = 397;
/// Bits of its number.
const SERIAL_BITS: i32 = 127;

/// The files of a pair.
#[derive(Debug)]
pub struct Made {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key, mode 0600.
    pub key: PathBuf,
}

/// Makes `cert.pem` and `key.pem` in a directory, for hosts by their names and addresses. Neither may be there.
pub fn run(dir: &Path, hosts: &[String]) -> Result<Made> {
    let made = Made { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
    write_pair(&made, hosts)?;
    Ok(made)
}

/// Makes a pair of files where neither is.
pub(super) fn write_pair(files: &Made, hosts: &[String]) -> Result<()> {
    let (certificate, key) =
        pair(hosts).map_err(|e| Error::config(format!("cannot make a certificate: {e}")))?;
    write(&files.key, 0o600, &key)?;
    let written = write(&files.certificate, 0o644, &certificate);
    written.inspect_err(|_| remove(&files.key))
}

/// A certificate and its key, in PEM.
fn pair(hosts: &[String]) -> Result<(Vec<u8>, Vec<u8>), ErrorStack> {
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(EcKey::generate(&curve)?)?;
    Ok((certificate(&key, hosts)?.to_pem()?, key.private_key_to_pem_pkcs8()?))
}

fn certificate(key: &PKey<Private>, hosts: &[String]) -> Result<X509, ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::COMMONNAME, "PennCloud, for trying")?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(SERIAL_BITS, MsbOption::ONE, false)?;
    let mut made = X509::builder()?;
    made.set_version(2)?; // counted from 0: X.509 v3
    made.set_serial_number(&*serial.to_asn1_integer()?)?;
    made.set_subject_name(&name)?;
    made.set_issuer_name(&name)?;
    made.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    made.set_not_after(&*Asn1Time::days_from_now(DAYS)?)?;
    made.set_pubkey(key)?;
    made.append_extension(BasicConstraints::new().critical().build()?)?;
    made.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
    let mut names = SubjectAlternativeName::new();
    for host in hosts {
        match host.parse::<IpAddr>() {
            Ok(_) => names.ip(host),
            Err(_) => names.dns(host),
        };
    }
    let names = names.build(&made.x509v3_context(None, None))?;
    made.append_extension(names)?;
    made.sign(key, MessageDigest::sha256())?;
    Ok(made.build())
}

fn write(path: &Path, mode: u32, pem: &[u8]) -> Result<()> {
    let cannot = |e| Error::config(format!("cannot write {}: {e}", path.display()));
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(cannot)?;
    let written = file.write_all(pem).and_then(|()| file.sync_all());
    written.inspect_err(|_| remove(path)).map_err(cannot)
}

/// Half a pair would be in the way of the next try.
fn remove(path: &Path) {
    if let Err(e) = std::fs::remove_file(path) {
        log::warn!("{} is left: {e}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Tls;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_pair_can_be_used_and_its_key_is_private() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let made = run(dir.path(), &["localhost".into(), "127.0.0.1".into(), "::1".into()]);
        let made = made.expect("a pair");
        assert!(Tls::load(&made.certificate, &made.key).is_ok());
        let mode = std::fs::metadata(&made.key).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        run(dir.path(), &["h".into()]).expect("a pair");
        let why = run(dir.path(), &["h".into()]).expect_err("a second pair").to_string();
        assert!(why.starts_with("cannot write ") && why.contains("key.pem"), "{why}");
    }

    #[test]
    fn half_a_pair_is_not_left() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("cert.pem"), "mine").expect("a file");
        run(dir.path(), &["h".into()]).expect_err("the certificate is there");
        assert!(!dir.path().join("key.pem").exists());
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, two) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
        let one = run(one.path(), &["h".into()]).expect("a pair");
        let two = run(two.path(), &["h".into()]).expect("a pair");
        let why = Tls::load(&one.certificate, &two.key).err().expect("refused").to_string();
        assert!(why.contains("not the key of"), "{why}");
        let why = Tls::load(&one.key, &one.key).err().expect("refused").to_string();
        assert!(why.starts_with("the TLS file "), "{why}");
    }
}
