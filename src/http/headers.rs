//! The fields of a request's head.

/// Header fields in the order received; names in lower case.
#[derive(Clone, Debug, Default)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Adds a field. A value that is not UTF-8 is read as Latin-1.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        let value = match std::str::from_utf8(value) {
            Ok(text) => text.to_string(),
            Err(_) => value.iter().map(|&b| char::from(b)).collect(),
        };
        let value = value.trim_matches([' ', '\t']).to_string();
        self.0.push((name.to_ascii_lowercase(), value));
    }

    /// Puts a field in the place of all of its name.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self.add(name, value.as_bytes());
    }

    /// The first value of a name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a name, in any case.
    pub fn all<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s str> {
        self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Whether a list field (such as `Connection`) holds a token, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|v| v.split(','))
            .any(|t| t.trim_matches([' ', '\t']).eq_ignore_ascii_case(token))
    }

    /// Name and value of every field.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }
}
