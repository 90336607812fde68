//! Names on the command line are bytes: any may be written `%XX`, as in the text protocol, and those that a terminal
//! would not show, or would obey, are printed so.

use crate::protocol::cell::NAME_BYTES_MAX;
use crate::protocol::word;
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

/// A row, a column, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub Vec<u8>);

impl Name {
    /// Reads a word of the command line. The error is a sentence.
    fn parse(typed: &[u8]) -> Result<Name, String> {
        let name = word::unescape(&without_controls(typed))
            .map_err(|_| "a % is followed by two hexadecimal digits; % itself is %25")?;
        match name.len() {
            0 => Err("a name has at least one byte".into()),
            1..=NAME_BYTES_MAX => Ok(Name(name)),
            _ => Err(format!("a name has at most {NAME_BYTES_MAX} bytes")),
        }
    }
}

/// Control characters stand for themselves on the command line, which a word of the protocol does not allow.
fn without_controls(typed: &[u8]) -> Vec<u8> {
    let written = |&byte: &u8| match byte.is_ascii_control() {
        true => format!("%{byte:02X}").into_bytes(),
        false => vec![byte],
    };
    typed.iter().flat_map(written).collect()
}

/// How clap reads a [`Name`].
pub(super) fn parser() -> impl TypedValueParser<Value = Name> {
    OsStringValueParser::new().try_map(|typed| Name::parse(typed.as_bytes()))
}

/// Bytes as a word: escaped as in the protocol, and also where they are not UTF-8 or a control character of it.
pub(super) fn shown(bytes: &[u8]) -> String {
    let escaped = word::escape(bytes);
    let mut shown = String::with_capacity(escaped.len());
    for chunk in escaped.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c.is_control() {
                true => escape(&mut shown, c.encode_utf8(&mut [0; 4]).as_bytes()),
                false => shown.push(c),
            }
        }
        escape(&mut shown, chunk.invalid());
    }
    shown
}

fn escape(shown: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(shown, "%{byte:02X}").expect("a string takes everything");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_shown_can_be_typed(bytes in proptest::collection::vec(any::<u8>(), 1..64)) {
            prop_assert_eq!(Name::parse(shown(&bytes).as_bytes()), Ok(Name(bytes)));
        }
    }

    #[test]
    fn names_are_typed_as_they_are_or_escaped() {
        let parse = |typed: &str| Name::parse(typed.as_bytes()).map(|name| name.0);
        assert_eq!(parse("a b=c/ü"), Ok("a b=c/ü".into()));
        assert_eq!(parse("100%25%00%ff\n"), Ok(b"100%\0\xff\n".to_vec()));
        for wrong in ["", "%", "%2", "50%", "%zz", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn nothing_that_is_shown_moves_a_terminal() {
        assert_eq!(shown("é\u{9b}31m \x1b[2J".as_bytes()), "é%C2%9B31m%20%1B[2J");
        assert_eq!(shown(b"\xff\xc3%="), "%FF%C3%25%3D");
    }
}
