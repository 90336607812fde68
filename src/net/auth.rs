//! Proof of membership: challenge and HMAC over both nonces, never the secret itself.
//!
//! ```text
//! client: AUTH <client nonce>
//! server: AUTH <server nonce> <HMAC(secret, "server" client-nonce server-nonce)>
//! client: AUTH <HMAC(secret, "client" client-nonce server-nonce)>
//! server: OK
//! ```
//!
//! Both sides prove that they know the secret. Nonces are 32 random bytes in hexadecimal, so a recorded
//! handshake is worth nothing. The connection is not encrypted: on a network that others can read, a
//! tunnel is needed.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Version of the handshake, part of what is proved.
const LABEL: &[u8] = b"penncloud-auth-1";

/// Which side proves.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// The side that connected.
    Client,
    /// The side that accepted.
    Server,
}

/// 32 bytes from the operating system, in hexadecimal.
pub fn nonce() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    hex(&bytes)
}

/// The proof that a side knows the secret.
pub fn proof(secret: &str, side: Side, client_nonce: &[u8], server_nonce: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    let side: &[u8] = match side {
        Side::Client => b"client",
        Side::Server => b"server",
    };
    for part in [LABEL, side, client_nonce, server_nonce] {
        mac.update(&(part.len() as u32).to_le_bytes());
        mac.update(part);
    }
    hex(&mac.finalize().into_bytes())
}

/// Compares a proof in constant time.
pub fn check(expected: &str, given: &[u8]) -> bool {
    expected.as_bytes().ct_eq(given).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_bound_to_secret_side_and_nonces() {
        let good = proof("secret", Side::Client, b"a", b"b");
        assert!(check(&good, good.as_bytes()));
        for other in [
            proof("other", Side::Client, b"a", b"b"),
            proof("secret", Side::Server, b"a", b"b"),
            proof("secret", Side::Client, b"ab", b""),
            proof("secret", Side::Client, b"b", b"a"),
        ] {
            assert!(!check(&good, other.as_bytes()));
        }
    }
}
