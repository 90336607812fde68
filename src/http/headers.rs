//! The fields of a head that was received.

use std::ops::Range;

/// Header fields in the order received; names in lower case. All of them lie in one text, so that a head costs two
/// allocations, however many fields it has.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    text: String,
    fields: Vec<Field>,
}

/// Where a field lies in the text.
#[derive(Clone, Debug)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
}

impl Headers {
    /// No fields yet, and room for so many of so many bytes.
    pub fn with_room(fields: usize, bytes: usize) -> Headers {
        Headers { text: String::with_capacity(bytes), fields: Vec::with_capacity(fields) }
    }

    /// Adds a field. A value that is not UTF-8 is read as Latin-1.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        let name = self.keep(|text| text.push_str(name));
        self.text[name.clone()].make_ascii_lowercase();
        let value = value.trim_ascii();
        let value = self.keep(|text| match std::str::from_utf8(value) {
            Ok(value) => text.push_str(value),
            Err(_) => text.extend(value.iter().copied().map(char::from)),
        });
        self.fields.push(Field { name, value });
    }

    /// Puts a field in the place of all of its name.
    pub fn set(&mut self, name: &str, value: &str) {
        let Headers { text, fields } = self;
        fields.retain(|field| !text[field.name.clone()].eq_ignore_ascii_case(name));
        self.add(name, value.as_bytes());
    }

    /// The first value of a name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a name, in any case.
    pub fn all<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s str> {
        self.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    /// Whether a list field (such as `Connection`) holds a token, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|v| v.split(','))
            .any(|t| t.trim_matches([' ', '\t']).eq_ignore_ascii_case(token))
    }

    /// Name and value of every field.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|f| (&self.text[f.name.clone()], &self.text[f.value.clone()]))
    }

    /// Adds to the text; where it lies.
    fn keep(&mut self, add: impl FnOnce(&mut String)) -> Range<usize> {
        let start = self.text.len();
        add(&mut self.text);
        start..self.text.len()
    }
}
