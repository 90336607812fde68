//! Attacks from outside, as the security rules of the web side number them. What is not here is elsewhere:
//!
//! | rule | is | test |
//! |---|---|---|
//! | 1 | the store knows only the hash of a token | `web::the_store_holds_no_token_and_no_password` |
//! | 2 | the cookie's attributes | `the_cookie_is_of_this_site_and_for_no_script` |
//! | 3 | any frontend serves any user | `web::a_newcomer_is_known_at_every_frontend` |
//! | 4 | no id of the client's own | `a_planted_session_is_never_adopted`, `accounts::another_login_ends_the_session_that_the_browser_had` |
//! | 5 | idle and absolute end | `a_session_ends_when_idle_and_when_old` |
//! | 6 | dead everywhere after logout | `a_session_replayed_after_logout_is_dead_at_both_frontends`, `web::a_new_password_ends_all_other_sessions`, `accounts::everywhere_is_here_too`, `accounts::no_session_outlives_a_password_even_if_it_begins_at_that_moment` |
//! | 7 | the form's token is the session's | `web::a_form_without_this_sessions_token_is_refused` |
//! | 8 | nothing is kept by the browser | `signing_out_clears_what_the_browser_kept`, `every_answer_has_the_whole_set_of_headers` |
//! | 9 | argon2id, a bounded number at once | `two_hundred_logins_at_once_take_bounded_memory`, `account::password` (unit), `accounts::a_hash_of_former_costs_is_made_anew_at_the_next_login` |
//! | 10 | which passwords | `passwords_that_everyone_tries_first_are_refused`, `account::common` (unit) |
//! | 11 | unknown and wrong are the same | `an_unknown_name_takes_as_long_as_a_wrong_password`, `web::an_unknown_name_and_a_wrong_password_look_the_same` |
//! | 12 | throttling | `an_address_is_heard_twenty_times_a_minute_at_all_frontends_together`, `web::wrong_passwords_slow_down_whichever_frontend_is_asked` |
//! | 13 | who may sign up | `signing_up_is_counted_like_signing_in`, `accounts::an_invitation_lets_one_person_in`, `accounts::nobody_signs_up_where_it_is_closed` |
//! | 14 | constant time | `tokens_are_compared_in_constant_time` |
//! | 15 | cross-site posts | `a_cross_site_post_is_refused_in_all_its_forms` |
//! | 16 | `Origin: null` | the same, `web::an_evil_origin_cannot_sign_anyone_in` |
//! | 17, 20 | policy and headers | `every_answer_has_the_whole_set_of_headers` |
//! | 18 | script in what is shown | `script_in_every_field_that_is_shown_stays_text`, `script_in_what_is_reflected_stays_text`, `tidy::pages_escape_everything_and_load_nothing_from_elsewhere` |
//! | 19 | mail that is HTML | `webmail::mail_cannot_put_tags_on_pages` |
//! | 21 | traversal | `seventeen_ways_up_lead_nowhere` |
//! | 22 | bytes of users | `files::user_bytes_never_run_in_our_origin` |
//! | 27 | the root stays | `the_drive_itself_is_not_deleted_renamed_or_moved`, `files::a_folder_cannot_be_moved_into_itself_by_anyone_who_tries` |
//! | 32 | header injection | `no_value_of_a_request_starts_another_header` |
//! | 35 | the log | `the_log_holds_no_password_no_cookie_and_no_line_of_a_visitors` |
//! | 36, 37 | the console | `console::only_the_admin_gets_in`, `console::rows_columns_and_values_are_shown_as_they_are` |
//! | 38 | the store's protocol | `protocol::nothing_is_read_of_what_is_not_admitted`, `protocol::a_web_page_cannot_talk_to_the_store` |
//! | 39 | secrets on disk | `tools::format` (unit) |
//! | 40, 41 | the balancer | `balancer::nobody_is_sent_to_another_host`, `balancer::path_and_query_go_along_and_nothing_else` |
//!
//! Rule 25 is with the drive, 28 to 31, 33, 34 and 42 with the server in `http`. Shared links (24) and archives (26)
//! do not exist yet; 23 is no rule.

use crate::harness::web::{Page, Upload};
use crate::harness::{PATIENCE, Web, eventually, html};
use crate::web::{
    EVIL, PASSWORD, assert_no_evil_tag, at, new_name, newcomer, shared, token, urlencoded,
};
use penncloud::client::{Client, Op, Scan};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const DRIVE: &str = "00000000-0000-0000-0000-000000000000";
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; media-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'; worker-src 'self'; manifest-src 'self'";
/// Memory that a frontend may take while everybody signs in.
const RESIDENT_MAX: u64 = 300 << 20;

