//! Field values with parameters: `form-data; name="a"; filename="b"` (RFC 9110, section 5.6.6).

use crate::error::{Error, Result};

/// A field value and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// What stands before the first `;`, in lower case.
    pub essence: String,
    parameters: Vec<(String, String)>,
}

impl Value {
    /// Splits a field value. A parameter that comes twice is refused.
    pub fn parse(text: &str) -> Result<Value> {
        let (essence, mut rest) = text.split_once(';').unwrap_or((text, ""));
        let mut value =
            Value { essence: essence.trim().to_ascii_lowercase(), parameters: Vec::new() };
        while !rest.trim().is_empty() {
            let (name, after) = rest.split_once('=').ok_or_else(|| odd(text))?;
            let name = name.trim().to_ascii_lowercase();
            let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-_*".contains(&b);
            if name.is_empty() || !name.bytes().all(is_token) || value.get(&name).is_some() {
                return Err(odd(text));
            }
            let (word, after) = word(after).ok_or_else(|| odd(text))?;
            value.parameters.push((name, word));
            rest = after;
        }
        Ok(value)
    }

    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

fn odd(text: &str) -> Error {
    Error::bad(format!("the field value {text:?}"))
}

/// One value, quoted or not, and what follows its `;`.
fn word(text: &str) -> Option<(String, &str)> {
    match text.trim_start().strip_prefix('"') {
        Some(inside) => quoted(inside),
        None => {
            let (word, after) = text.split_once(';').unwrap_or((text, ""));
            Some((word.trim().to_string(), after))
        }
    }
}

/// A quoted value without its first quote. Only `\"` and `\\` are escapes: browsers send file names with
/// a backslash as they are.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let after = text[at + 1..].trim_start();
                let after = if after.is_empty() { after } else { after.strip_prefix(';')? };
                return Some((value, after));
            }
            '\\' => {
                value.push(chars.next_if(|(_, c)| matches!(c, '"' | '\\')).map_or(c, |(_, c)| c))
            }
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_words_or_quoted() {
        let value = Value::parse(r#"Form-Data; name=a ; filename="b;\"c\".d\e""#).expect("good");
        assert_eq!(value.essence, "form-data");
        assert_eq!((value.get("name"), value.get("filename")), (Some("a"), Some(r#"b;"c".d\e"#)));
    }

    #[test]
    fn odd_parameters_are_refused() {
        for text in ["a; b", "a; b=\"c", "a; b=1; b=2", "a; =1", "a; b=\"c\"d", "a;;b=1"] {
            assert!(Value::parse(text).is_err(), "{text}");
        }
    }
}
