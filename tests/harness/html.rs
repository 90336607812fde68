//! As much of HTML as is needed to fill in forms and follow links.

/// A tag with its attributes.
#[derive(Clone, Debug, Default)]
pub struct Tag {
    /// Name in lower case; `/form` for an end tag.
    pub name: String,
    /// The text between it and the next tag.
    pub text: String,
    attributes: Vec<(String, String)>,
}

impl Tag {
    /// The value of an attribute; empty for one without a value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// A form as a person finds it on a page.
#[derive(Clone, Debug, Default)]
pub struct Form {
    /// Where it is sent.
    pub action: String,
    /// Its fields and what they hold already.
    pub fields: Vec<(String, String)>,
    /// Whether it is sent as multipart/form-data.
    pub multipart: bool,
}

impl Form {
    /// Fills in a field; one that is not on the form is added.
    pub fn set(&mut self, name: &str, value: &str) {
        self.fields.retain(|(n, _)| n != name);
        self.fields.push((name.into(), value.into()));
    }
}

/// All tags of a page.
pub fn tags(page: &str) -> Vec<Tag> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
        } else if rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') {
            let (tag, after) = tag(rest);
            let text = unescape(after.split('<').next().unwrap_or_default());
            found.push(Tag { text, ..tag });
            rest = after;
        }
    }
    found
}

/// All forms of a page, without what only a chosen button or box would send.
pub fn forms(page: &str) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    let mut open = false;
    for tag in tags(page) {
        match tag.name.as_str() {
            "form" => {
                open = true;
                forms.push(Form {
                    action: tag.get("action").unwrap_or_default().into(),
                    multipart: tag.get("enctype") == Some("multipart/form-data"),
                    fields: Vec::new(),
                });
            }
            "/form" => open = false,
            "input" if open => {
                let kind = tag.get("type").unwrap_or("text");
                let sent = match kind {
                    "submit" | "button" | "file" => false,
                    "checkbox" | "radio" => tag.get("checked").is_some(),
                    _ => true,
                };
                if let (true, Some(name), Some(form)) = (sent, tag.get("name"), forms.last_mut()) {
                    form.fields.push((name.into(), tag.get("value").unwrap_or_default().into()));
                }
            }
            "textarea" if open => {
                if let (Some(name), Some(form)) = (tag.get("name"), forms.last_mut()) {
                    let text = tag.text.strip_prefix('\n').unwrap_or(&tag.text);
                    form.fields.push((name.into(), text.into()));
                }
            }
            _ => {}
        }
    }
    forms
}

/// The links of a page: where each leads, and what it says.
pub fn links(page: &str) -> Vec<(String, String)> {
    let anchors = page.split("<a ").skip(1);
    let link = |rest: &str| {
        let source = format!("a {rest}");
        let (tag, after) = tag(&source);
        let says = text(after.split("</a>").next()?);
        Some((tag.get("href")?.to_string(), says.trim().to_string()))
    };
    anchors.filter_map(link).collect()
}

/// A page's text as a person reads it, without tags, scripts and styles.
pub fn text(page: &str) -> String {
    let mut out = String::new();
    for (i, part) in page.split('<').enumerate() {
        let shown = if i == 0 { part } else { part.split_once('>').map_or("", |(_, text)| text) };
        if !part.starts_with("style") && !part.starts_with("script") {
            out.push_str(&unescape(shown));
            out.push(' ');
        }
    }
    out
}

/// Parses a tag after its `<`; what follows its `>`.
fn tag(text: &str) -> (Tag, &str) {
    let end = text.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(text.len());
    let mut tag = Tag { name: text[..end].trim_end_matches('/').to_lowercase(), ..Tag::default() };
    if text[..end].starts_with('/') {
        tag.name = text[..end].to_lowercase();
    }
    let mut rest = &text[end..];
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        let Some(first) = rest.chars().next() else { return (tag, "") };
        if first == '>' {
            return (tag, &rest[1..]);
        }
        let end = rest.find(|c: char| c.is_whitespace() || "=>/".contains(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end.max(1));
        let (value, after) = match after.strip_prefix('=') {
            Some(value) => attribute_value(value),
            None => (String::new(), after),
        };
        tag.attributes.push((name.to_lowercase(), value));
        rest = after;
    }
}

fn attribute_value(text: &str) -> (String, &str) {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let (value, after) = text[1..].split_once(quote).unwrap_or((&text[1..], ""));
            (unescape(value), after)
        }
        _ => {
            let end = text.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(text.len());
            (unescape(&text[..end]), &text[end..])
        }
    }
}

/// Replaces character references.
pub fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        rest = match after.split_once(';').and_then(|(n, tail)| Some((reference(n)?, tail))) {
            Some((c, tail)) => {
                out.push(c);
                tail
            }
            None => {
                out.push('&');
                after
            }
        };
    }
    out + rest
}

fn reference(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

#[test]
fn forms_links_and_text_are_found() {
    let page = r#"<!-- <form action=/no> --><h1>A &amp; B</h1><a href="/x?a=1&amp;b=2">x</a>
        <form method=post action='/go' enctype="multipart/form-data"><input type=hidden name=csrf value="t&#34;k">
        <input name=title value=""><input type=file name=f><br/><textarea name=t>
&lt;hi></textarea></form>"#;
    assert_eq!(links(page), [("/x?a=1&b=2".into(), "x".into())]);
    let form = &forms(page)[0];
    assert_eq!((form.action.as_str(), form.multipart), ("/go", true));
    assert_eq!(
        form.fields,
        [
            ("csrf".into(), "t\"k".into()),
            ("title".into(), String::new()),
            ("t".into(), "<hi>".into())
        ]
    );
    assert!(text(page).contains("A & B"));
}