fn client() -> Client {
    Client::new(shared().config()).unwrap()
}

fn credentials(name: &str, password: &str) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("username", name).append_pair("password", password).finish()
}

/// One POST, with headers of the attacker's choice, and nothing that a browser would add.
fn raw_post(host: &str, path: &str, headers: &str, body: &str, from: Option<&str>) -> String {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    raw(host, request.as_bytes(), from)
}

fn raw(host: &str, request: &[u8], from: Option<&str>) -> String {
    let mut stream = match from {
        Some(address) => connect_from(address, host),
        None => TcpStream::connect(host).unwrap(),
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn connect_from(address: &str, host: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(address.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&host.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.into()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status line")
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

#[test]
fn the_cookie_is_of_this_site_and_for_no_script() {
    let name = new_name("kim");
    newcomer(shared(), "f1", &name);
    let mut web = Web::new(&shared().address("f1"));
    let body = credentials(&name, PASSWORD);
    let page = web.once("POST", "/login", &[urlencoded()], body.as_bytes()).unwrap();
    let cookie = page.header("set-cookie").unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000");
    let token = pair.strip_prefix(&format!("pc_session={name}.")).expect("a token of the user's");
    assert_eq!(token.len(), 43, "256 bits in base64url");
}

#[test]
fn a_planted_session_is_never_adopted() {
    let name = new_name("fixed.fred");
    newcomer(shared(), "f1", &name);
    let planted = format!("{name}.{}", "A".repeat(43));
    let host = shared().address("f1");
    let headers = format!("{FORM}Cookie: pc_session={planted}\r\n");
    let answer = raw_post(&host, "/login", &headers, &credentials(&name, PASSWORD), None);
    assert_eq!(status(&answer), 303, "{answer}");
    assert!(answer.contains(&format!("pc_session={name}.")) && !answer.contains(&planted));
    for frontend in ["f1", "f2"] {
        let mut attacker = Web::new(&shared().address(frontend));
        let cookie = [("Cookie", format!("pc_session={planted}"))];
        assert_eq!(attacker.once("GET", "/settings", &cookie, &[]).unwrap().status, 303);
    }
}

/// Writes a session over with other times.
fn age(name: &str, change: impl Fn(&mut serde_json::Value)) {
    let client = client();
    let scan =
        Scan { row: name.into(), prefix: b"session/".to_vec(), values: true, ..Scan::default() };
    for cell in client.scan(scan).unwrap().0 {
        let mut session = serde_json::from_slice(cell.value.as_deref().unwrap()).unwrap();
        change(&mut session);
        client.write(Op::put(name, cell.name, session.to_string())).unwrap();
    }
}

#[test]
fn a_session_ends_when_idle_and_when_old() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let week = 7 * 24 * 3600;
    let idle = new_name("ida");
    let mut web = newcomer(shared(), "f1", &idle);
    age(&idle, |session| session["last_seen"] = (now - week + 60).into());
    assert_eq!(web.get("/settings").unwrap().path, "/settings", "a minute is left");
    age(&idle, |session| session["last_seen"] = (now - week).into());
    assert_eq!(web.get("/settings").unwrap().path, "/login?next=%2Fsettings");
    let old = new_name("olaf");
    let mut web = newcomer(shared(), "f1", &old);
    age(&old, |session| session["expires"] = now.into());
    assert_eq!(at(&web, shared(), "f2").get("/settings").unwrap().path, "/login?next=%2Fsettings");
    assert_eq!(web.get("/settings").unwrap().path, "/login?next=%2Fsettings");
}

#[test]
fn a_session_replayed_after_logout_is_dead_at_both_frontends() {
    let mut web = newcomer(shared(), "f1", &new_name("rolf"));
    let (stolen, csrf) = (web.clone(), token(&mut web));
    web.submit("/settings", "/logout", &[], &[]).unwrap();
    for frontend in ["f1", "f2"] {
        let mut thief = at(&stolen, shared(), frontend);
        assert!(thief.get("/settings").unwrap().path.starts_with("/login"));
        let fields = [("csrf".into(), csrf.clone()), ("display_name".into(), "Thief".into())];
        assert_eq!(thief.post("/settings/profile", &fields).unwrap().status, 403);
    }
}

#[test]
fn signing_out_clears_what_the_browser_kept() {
    let mut web = newcomer(shared(), "f1", &new_name("cleo"));
    let form = web.get("/settings").unwrap().form("/logout");
    let page = web.send(&form, &[]).unwrap();
    assert_eq!(page.header("clear-site-data"), Some("\"cache\", \"storage\""));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert!(web.cookie("pc_session").is_none());
}

#[test]
fn two_hundred_logins_at_once_take_bounded_memory() {
    let (host, pid) = (shared().address("f4"), shared().pid("f4"));
    let names: Vec<String> = (0..200).map(|_| new_name("crowd.")).collect();
    let answers: Vec<String> = std::thread::scope(|scope| {
        let log_in = |name| raw_post(&host, "/login", FORM, &credentials(name, "wrong one"), None);
        let crowd: Vec<_> = names.iter().map(|name| scope.spawn(move || log_in(name))).collect();
        crowd.into_iter().map(|c| c.join().unwrap()).collect()
    });
    let refused = answers.iter().filter(|answer| status(answer) == 503).inspect(|answer| {
        assert!(answer.contains("Retry-After: ") && answer.contains("Too many people at once"));
    });
    let (refused, heard) = (refused.count(), answers.iter().filter(|a| status(a) == 403).count());
    assert_eq!(refused + heard, 200, "{:?}", answers.iter().map(|a| status(a)).collect::<Vec<_>>());
    assert!(heard > 0);
    let peak = resident_peak(pid);
    assert!(peak < RESIDENT_MAX, "{peak} bytes");
    let page = Web::new(&host).get("/login").unwrap();
    assert_eq!(page.status, 200, "it lives on");
}

/// The most memory that a process ever had.
fn resident_peak(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn passwords_that_everyone_tries_first_are_refused() {
    let name = new_name("gullible");
    for bad in
        ["short", "password", "P@ssw0rd2024!", "12345678", "aaaaaaaa", &name, &"x".repeat(257)]
    {
        let mut web = Web::new(&shared().address("f1"));
        let fields = [("username", name.as_str()), ("password", bad)];
        let page = web.submit("/signup", "/signup", &fields, &[]).unwrap();
        assert_eq!(page.status, 400, "{bad}");
        assert!(!page.source().contains(&format!("value=\"{bad}\"")) || bad == name, "{bad}");
    }
}

#[test]
fn an_unknown_name_takes_as_long_as_a_wrong_password() {
    let host = shared().address("f1");
    let known: Vec<String> = (0..3).map(|_| new_name("tim")).collect();
    known.iter().for_each(|name| drop(newcomer(shared(), "f1", name)));
    let unknown: Vec<String> = (0..3).map(|_| new_name("tom")).collect();
    let time = |name: &str| {
        let began = Instant::now();
        let answer = raw_post(&host, "/login", FORM, &credentials(name, "a wrong password"), None);
        assert_eq!(status(&answer), 403);
        began.elapsed()
    };
    let pairs = (0..4).flat_map(|_| known.iter().zip(&unknown));
    let (known, unknown): (Vec<_>, Vec<_>) = pairs.map(|(a, b)| (time(a), time(b))).unzip();
    let (known, unknown) = (median(known), median(unknown));
    let ratio = known.as_secs_f64() / unknown.as_secs_f64();
    assert!((0.5..2.0).contains(&ratio), "{known:?} and {unknown:?}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn an_address_is_heard_twenty_times_a_minute_at_all_frontends_together() {
    let statuses: Vec<u16> = (0..25)
        .map(|n| {
            let host = shared().address(if n % 2 == 0 { "f1" } else { "f2" });
            let body = credentials(&new_name("guess"), "a wrong password");
            let answer = raw_post(&host, "/login", FORM, &body, Some("127.0.0.9"));
            assert!(status(&answer) == 403 || answer.contains("Retry-After: "), "{answer}");
            status(&answer)
        })
        .collect();
    let heard = statuses.iter().filter(|status| **status == 403).count();
    assert!((20..25).contains(&heard) && statuses.contains(&429), "{statuses:?}");
    let host = shared().address("f2");
    let answer =
        raw_post(&host, "/login", FORM, &credentials("nobody", "wrong one"), Some("127.0.0.10"));
    assert_eq!(status(&answer), 403, "another address is heard");
}

#[test]
fn signing_up_is_counted_like_signing_in() {
    let host = shared().address("f3");
    let answers = (0..25).map(|_| {
        let body = credentials(&new_name("swarm"), PASSWORD);
        status(&raw_post(&host, "/signup", FORM, &body, Some("127.0.0.11")))
    });
    let answers: Vec<u16> = answers.collect();
    assert!(answers.iter().all(|status| [403, 429].contains(status)), "{answers:?}");
    assert!(answers.contains(&429), "codes are not guessed at any speed");
}

#[test]
fn tokens_are_compared_in_constant_time() {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for dir in ["account", "frontend", "frontend/mail", "console"] {
        for entry in std::fs::read_dir(top.join(dir)).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let text = text.split("#[cfg(test)]").next().unwrap();
            for bad in ["csrf ==", "csrf !=", "== self.csrf", "token ==", "token !=", "== token"] {
                assert!(!text.contains(bad), "{}: {bad}", path.display());
            }
        }
    }
}

#[test]
fn a_cross_site_post_is_refused_in_all_its_forms() {
    let mut web = newcomer(shared(), "f1", &new_name("victor"));
    let (host, csrf) = (web.host.clone(), token(&mut web));
    let cookie = format!("Cookie: pc_session={}\r\n", web.cookie("pc_session").unwrap());
    // Even with the right token: each of these alone must do.
    let body = format!("csrf={csrf}&display_name=Pwned");
    let forms = [
        "Sec-Fetch-Site: cross-site\r\n".to_string(),
        format!("Sec-Fetch-Site: same-site\r\nOrigin: http://{host}\r\n"),
        "Origin: http://evil.test\r\n".to_string(),
        "Origin: null\r\n".to_string(),
        "Referer: http://evil.test/page\r\n".to_string(),
    ];
    for form in &forms {
        for path in ["/settings/profile", "/login", "/signup", "/logout", "/settings/delete"] {
            let headers = format!("{FORM}{cookie}{form}");
            let answer = raw_post(&host, path, &headers, &body, None);
            assert_eq!(status(&answer), 403, "{path} {form}");
            assert!(!answer.contains("Set-Cookie: pc_session"), "{path} {form}");
        }
    }
    // Without any of them, as from a very old browser, the token is what is asked for; in every encoding that a
    // form of another site may have.
    for kind in
        ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=B"]
    {
        let multipart = "--B\r\nContent-Disposition: form-data; name=\"display_name\"\r\n\r\nPwned\r\n--B--\r\n";
        let body = if kind.starts_with("multipart") { multipart } else { "display_name=Pwned" };
        let headers = format!("Content-Type: {kind}\r\n{cookie}");
        let answer = raw_post(&host, "/settings/profile", &headers, body, None);
        assert!([400, 403].contains(&status(&answer)), "{kind}: {answer}");
    }
    assert!(!web.get("/settings").unwrap().source().contains("Pwned"));
}

#[test]
fn every_answer_has_the_whole_set_of_headers() {
    let mut web = newcomer(shared(), "f1", &new_name("hedda"));
    let mut guest = Web::new(&shared().address("f1"));
    let style = html::tags(&guest.get("/login").unwrap().source());
    let style = style.iter().find(|tag| tag.get("rel") == Some("stylesheet")).unwrap();
    let style = style.get("href").unwrap().to_string();
    let mut answers: Vec<Page> = ["/login", "/signup", "/ping", "/mail", "/no/such/page", &style]
        .iter()
        .map(|path| guest.once("GET", path, &[], &[]).unwrap())
        .collect();
    let own =
        ["/", "/mail", "/mail/compose", "/files", "/settings", "/settings/delete", "/no/such/page"];
    answers.extend(own.map(|path| web.once("GET", path, &[], &[]).unwrap()));
    answers.push(web.once("DELETE", "/files", &[], &[]).unwrap());
    answers.push(web.once("POST", "/settings/profile", &[urlencoded()], b"csrf=wrong").unwrap());
    for answer in &answers {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name} of {}", answer.path);
        }
        assert_eq!(answer.header("server"), None, "{}", answer.path);
        if answer.path != style {
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{}", answer.path);
        }
        if answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
            let policy = answer.header("content-security-policy").unwrap();
            assert_eq!(policy, POLICY, "{}", answer.path);
        }
    }
}

/// Pages where somebody's words are shown to them.
fn links_of(page: &Page, below: &str) -> Vec<String> {
    let links = html::links(&page.source()).into_iter().map(|(link, _)| link);
    links.filter(|link| link.starts_with(below)).collect()
}

#[test]
fn script_in_every_field_that_is_shown_stays_text() {
    let name = new_name("eve");
    let mut web = newcomer(shared(), "f1", &name);
    web.submit("/settings", "/settings/profile", &[("display_name", EVIL)], &[]).unwrap();
    web.submit("/files", &format!("/files/{DRIVE}/folder"), &[("name", EVIL)], &[]).unwrap();
    let file = [Upload { field: "file", name: &format!("{EVIL}.txt"), bytes: EVIL.as_bytes() }];
    web.submit("/files", &format!("/files/{DRIVE}/upload"), &[], &file).unwrap();
    let to = format!("{name}@penn.test");
    let words = [("to", to.as_str()), ("subject", EVIL), ("text", EVIL), ("action", "send")];
    let file = [Upload { field: "file", name: EVIL, bytes: b"x" }];
    let page = web.submit("/mail/compose", "/mail/compose", &words, &file).unwrap();
    assert!(page.text().contains("Message sent."), "{}", page.text());
    // A browser that calls itself so is listed among the sessions.
    let headers = [urlencoded(), ("User-Agent", EVIL.to_string())];
    let body = credentials(&name, PASSWORD);
    Web::new(&web.host).once("POST", "/login", &headers, body.as_bytes()).unwrap();

    let mut paths: Vec<String> =
        ["/settings", "/settings/delete", "/files", "/mail", "/mail/compose"]
            .map(String::from)
            .into();
    paths.extend(links_of(&web.get("/files").unwrap(), "/files/"));
    paths.extend(links_of(&web.get("/mail").unwrap(), "/mail/"));
    let (mut seen, mut shown) = (Vec::new(), 0);
    while let Some(path) = paths.pop() {
        if seen.contains(&path) {
            continue;
        }
        let page = web.get(&path).unwrap();
        if page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
            assert_no_evil_tag(&page);
            shown += usize::from(page.text().contains("onerror=alert(1)"));
        } else {
            let policy = page.header("content-security-policy").unwrap();
            assert_eq!(policy, "sandbox; default-src 'none'", "{path}");
        }
        if path.starts_with("/mail/") && seen.len() < 60 {
            paths.extend(links_of(&page, "/mail/"));
        }
        seen.push(path);
    }
    assert!(shown >= 8, "the words are shown, as words: on {shown} of {seen:?}");
}

