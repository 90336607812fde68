//! What pages may load, and what the bytes of users may do.

/// What a page may load: its own files and nothing else; nothing inline.
pub(super) const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; media-src 'self'; frame-src 'self'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'; worker-src 'self'; manifest-src 'self'";
/// What the bytes of users may do: nothing.
pub(super) const USER_BYTES_POLICY: &str = "sandbox; default-src 'none'";
