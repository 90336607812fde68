//! The frontend over a real cluster: accounts, sessions, forms, pages. A visitor here has no scripts.

use crate::harness::{Cluster, Web, eventually, html, web::Page};
use penncloud::client::{Client, Op, Scan};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

pub const PASSWORD: &str = "correct horse battery";
/// A name that tries to be a tag.
pub const EVIL: &str = "\"><img src=x onerror=alert(1)>";

/// The cluster that these tests share: a store, and frontends that let anybody sign up (f1, f2), who was invited
/// (f3), and nobody (f4). Tries from 127.0.0.1 are not counted.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| Cluster::start_with(with_doors))
}

fn with_doors(text: &mut String) {
    let rest = text.split_off(text.find("[[smtp]]").unwrap());
    let addresses = rest.lines().filter_map(|line| line.strip_prefix("exchange = "));
    for ((name, signup), address) in [("f3", "invite"), ("f4", "closed")].iter().zip(addresses) {
        *text += &format!(
            "[[frontend]]\nname = \"{name}\"\naddress = {address}\nsignup = \"{signup}\"\n"
        );
    }
    *text += "[accounts]\nthrottle_exempt = [\"127.0.0.1\"]\naddress_rest_s = 2\n";
}

/// A cluster of a test's own.
fn start() -> Cluster {
    Cluster::start_with(|text| text.truncate(text.find("[[smtp]]").unwrap()))
}