#[test]
fn script_in_what_is_reflected_stays_text() {
    let mut web = newcomer(shared(), "f1", &new_name("rhea"));
    let mut guest = Web::new(&shared().address("f1"));
    let word: String = form_urlencoded::byte_serialize(EVIL.as_bytes()).collect();
    for path in ["/login?next=/", "/signup?code=", "/no/such/", "/files?after=", "/mail?before="] {
        for web in [&mut guest, &mut web] {
            assert_no_evil_tag(&web.get(&format!("{path}{word}")).unwrap());
        }
    }
    let fields = [("username".into(), EVIL.to_string()), ("password".into(), EVIL.to_string())];
    for path in ["/login", "/signup"] {
        let page = guest.post(path, &fields).unwrap();
        assert_no_evil_tag(&page);
        let form = page.form(path);
        assert!(form.fields.iter().any(|(name, value)| name == "username" && value == EVIL));
    }
    let page =
        web.submit("/settings", "/settings/profile", &[("display_name", &EVIL.repeat(9))], &[]);
    assert_no_evil_tag(&page.unwrap());
    let fields = ["to", "cc", "bcc", "subject", "text"].map(|field| (field, EVIL));
    let words = [&fields[..], &[("action", "send")]].concat();
    let page = web.submit("/mail/compose", "/mail/compose", &words, &[]).unwrap();
    assert_ne!(page.status, 303);
    assert_no_evil_tag(&page);
}

