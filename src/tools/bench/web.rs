//! Frontends: pages, uploads and downloads of an account that is made for it, and then mail to it.

use super::table::size;
use super::{Against, Bench, smtp};
use crate::client::Op;
use crate::error::{Error, Result};
use crate::http::client::{Answer, Client};
use std::time::Duration;

/// Connections that load pages.
const PAGE_CONNECTIONS: [usize; 2] = [1, 16];

/// Connections that move files, and the sizes of the files.
const FILE_CONNECTIONS: [usize; 2] = [1, 4];
const FILE_SIZES: [u64; 2] = [1 << 20, 16 << 20];

/// Time for one request.
const PATIENCE: Duration = Duration::from_secs(60);

const BOUNDARY: &str = "----penncloud-bench-7b1c02";

/// Runs the cases.
pub(super) fn run(bench: &mut Bench) {
    let Some(frontend) = bench.config.frontends.first() else { return };
    let host = frontend.address.clone();
    for connections in PAGE_CONNECTIONS {
        let guest = |_| page_loader(Browser::connect(&host, "")?, "/login");
        bench.case("GET /login", (connections, 0), Against::RoundTrips, guest);
    }
    let account = match Account::make(&host, format!("bench-{}", bench.run)) {
        Ok(account) => account,
        Err(error) => return bench.skipped("an account for pages, files and mail", error),
    };
    pages(bench, &account);
    files(bench, &account);
    smtp::run(bench, &account.user);
    account.remove(bench);
}

fn pages(bench: &mut Bench, account: &Account) {
    for connections in PAGE_CONNECTIONS {
        for path in ["/mail", "/files"] {
            let loader = |_| page_loader(account.browser()?, path);
            let name = format!("GET {path}, signed in");
            bench.case(&name, (connections, 0), Against::RoundTrips, loader);
        }
    }
}

fn files(bench: &mut Bench, account: &Account) {
    for bytes in FILE_SIZES {
        for connections in FILE_CONNECTIONS {
            let load = (connections, bytes);
            let (up, down) = (|_| account.uploader(bytes), |_| account.downloader(bytes));
            bench.case(&format!("upload {}", size(bytes)), load, Against::Bandwidth, up);
            bench.case(&format!("download {}", size(bytes)), load, Against::Bandwidth, down);
        }
    }
}

fn page_loader(mut browser: Browser, path: &'static str) -> Result<impl FnMut() -> Result<u64>> {
    Ok(move || Ok(browser.get(path)?.body.len() as u64))
}

/// One kept connection to a frontend.
struct Browser {
    client: Client,
    origin: String,
    cookie: String,
}

impl Browser {
    fn connect(host: &str, cookie: &str) -> Result<Browser> {
        let client = Client::connect(host, PATIENCE)?;
        Ok(Browser { client, origin: format!("http://{host}"), cookie: cookie.into() })
    }

    fn get(&mut self, path: &str) -> Result<Answer> {
        let answer = self.client.request("GET", path, &[("Cookie", &self.cookie)], b"")?;
        expect(answer, 200)
    }

    /// Sends a form; a good one is answered with a redirect.
    fn post(&mut self, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
        let fields =
            [("Cookie", self.cookie.as_str()), ("Origin", &self.origin), ("Content-Type", kind)];
        expect(self.client.request("POST", path, &fields, body)?, 303)
    }
}

fn expect(answer: Answer, status: u16) -> Result<Answer> {
    if answer.status == status {
        return Ok(answer);
    }
    Err(Error::bad(format_args!("the server answered {} instead of {status}", answer.status)))
}

/// The text of a page between two others.
fn between<'p>(page: &'p str, before: &str, after: &str) -> Result<&'p str> {
    let found = page.split_once(before).and_then(|(_, rest)| rest.split_once(after));
    found
        .map(|(found, _)| found)
        .ok_or_else(|| Error::bad(format_args!("the page has no {before:?}")))
}

/// Where the link on a file's name leads.
fn link_to(page: &str, name: &str) -> Result<String> {
    let before = page.split_once(name).and_then(|(before, _)| before.rsplit_once("\"/files/"));
    let link = before.and_then(|(_, link)| link.split('"').next());
    let link = link.ok_or_else(|| Error::bad(format_args!("no link leads to {name}")))?;
    Ok(format!("/files/{link}"))
}

/// An account that is signed in.
pub(super) struct Account {
    host: String,
    user: String,
    /// Its cookies, as a browser sends them.
    pub(super) cookie: String,
    /// The token of its forms.
    csrf: String,
    /// Where files are sent.
    upload: String,
}

impl Account {
    pub(super) fn make(host: &str, user: String) -> Result<Account> {
        let mut browser = Browser::connect(host, "")?;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("username", &user);
        form.append_pair("password", &uuid::Uuid::new_v4().to_string());
        let kind = "application/x-www-form-urlencoded";
        let answer = browser.post("/signup", kind, form.finish().as_bytes())?;
        let cookies = answer.headers.all("set-cookie").filter_map(|set| set.split(';').next());
        browser.cookie = cookies.collect::<Vec<_>>().join("; ");
        let page = browser.get("/files")?;
        let page = String::from_utf8_lossy(&page.body);
        let csrf = between(&page, "name=\"csrf\" value=\"", "\"")?.into();
        let upload =
            format!("/files/{}/upload", between(&page, "data-upload=\"/files/", "/upload\"")?);
        Ok(Account { host: host.into(), user, cookie: browser.cookie, csrf, upload })
    }

    fn browser(&self) -> Result<Browser> {
        Browser::connect(&self.host, &self.cookie)
    }

    /// The body of an upload of so many bytes.
    fn form(&self, name: &str, bytes: u64) -> Vec<u8> {
        let csrf = &self.csrf;
        let before = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"csrf\"\r\n\r\n{csrf}\r\n\
             --{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n"
        );
        let mut body = before.into_bytes();
        body.resize(body.len() + bytes as usize, b'x');
        body.extend(format!("\r\n--{BOUNDARY}--\r\n").bytes());
        body
    }

    fn uploader(&self, bytes: u64) -> Result<impl FnMut() -> Result<u64>> {
        let mut browser = self.browser()?;
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        Ok(move || {
            let form = self.form(&file_name("1"), bytes);
            browser.post(&self.upload, &kind, &form)?;
            Ok(bytes)
        })
    }

    fn downloader(&self, bytes: u64) -> Result<impl FnMut() -> Result<u64>> {
        let (mut browser, name) = (self.browser()?, file_name("0"));
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        browser.post(&self.upload, &kind, &self.form(&name, bytes))?;
        let listing = browser.get("/files")?;
        let listing = String::from_utf8_lossy(&listing.body);
        let path = link_to(&listing, &name)?;
        Ok(move || {
            let got = browser.get(&path)?.body.len() as u64;
            if got == bytes { Ok(bytes) } else { Err(Error::corrupt("the file came back short")) }
        })
    }

    /// Removes what the account has in the store.
    fn remove(&self, bench: &Bench) {
        let (user, domain) = (&self.user, &bench.config.cluster.mail_domain);
        let rows = [
            format!("{user}/files"),
            format!("{user}/mail"),
            user.clone(),
            format!("~address/{user}@{domain}"),
        ];
        for row in rows {
            let _ = bench.client.write(Op::DeleteRow { row: row.into() });
        }
    }
}

/// A name that is listed among the first (`0`) or after them (`1`).
fn file_name(start: &str) -> String {
    format!("{start}-{}.bin", uuid::Uuid::new_v4().simple())
}