/// A user of the test's own.
pub fn new_name(stem: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{stem}{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Someone who has just signed up at a frontend.
pub fn newcomer(cluster: &Cluster, frontend: &str, name: &str) -> Web {
    let mut web = Web::new(&cluster.address(frontend));
    let fields = [("username", name), ("password", PASSWORD)];
    let page = web.submit("/signup", "/signup", &fields, &[]).unwrap();
    assert_eq!((page.status, page.path.as_str()), (200, "/mail"), "{}", page.text());
    web
}

/// The same visitor at another frontend.
pub fn at(web: &Web, cluster: &Cluster, frontend: &str) -> Web {
    let mut there = web.clone();
    there.host = cluster.address(frontend);
    there
}

pub fn log_in(cluster: &Cluster, frontend: &str, name: &str, password: &str) -> (Web, Page) {
    let mut web = Web::new(&cluster.address(frontend));
    let fields = [("username", name), ("password", password)];
    let page = web.submit("/login", "/login", &fields, &[]).unwrap();
    (web, page)
}

pub fn token(web: &mut Web) -> String {
    let page = web.get("/settings").unwrap();
    let form = page.form("/settings/profile");
    form.fields.iter().find(|(name, _)| name == "csrf").expect("a token").1.clone()
}

pub fn urlencoded() -> (&'static str, String) {
    ("Content-Type", "application/x-www-form-urlencoded".into())
}

#[test]
fn a_newcomer_is_known_at_every_frontend() {
    let cluster = shared();
    let name = new_name("nora");
    let web = newcomer(cluster, "f1", &name);
    let page = at(&web, cluster, "f2").get("/settings").unwrap();
    assert_eq!(page.status, 200);
    assert!(page.text().contains(&format!("{name}@penn.test")), "{}", page.text());
}

#[test]
fn the_first_page_says_welcome_once() {
    let cluster = shared();
    let mut web = Web::new(&cluster.address("f1"));
    let fields = [("username", new_name("wim")), ("password", PASSWORD.into())];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let page = web.submit("/signup", "/signup", &fields, &[]).unwrap();
    assert!(page.text().contains("Welcome to PennCloud."), "{}", page.text());
    assert!(!web.get("/mail").unwrap().text().contains("Welcome to PennCloud."));
}

#[test]
fn a_guest_is_sent_to_the_login_and_back() {
    let cluster = shared();
    let name = new_name("gert");
    newcomer(cluster, "f1", &name);
    let mut guest = Web::new(&cluster.address("f2"));
    let login = guest.get("/files").unwrap();
    assert!(login.path.starts_with("/login?next="), "{}", login.path);
    let fields = [("username", name.as_str()), ("password", PASSWORD)];
    let page = guest.submit(&login.path, "/login", &fields, &[]).unwrap();
    assert_eq!((page.status, page.path.as_str()), (200, "/files"));
}

#[test]
fn taken_and_impossible_names_are_told_and_kept_in_the_form() {
    let cluster = shared();
    let taken = new_name("tara");
    newcomer(cluster, "f1", &taken);
    let cases =
        [(taken.as_str(), 409, "taken"), ("a..b", 400, "two dots"), ("root", 400, "reserved")];
    for (name, status, word) in cases {
        let mut web = Web::new(&cluster.address("f2"));
        let fields = [("username", name), ("password", "another password")];
        let page = web.submit("/signup", "/signup", &fields, &[]).unwrap();
        assert_eq!(page.status, status, "{name}");
        assert!(page.text().contains(word), "{name}: {}", page.text());
        let form = page.form("/signup");
        assert!(form.fields.contains(&("username".into(), name.into())), "{form:?}");
    }
}

#[test]
fn a_sign_up_that_is_repeated_is_made_once() {
    let cluster = shared();
    let name = new_name("rita");
    newcomer(cluster, "f1", &name);
    newcomer(cluster, "f2", &name);
}

#[test]
fn an_address_claimed_by_a_sign_up_that_died_is_free_for_its_user_at_once() {
    let cluster = shared();
    let name = new_name("clara");
    let client = Client::new(cluster.config()).unwrap();
    let row = format!("~address/{name}@penn.test");
    client.write(Op::put_if(row.as_str(), "user", name.as_str(), 0).with_ttl(60)).unwrap();
    newcomer(cluster, "f1", &name);
    let kept = client.get(name.as_str(), format!("address/{name}@penn.test"), 100).unwrap();
    assert!(kept.is_some(), "the address is the user's for ever");
}

#[test]
fn an_alias_of_someone_else_is_taken() {
    let cluster = shared();
    let name = new_name("alias");
    let client = Client::new(cluster.config()).unwrap();
    client.write(Op::put(format!("~address/{name}@penn.test"), "user", "somebody")).unwrap();
    let mut web = Web::new(&cluster.address("f1"));
    let fields = [("username", name.as_str()), ("password", PASSWORD)];
    assert_eq!(web.submit("/signup", "/signup", &fields, &[]).unwrap().status, 409);
    assert!(client.get(name.as_str(), "password", 1000).unwrap().is_none());
}

#[test]
fn an_unknown_name_and_a_wrong_password_look_the_same() {
    let cluster = shared();
    let name = new_name("ulla");
    newcomer(cluster, "f1", &name);
    let (_, wrong) = log_in(cluster, "f1", &name, "wrong password");
    let (_, unknown) = log_in(cluster, "f1", "nobody.at.all", "wrong password");
    assert_eq!((wrong.status, unknown.status), (403, 403));
    let without_time = |page: &Page, name: &str| {
        let text = page.source().replace(name, "NAME");
        text.split("served by").next().unwrap().to_string()
    };
    assert_eq!(without_time(&wrong, &name), without_time(&unknown, "nobody.at.all"));
}

#[test]
fn wrong_passwords_slow_down_whichever_frontend_is_asked() {
    let cluster = shared();
    let name = new_name("theo");
    newcomer(cluster, "f1", &name);
    let tries = (0..12).map(|n| {
        let frontend = if n % 2 == 0 { "f1" } else { "f2" };
        log_in(cluster, frontend, &name, "wrong password").1
    });
    let statuses: Vec<u16> = tries.map(|page| page.status).collect();
    assert_eq!(statuses[..5], [403; 5], "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
    eventually("the right password is heard again", || {
        (log_in(cluster, "f1", &name, PASSWORD).1.status == 200).then_some(())
    });
}

#[test]
fn a_new_password_ends_all_other_sessions() {
    let cluster = shared();
    let name = new_name("paul");
    let mut here = newcomer(cluster, "f1", &name);
    let (mut there, _) = log_in(cluster, "f2", &name, PASSWORD);
    let old = here.clone();
    let fields = [("old", PASSWORD), ("new", "a new password")];
    let page = here.submit("/settings", "/settings/password", &fields, &[]).unwrap();
    assert!(page.text().contains("Password changed."), "{}", page.text());
    assert_eq!(there.get("/settings").unwrap().path, "/login?next=%2Fsettings");
    assert!(at(&old, cluster, "f2").get("/mail").unwrap().path.starts_with("/login"));
    assert_eq!(log_in(cluster, "f2", &name, PASSWORD).1.status, 403);
    assert_eq!(log_in(cluster, "f2", &name, "a new password").1.path, "/mail");
}

#[test]
fn a_wrong_present_password_changes_nothing() {
    let cluster = shared();
    let name = new_name("petra");
    let mut web = newcomer(cluster, "f1", &name);
    let fields = [("old", "not my password"), ("new", "a new password")];
    let page = web.submit("/settings", "/settings/password", &fields, &[]).unwrap();
    assert_eq!(page.status, 403);
    assert!(page.text().contains("present password is not right"));
    assert_eq!(log_in(cluster, "f2", &name, PASSWORD).1.path, "/mail");
}

#[test]
fn a_session_that_was_ended_is_dead_everywhere() {
    let cluster = shared();
    let name = new_name("lars");
    let mut web = newcomer(cluster, "f1", &name);
    let before = web.clone();
    let page = web.submit("/settings", "/logout", &[], &[]).unwrap();
    assert_eq!(page.path, "/login");
    assert!(page.text().contains("You are signed out."));
    for frontend in ["f1", "f2"] {
        assert!(at(&before, cluster, frontend).get("/mail").unwrap().path.starts_with("/login"));
    }
}

#[test]
fn others_are_signed_out_and_this_one_stays() {
    let cluster = shared();
    let name = new_name("olga");
    let mut here = newcomer(cluster, "f1", &name);
    let (mut there, _) = log_in(cluster, "f2", &name, PASSWORD);
    let page = here.submit("/settings", "/settings/sessions/end-others", &[], &[]).unwrap();
    assert!(page.text().contains("One other session was signed out."), "{}", page.text());
    assert!(there.get("/mail").unwrap().path.starts_with("/login"));
    assert_eq!(here.get("/mail").unwrap().path, "/mail");
}

#[test]
fn the_store_holds_no_token_and_no_password() {
    let cluster = shared();
    let name = new_name("vera");
    newcomer(cluster, "f1", &name);
    let mut web = Web::new(&cluster.address("f1"));
    let body = format!("username={name}&password=correct+horse+battery");
    let answer = web.once("POST", "/login", &[urlencoded()], body.as_bytes()).unwrap();
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    let token = cookie.split(';').next().unwrap().rsplit_once('.').unwrap().1;
    let client = Client::new(cluster.config()).unwrap();
    let row = name.clone().into_bytes();
    let scan = Scan { row, limit: 1000, values: true, ..Scan::default() };
    let (columns, _) = client.scan(scan).unwrap();
    assert!(columns.iter().any(|c| c.name.starts_with(b"session/")));
    for column in columns {
        let cell = format!(
            "{:?}",
            [&column.name[..], column.value.as_deref().unwrap_or_default()]
                .map(String::from_utf8_lossy)
        );
        assert!(!cell.contains(token) && !cell.contains(PASSWORD), "{cell}");
    }
}

#[test]
fn a_forged_or_foreign_cookie_is_nobody() {
    let cluster = shared();
    let name = new_name("finn");
    newcomer(cluster, "f1", &name);
    let mut web = Web::new(&cluster.address("f1"));
    let long = "x".repeat(5000);
    for cookie in
        [&name, &format!("{name}."), &format!("{name}.AAAA"), "../x.y", "~address.x", ".", &long]
    {
        let header = [("Cookie", format!("pc_session={cookie}"))];
        let page = web.once("GET", "/settings", &header, &[]).unwrap();
        assert_eq!(page.status, 303, "{cookie}");
    }
}

#[test]
fn a_form_without_this_sessions_token_is_refused() {
    let cluster = shared();
    let mut web = newcomer(cluster, "f1", &new_name("cora"));
    let mut other = newcomer(cluster, "f1", &new_name("mallory"));
    let foreign = token(&mut other);
    for csrf in ["", "wrong", &foreign] {
        let fields = [("csrf".into(), csrf.to_string()), ("display_name".into(), "Pwned".into())];
        let page = web.post("/settings/profile", &fields).unwrap();
        assert_eq!(page.status, 403, "{csrf}");
    }
    assert!(!web.get("/settings").unwrap().source().contains("Pwned"));
}

#[test]
fn another_site_cannot_act_for_a_visitor() {
    let cluster = shared();
    let mut web = newcomer(cluster, "f1", &new_name("otto"));
    let body = format!("csrf={}&display_name=Pwned", token(&mut web));
    for site in ["cross-site", "same-site"] {
        let headers = [urlencoded(), ("Sec-Fetch-Site", site.into())];
        let page = web.once("POST", "/settings/profile", &headers, body.as_bytes()).unwrap();
        assert_eq!(page.status, 403, "{site}");
    }
    let headers = [urlencoded(), ("Sec-Fetch-Site", "same-origin".into())];
    let page = web.once("POST", "/settings/profile", &headers, body.as_bytes()).unwrap();
    assert_eq!(page.status, 303);
}

#[test]
fn an_evil_origin_cannot_sign_anyone_in() {
    let cluster = shared();
    let mut stream = TcpStream::connect(cluster.address("f1")).unwrap();
    let body = "username=x&password=y";
    let head = format!(
        "POST /login HTTP/1.1\r\nHost: {}\r\nOrigin: null\r\nContent-Length: {}\r\nContent-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\n{body}",
        cluster.address("f1"),
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 403"), "{line}");
}

#[test]
fn a_display_name_is_kept_and_escaped() {
    let cluster = shared();
    let mut web = newcomer(cluster, "f1", &new_name("dora"));
    let page =
        web.submit("/settings", "/settings/profile", &[("display_name", EVIL)], &[]).unwrap();
    assert_no_evil_tag(&page);
    let form = page.form("/settings/profile");
    let kept = form.fields.iter().find(|(n, _)| n == "display_name").unwrap();
    assert_eq!(kept.1, EVIL);
    let long = "x".repeat(81);
    let page =
        web.submit("/settings", "/settings/profile", &[("display_name", &long)], &[]).unwrap();
    assert_eq!(page.status, 400);
}

pub fn assert_no_evil_tag(page: &Page) {
    let evil = html::tags(&page.source()).into_iter().find(|tag| tag.get("onerror").is_some());
    assert!(evil.is_none(), "{evil:?} on {}", page.path);
}

#[test]
fn every_page_has_its_headers_and_nothing_inline() {
    let cluster = shared();
    let mut web = newcomer(cluster, "f1", &new_name("hanna"));
    let mut guest = Web::new(&cluster.address("f1"));
    let mut pages: Vec<Page> = ["/mail", "/files", "/settings", "/files/nothing", "/no/such/page"]
        .iter()
        .map(|path| web.get(path).unwrap())
        .collect();
    pages.extend(["/login", "/signup"].map(|path| guest.get(path).unwrap()));
    for page in pages {
        let policy = page.header("content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{}", page.path);
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{}", page.path);
        assert_eq!(page.header("cache-control"), Some("no-store"), "{}", page.path);
        for tag in html::tags(&page.source()) {
            assert!(tag.get("style").is_none() && tag.name != "style", "{tag:?} on {}", page.path);
            assert!(tag.name != "script" || tag.get("src").is_some(), "{tag:?} on {}", page.path);
        }
        assert!(page.text().contains("served by f1"), "{}", page.path);
    }
}

#[test]
fn static_files_are_kept_for_ever_and_asked_for_by_their_hash() {
    let cluster = shared();
    let mut guest = Web::new(&cluster.address("f2"));
    let page = guest.get("/login").unwrap();
    let tags = html::tags(&page.source());
    let style = tags.iter().find(|t| t.get("rel") == Some("stylesheet")).unwrap();
    let url = style.get("href").unwrap();
    let css = guest.get(url).unwrap();
    assert_eq!(css.header("content-type"), Some("text/css; charset=utf-8"));
    assert!(css.header("cache-control").unwrap().contains("immutable"));
    let etag = css.header("etag").unwrap().to_string();
    let again = guest.once("GET", url, &[("If-None-Match", etag)], &[]).unwrap();
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(
        guest.get("/static/app.css?v=old").unwrap().header("cache-control"),
        Some("no-cache")
    );
    for path in [
        "/static/../Cargo.toml",
        "/static/%2e%2e/Cargo.toml",
        "/static/..%2fCargo.toml",
        "/static/",
    ] {
        assert!([400, 404].contains(&guest.get(path).unwrap().status), "{path}");
    }
}

#[test]
fn what_is_not_there_has_a_page_of_its_own() {
    let cluster = shared();
    let mut web = newcomer(cluster, "f1", &new_name("nils"));
    assert_eq!(web.get("/no/such/page").unwrap().status, 404);
    let page = web.once("DELETE", "/files", &[], &[]).unwrap();
    assert_eq!(page.status, 405);
    assert!(page.header("allow").unwrap().contains("GET"));
    assert!(page.text().contains("Nothing was changed."));
}

#[test]
fn without_the_store_pages_say_so_and_come_back() {
    let cluster = start();
    let mut web = newcomer(&cluster, "f1", "stella");
    cluster.backends().iter().for_each(|name| cluster.kill(name));
    let page = web.get("/files").unwrap();
    assert_eq!(page.status, 503, "{}", page.text());
    assert!(page.header("retry-after").is_some());
    assert!(page.text().contains("safe") || page.text().contains("nothing is lost"));
    eventually("/ping says that the store is down", || {
        web.get("/ping").unwrap().source().contains("kv=down").then_some(())
    });
    assert_eq!(Web::new(&cluster.address("f1")).get("/login").unwrap().status, 200);
    cluster.backends().iter().for_each(|name| cluster.start_again(name));
    eventually("the same session works again", || {
        (web.get("/files").unwrap().path == "/files").then_some(())
    });
}

#[test]
fn a_frontend_that_is_told_to_end_finishes_an_upload_first() {
    let cluster = start();
    let mut web = newcomer(&cluster, "f1", "dirk");
    let mut upload = HalfUpload::begin(&cluster, &mut web);
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| cluster.stop("f1"));
        eventually("/ping says that it drains", || {
            web.get("/ping").unwrap().source().contains("draining=1").then_some(())
        });
        assert!(upload.finish().starts_with("HTTP/1.1 303"));
        assert!(stopped.join().unwrap(), "it ends with success");
    });
    let page = at(&web, &cluster, "f2").get("/files").unwrap();
    assert!(page.text().contains("slow.bin"), "{}", page.text());
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let cluster = shared();
    let mut web = newcomer(cluster, "f1", &new_name("brit"));
    drop(HalfUpload::begin(cluster, &mut web));
    let page = web.get("/files").unwrap();
    assert!(!page.text().contains("slow.bin"));
    assert!(page.text().contains("0 bytes of 10 GB in use"), "{}", page.text());
}

/// An upload of which one half has been sent.
struct HalfUpload {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl HalfUpload {
    fn begin(cluster: &Cluster, web: &mut Web) -> HalfUpload {
        let token = token(web);
        let cookie = web.cookie("pc_session").expect("signed in").to_string();
        let part = "Content-Disposition: form-data; name=\"file\"; filename=\"slow.bin\"";
        let body =
            format!("--B\r\n{part}\r\n\r\n{}\r\n--B--\r\n", "x".repeat(3_000_000)).into_bytes();
        let host = cluster.address("f1");
        let head = format!(
            "POST /files/00000000-0000-0000-0000-000000000000/upload HTTP/1.1\r\nHost: {host}\r\n\
             Cookie: pc_session={cookie}\r\nX-CSRF-Token: {token}\r\nConnection: close\r\n\
             Content-Type: multipart/form-data; boundary=B\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(host).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body[..body.len() / 2]).unwrap();
        HalfUpload { stream, rest: body[body.len() / 2..].to_vec() }
    }

    /// Sends the rest; the answer.
    fn finish(&mut self) -> String {
        self.stream.write_all(&self.rest).unwrap();
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).unwrap();
        answer
    }
}