#[test]
fn seventeen_ways_up_lead_nowhere() {
    let web = newcomer(shared(), "f1", &new_name("trude"));
    let cookie = format!("Cookie: pc_session={}\r\n", web.cookie("pc_session").unwrap());
    let host = web.host.clone();
    let ways = [
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "..%5c",
        "..\\",
        "....//",
        "..;/",
        ".%2e/",
        "%252e%252e%252f",
        "%c0%ae%c0%ae/",
        "..%00/",
        "%2f%2f",
        "./../",
        "..%2f..%2f",
        "%5c%5c",
        "..//",
    ];
    assert_eq!(ways.len(), 17);
    for way in ways {
        for below in ["/static/", "/files/", &format!("/files/{DRIVE}/")] {
            let path = format!("{below}{}etc/passwd", way.repeat(4));
            let head =
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{cookie}Connection: close\r\n\r\n");
            let answer = raw(&host, head.as_bytes(), None);
            assert!([303, 400, 404].contains(&status(&answer)), "{path}: {answer}");
            assert!(!answer.contains("root:") && !answer.contains("[package]"), "{path}: {answer}");
        }
    }
}

#[test]
fn the_drive_itself_is_not_deleted_renamed_or_moved() {
    let mut web = newcomer(shared(), "f1", &new_name("ruth"));
    let csrf = token(&mut web);
    for (action, field) in [("delete", "x"), ("rename", "name"), ("move", "to")] {
        let fields = [("csrf".into(), csrf.clone()), (field.into(), DRIVE.to_string())];
        let page = web.post(&format!("/files/{DRIVE}/{action}"), &fields).unwrap();
        assert!([400, 404].contains(&page.status), "{action}: {} {}", page.status, page.text());
    }
    assert_eq!(web.get("/files").unwrap().status, 200);
}

