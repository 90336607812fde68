//! A browser without JavaScript: cookies, redirects, forms, uploads.

use super::PATIENCE;
use super::html::{self, Form};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// Redirects followed in a row.
const REDIRECTS_MAX: usize = 10;

/// One visitor.
#[derive(Clone)]
pub struct Web {
    /// `host:port` of the server that is talked to now; a redirect may change it.
    pub host: String,
    cookies: BTreeMap<String, String>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Page {
    /// Status code.
    pub status: u16,
    /// Path and query after all redirects.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The decoded body.
    pub body: Vec<u8>,
}

impl Page {
    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The page's source.
    pub fn source(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What a person reads.
    pub fn text(&self) -> String {
        html::text(&self.source())
    }

    /// The form whose action ends so.
    pub fn form(&self, ending: &str) -> Form {
        let forms = html::forms(&self.source());
        let found = forms.iter().find(|f| f.action.ends_with(ending));
        let actions: Vec<_> = forms.iter().map(|f| &f.action).collect();
        found
            .unwrap_or_else(|| panic!("no form for {ending} on {}, but {actions:?}", self.path))
            .clone()
    }

    /// Where the link leads that says this.
    pub fn link(&self, says: &str) -> String {
        let links = html::links(&self.source());
        let found = links.iter().find(|(_, text)| text.contains(says));
        found.unwrap_or_else(|| panic!("no link {says:?} on {}: {links:?}", self.path)).0.clone()
    }
}

/// A file to upload.
pub struct Upload<'a> {
    /// The form's field.
    pub field: &'a str,
    /// The file's name.
    pub name: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl Web {
    /// A visitor without cookies.
    pub fn new(host: &str) -> Web {
        Web { host: host.into(), cookies: BTreeMap::new() }
    }

    /// The value of a cookie.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.get(name).map(String::as_str)
    }

    /// Fetches a page, following redirects.
    pub fn get(&mut self, path: &str) -> io::Result<Page> {
        let page = self.once("GET", path, &[], &[])?;
        self.follow(path, page)
    }

    /// Loads a page, fills in its form whose action ends so and sends it, with files if there are any;
    /// follows redirects.
    pub fn submit(
        &mut self,
        page: &str,
        action: &str,
        fields: &[(&str, &str)],
        files: &[Upload],
    ) -> io::Result<Page> {
        let mut form = self.get(page)?.form(action);
        fields.iter().for_each(|(name, value)| form.set(name, value));
        let page = self.send(&form, files)?;
        self.follow(&form.action, page)
    }

    /// Sends fields to a path, following redirects.
    pub fn post(&mut self, path: &str, fields: &[(String, String)]) -> io::Result<Page> {
        let (kind, body) = urlencoded(fields);
        let page = self.once("POST", path, &[("Content-Type", kind)], &body)?;
        self.follow(path, page)
    }

    /// Sends a form as it stands; does not follow.
    pub fn send(&mut self, form: &Form, files: &[Upload]) -> io::Result<Page> {
        let (kind, body) = match form.multipart {
            true => multipart(&form.fields, files),
            false => urlencoded(&form.fields),
        };
        self.once("POST", &form.action, &[("Content-Type", kind)], &body)
    }

    /// Sends a form as multipart, without files, following redirects.
    pub fn post_multipart(&mut self, path: &str, form: &Form) -> io::Result<Page> {
        let (kind, body) = multipart(&form.fields, &[]);
        let page = self.once("POST", path, &[("Content-Type", kind)], &body)?;
        self.follow(path, page)
    }

    /// One request and its answer, without following.
    pub fn once(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> io::Result<Page> {
        let mut stream = TcpStream::connect(&self.host)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.host);
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        if method == "POST" || !body.is_empty() {
            head += &format!("Content-Length: {}\r\nOrigin: http://{}\r\n", body.len(), self.host);
        }
        let cookies: Vec<_> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        if !cookies.is_empty() {
            head += &format!("Cookie: {}\r\n", cookies.join("; "));
        }
        stream.write_all((head + "\r\n").as_bytes())?;
        // A server may answer and close before it has read a body that it refuses.
        let sent = stream.write_all(body);
        let page = read_page(&mut BufReader::new(stream), path);
        let page = page.or_else(|e| sent.and(Err(e)))?;
        self.keep_cookies(&page);
        Ok(page)
    }

    fn keep_cookies(&mut self, page: &Page) {
        for (_, cookie) in page.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
            let Some((name, value)) = pair.split_once('=') else { continue };
            if attributes.contains("Max-Age=0") || value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.into(), value.into());
            }
        }
    }

    fn follow(&mut self, from: &str, mut page: Page) -> io::Result<Page> {
        page.path = from.into();
        for _ in 0..REDIRECTS_MAX {
            let Some(to) = page.header("location").filter(|_| page.status / 100 == 3) else {
                return Ok(page);
            };
            let mut path = to.to_string();
            if let Some(absolute) = to.strip_prefix("http://") {
                let slash = absolute.find('/').unwrap_or(absolute.len());
                self.host = absolute[..slash].into();
                path = if slash < absolute.len() { absolute[slash..].into() } else { "/".into() };
            }
            page = self.once("GET", &path, &[], &[])?;
            page.path = path;
        }
        Err(io::Error::other("too many redirects"))
    }
}

fn urlencoded(fields: &[(String, String)]) -> (String, Vec<u8>) {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(fields);
    ("application/x-www-form-urlencoded".into(), body.finish().into_bytes())
}

fn multipart(fields: &[(String, String)], files: &[Upload]) -> (String, Vec<u8>) {
    const BOUNDARY: &str = "----penncloud-test-boundary-7d1f0c";
    let quoted = |text: &str| text.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{}\"\r\n\r\n{value}\r\n",
                quoted(name)
            )
            .bytes(),
        );
    }
    for file in files {
        let (field, name) = (quoted(file.field), quoted(file.name));
        body.extend(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n").bytes());
        body.extend_from_slice(file.bytes);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}

fn read_page(from: &mut impl BufRead, path: &str) -> io::Result<Page> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
    let mut line = String::new();
    from.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| bad(&format!("not a status line: {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        from.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_string()));
    }
    let mut page = Page { status, path: path.into(), headers, body: Vec::new() };
    let length = page.header("content-length").map(|n| n.parse::<u64>());
    if page.header("transfer-encoding") == Some("chunked") {
        page.body = read_chunks(from)?;
    } else if let Some(length) = length {
        let length = length.map_err(|_| bad("a bad Content-Length"))?;
        from.take(length).read_to_end(&mut page.body)?;
        if page.body.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    } else {
        from.read_to_end(&mut page.body)?;
    }
    Ok(page)
}

fn read_chunks(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
        let end = body.len() + size as usize;
        from.take(size).read_to_end(&mut body)?;
        if body.len() != end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        from.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(body);
        }
    }
}
