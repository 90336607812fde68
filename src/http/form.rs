//! The fields of a submitted form.

use crate::error::{Error, Result};
use crate::http::multipart::Multipart;
use std::io::Read;

/// Fields of one form.
const FIELDS_MAX: usize = 1000;

/// The decoded fields of a form, in the order sent.
#[derive(Clone, Debug, Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// The first value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All values of a field: check boxes, multiple selections.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }

    /// Name and value of every field.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// Decodes `application/x-www-form-urlencoded`.
    pub(super) fn from_urlencoded(bytes: &[u8]) -> Result<Form> {
        let mut form = Form::default();
        for (name, value) in form_urlencoded::parse(bytes) {
            form.add(name.into_owned(), value.into_owned())?;
        }
        Ok(form)
    }

    /// Reads the fields of a `multipart/form-data` body of at most `bytes_max`. An empty file field, as
    /// browsers send it when nothing is chosen, is passed over; any other file is refused.
    pub(super) fn from_multipart(mut parts: Multipart<'_>, bytes_max: u64) -> Result<Form> {
        let mut form = Form::default();
        let mut left = bytes_max as usize;
        while let Some(mut part) = parts.next_part()? {
            if part.filename.as_ref().is_some_and(|name| !name.is_empty()) {
                return Err(Error::bad("a file where only fields are expected"));
            }
            let value = part.text(left)?;
            left -= value.len();
            if part.filename.is_none() {
                form.add(part.name, value)?;
            }
        }
        Ok(form)
    }

    fn add(&mut self, name: String, value: String) -> Result<()> {
        if self.0.len() == FIELDS_MAX {
            return Err(Error::TooBig(format!("a form of more than {FIELDS_MAX} fields")));
        }
        self.0.push((name, value));
        Ok(())
    }
}

/// Reads everything, or refuses what is longer than `max`.
pub(super) fn read_all(from: &mut dyn Read, max: u64, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(Error::TooBig(format!("{what} of more than {max} bytes")));
    }
    Ok(bytes)
}