#[test]
fn no_value_of_a_request_starts_another_header() {
    let name = new_name("crlf");
    let mut web = newcomer(shared(), "f1", &name);
    let inject = "%0d%0aX-Injected:%20yes%0d%0a%0d%0a<h1>";
    let host = web.host.clone();
    let cookie = format!("Cookie: pc_session={}\r\n", web.cookie("pc_session").unwrap());
    let gets = [
        format!("/login?next=/{inject}"),
        format!("/files?after={inject}"),
        format!("/static/{inject}"),
        format!("/mail/{inject}"),
        format!("/{inject}"),
    ];
    for path in gets {
        for cookie in ["", cookie.as_str()] {
            let head =
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{cookie}Connection: close\r\n\r\n");
            assert_not_injected(&raw(&host, head.as_bytes(), None));
        }
    }
    let next = format!("{}&next=/{inject}", credentials(&name, PASSWORD));
    assert_not_injected(&raw_post(&host, "/login", FORM, &next, None));
    let csrf = token(&mut web);
    let folder = format!("csrf={csrf}&name={inject}");
    let headers = format!("{FORM}{cookie}");
    assert_not_injected(&raw_post(
        &host,
        &format!("/files/{DRIVE}/folder"),
        &headers,
        &folder,
        None,
    ));
    let part =
        "Content-Disposition: form-data; name=\"file\"; filename=\"a%0D%0AX-Injected: yes.txt\"";
    let body = format!("--B\r\n{part}\r\n\r\nx\r\n--B--\r\n");
    let headers = format!(
        "Content-Type: multipart/form-data; boundary=B\r\nX-CSRF-Token: {csrf}\r\n{cookie}"
    );
    assert_not_injected(&raw_post(&host, &format!("/files/{DRIVE}/upload"), &headers, &body, None));
    for link in links_of(&web.get("/files").unwrap(), "/files/") {
        let head =
            format!("GET {link} HTTP/1.1\r\nHost: {host}\r\n{cookie}Connection: close\r\n\r\n");
        assert_not_injected(&raw(&host, head.as_bytes(), None));
    }
}

fn assert_not_injected(answer: &str) {
    let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
    assert!(!head.lines().any(|line| line.starts_with("x-injected")), "{answer}");
}

#[test]
fn the_log_holds_no_password_no_cookie_and_no_line_of_a_visitors() {
    let name = new_name("logan");
    let web = newcomer(shared(), "f1", &name);
    let secret = "a very secret word";
    let host = shared().address("f1");
    raw_post(&host, "/login?password=in-the-query", FORM, &credentials(&name, secret), None);
    let forged = "/files/%0a2026-01-01T00:00:00Z%20[ERROR]%20forged";
    let head = format!("GET {forged} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    raw(&host, head.as_bytes(), None);
    let log = eventually("something is logged", || {
        let log = shared().log("f1");
        (!log.is_empty()).then_some(log)
    });
    let token = web.cookie("pc_session").unwrap().rsplit('.').next().unwrap();
    for word in [secret, PASSWORD, token, "in-the-query"] {
        assert!(!log.contains(word), "{word} is in the log");
    }
    assert!(!log.lines().any(|line| line.starts_with("2026-01-01T00:00:00Z")), "{log}");
}
