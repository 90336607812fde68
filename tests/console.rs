//! The console over a real cluster: who gets in, what it shows, what it does.

use crate::harness::web::Page;
use crate::harness::{Cluster, Text, Web, eventually};

fn password(cluster: &Cluster) -> String {
    cluster.config().secrets().unwrap().admin_password
}

/// A browser in which the admin has logged in.
fn admin(cluster: &Cluster) -> Web {
    let mut web = Web::new(&cluster.address("console"));
    // Wrong passwords of other tests may ask for a pause.
    let page = eventually("the door opens", || {
        let page = log_in(&mut web, "admin", &password(cluster));
        (page.status != 429).then_some(page)
    });
    assert_eq!((page.status, page.path.as_str()), (200, "/"), "{}", page.text());
    web
}

fn log_in(web: &mut Web, name: &str, password: &str) -> Page {
    let fields = [("username", name), ("password", password)];
    web.submit("/login", "/login", &fields, &[]).unwrap()
}

/// Gives an order through its form.
fn order(web: &mut Web, node: &str, action: &str, typed: &str) -> Page {
    let path = format!("/nodes/{node}/{action}");
    web.submit(&path, &path, &[("name", typed)], &[]).unwrap()
}

/// The node that serves a row now.
fn primary_of(cluster: &Cluster, row: &str) -> String {
    let mut master = Text::connect(&cluster.address("m1")).unwrap();
    let line = master.ask(format!("WHERE {row}")).unwrap();
    line.split(' ').nth(2).unwrap().to_string()
}

#[test]
fn only_the_admin_gets_in() {
    let cluster = Cluster::shared();
    let mut web = Web::new(&cluster.address("console"));
    let paths =
        ["/", "/kv", "/kv/a1", "/kv/a1/row?row=x", "/audit", "/nodes/a1/shutdown", "/nowhere"];
    for path in paths {
        let page = web.once("GET", path, &[], b"").unwrap();
        assert_eq!((page.status, page.header("location")), (303, Some("/login")), "{path}");
    }
    for (name, word) in [("admin", "wrong password"), ("root", &password(&cluster)), ("", "")] {
        let refused = eventually("it is judged", || {
            Some(log_in(&mut web, name, word).status).filter(|status| *status != 429)
        });
        assert_eq!(refused, 403, "{name}");
    }
    let bare = web.once("POST", "/login", &[], b"username=admin").unwrap();
    assert_eq!(bare.status, 400, "no form type");
    let mut stranger = Web::new(&cluster.address("console"));
    let fields = [("username".into(), "admin".into()), ("password".into(), password(&cluster))];
    assert_eq!(stranger.post("/login", &fields).unwrap().status, 403, "no token of the form");
    let mut web = admin(&cluster);
    let audit = web.get("/audit").unwrap().text();
    assert!(audit.contains("wrong name or password"), "{audit}");
    assert_eq!(web.get("/login").unwrap().path, "/");
    assert_eq!(web.submit("/", "/logout", &[], &[]).unwrap().path, "/login");
    assert_eq!(web.get("/audit").unwrap().path, "/login");
}

#[test]
fn a_node_that_is_none_is_not_found() {
    let mut web = admin(&Cluster::shared());
    for path in ["/kv/nobody", "/kv/nobody/row?row=x"] {
        let page = web.get(path).unwrap();
        assert_eq!(page.status, 404, "{path}");
        assert!(page.text().contains("names no storage node"), "{}", page.text());
    }
}

#[test]
fn pages_are_guarded() {
    let cluster = Cluster::shared();
    let mut web = admin(&cluster);
    let page = web.get("/").unwrap();
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("script-src"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let path = "/nodes/a1/shutdown";
    let form = ("Content-Type", "application/x-www-form-urlencoded".to_string());
    let forged = web.once("POST", path, std::slice::from_ref(&form), b"name=a1").unwrap();
    assert_eq!(forged.status, 403, "no token");
    let token = web.get(path).unwrap().form(path).fields[0].1.clone();
    let body = format!("name=a1&csrf={token}");
    let elsewhere = ("Sec-Fetch-Site", "same-site".to_string());
    let forged = web.once("POST", path, &[form, elsewhere], body.as_bytes()).unwrap();
    assert_eq!(forged.status, 403, "another port of the host");
    assert_eq!(web.get("/nowhere").unwrap().status, 404);
    assert_eq!(web.get("/nodes/zz/shutdown").unwrap().status, 400);
    assert_eq!(web.once("DELETE", "/audit", &[], b"").unwrap().status, 405);
}

#[test]
fn the_dashboard_shows_every_process_and_tablet() {
    let cluster = Cluster::shared();
    let mut web = admin(&cluster);
    let page = eventually("all is well", || {
        let page = web.get("/").unwrap();
        page.text().contains("Healthy").then_some(page)
    });
    let text = page.text();
    for (name, role, address) in cluster.config().processes() {
        if !matches!(role, "console" | "master") {
            assert!(text.contains(name) && text.contains(address), "{name}: {text}");
        }
    }
    for tablet in ["a-s0", "a-s2", "a-l1", "b-s1", "b-l0"] {
        assert!(text.contains(tablet), "{tablet}: {text}");
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = words.join(" ");
    for said in ["primary lag ", "replica lag ", "lease ", "a1 a2", "b1 b2"] {
        assert!(words.contains(said), "{said}: {words}");
    }
    assert!(page.source().contains("http-equiv=\"refresh\""));
}

#[test]
fn rows_columns_and_values_are_shown_as_they_are() {
    let cluster = Cluster::shared();
    let mut store = Text::connect(&cluster.address("a1")).unwrap();
    let row = "console%20%3Ctest%3E%FF";
    let script = b"<script>alert(1)</script>";
    store.put(row, "text", script).unwrap();
    store.put(row, "bytes", b"\x00\x01\xfe").unwrap();
    store.put(row, "password", b"never to be seen").unwrap();
    store.put(row, "session/x", b"never to be seen").unwrap();
    store.put(row, "big", &vec![b'v'; 200_000]).unwrap();
    let mut web = admin(&cluster);
    let page = web.get("/kv?row=console%2520%253Ctest%253E%25FF").unwrap();
    let source = page.source();
    assert!(page.text().contains("<script>alert(1)</script>"), "{}", page.text());
    assert!(!source.contains("<script"), "values are never HTML");
    assert!(!source.contains("never to be seen") && page.text().contains("hidden"));
    assert!(page.text().contains("00 01 fe") && page.text().contains("a big value"));
    let node = page.path.split('/').nth(2).unwrap().to_string();
    let cell = |column: &str| {
        format!("/kv/{node}/cell?row=console%2520%253Ctest%253E%25FF&column={column}")
    };
    let text = web.get(&cell("text")).unwrap();
    assert!(
        text.text().contains("<script>alert(1)</script>") && !text.source().contains("<script")
    );
    assert!(web.get(&cell("bytes")).unwrap().source().contains("00000000  00 01 fe"));
    let hidden = web.get(&cell("password")).unwrap();
    assert!(hidden.text().contains("Hidden") && !hidden.source().contains("never to be seen"));
    let big = web.get(&cell("big")).unwrap();
    assert!(big.text().contains("Only the first 64 KiB") && big.body.len() < 100_000);
    assert_eq!(web.get(&cell("nothing")).unwrap().status, 400);
    assert_eq!(web.get(&format!("/kv/{node}/row?row=%25ZZ")).unwrap().status, 400);
}

#[test]
fn rows_are_paged_to_the_last() {
    let cluster = Cluster::shared();
    let mut store = Text::connect(&cluster.address("a1")).unwrap();
    for n in 0..120 {
        store.put(&format!("paged/{n:03}"), "c", b"v").unwrap();
    }
    let node = primary_of(&cluster, "paged");
    let mut web = admin(&cluster);
    let (mut path, mut seen, mut pages) = (format!("/kv/{node}?prefix=paged/"), Vec::new(), 0);
    loop {
        let page = web.get(&path).unwrap();
        let text = page.text();
        seen.extend(text.split_whitespace().filter(|w| w.starts_with("paged/")).map(String::from));
        pages += 1;
        let links = crate::harness::html::links(&page.source());
        match links.into_iter().find(|(href, _)| href.contains("after=")) {
            Some((next, _)) => path = next,
            None => break,
        }
    }
    let all: Vec<String> = (0..120).map(|n| format!("paged/{n:03}")).collect();
    assert_eq!((seen, pages), (all, 3));
}

/// What the dashboard says once it says all of this.
fn dashboard(web: &mut Web, wanted: &[&str]) -> String {
    eventually(&format!("the dashboard says {wanted:?}"), || {
        let text = web.get("/").unwrap().text();
        wanted.iter().all(|said| text.contains(said)).then_some(text)
    })
}

#[test]
fn the_console_works_while_what_it_stands_on_does_not() {
    let cluster = Cluster::start();
    let mut web = admin(&cluster);
    let node = primary_of(&cluster, "~console/session");
    let group = &node[..1];
    let page = web.get(&format!("/nodes/{node}/shutdown")).unwrap();
    assert!(page.text().contains("One copy is left of"), "{}", page.text());
    let refused = order(&mut web, &node, "shutdown", "another name");
    assert!(refused.status == 400 && refused.text().contains(&format!("Type {node} to confirm")));
    let done = order(&mut web, &node, "shutdown", &node);
    assert!(done.text().contains(&format!("{node} is out of service")), "{}", done.text());
    let alone = format!("one copy left (all tablets of group {group})");
    dashboard(&mut web, &["Degraded", &alone, &format!("{node} is shutdown")]);
    assert_eq!(admin(&cluster).get("/audit").unwrap().status, 200, "the other node serves");
    let done = order(&mut web, &node, "wakeup", &node);
    assert!(done.text().contains(&format!("{node} is back in service")), "{}", done.text());
    dashboard(&mut web, &["Healthy"]);
    let pair: Vec<String> =
        cluster.backends().into_iter().filter(|name| name.starts_with(group)).collect();
    pair.iter().for_each(|name| cluster.kill(name));
    let dead = format!("{} is dead", pair[1]);
    dashboard(&mut web, &["Down", "no primary: no in-sync replica is alive", &dead]);
    pair.iter().for_each(|name| cluster.start_again(name));
    dashboard(&mut web, &["Healthy"]);
    let audit = eventually("the audit row answers", || {
        Some(web.get("/audit").unwrap().text()).filter(|text| text.contains("sign in"))
    });
    assert!(audit.contains(&format!("shut down {node}")), "{audit}");

    let mut fresh = admin(&cluster);
    cluster.kill("console");
    cluster.start_again("console");
    assert_eq!(fresh.get("/").unwrap().path, "/", "the session is in the store");

    cluster.kill("m1");
    let text = fresh.get("/").unwrap().text();
    assert!(text.contains("Degraded") && text.contains("It answers."), "{text}");
    cluster.backends().iter().for_each(|name| cluster.kill(name));
    let text = fresh.get("/").unwrap().text();
    for said in ["Down", "nobody of group a answers", "nobody of group b answers"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert_eq!(fresh.get("/kv/a1").unwrap().status, 200, "a panel says that it has nothing");
    assert_eq!(fresh.get("/audit").unwrap().status, 200);
    let page = fresh.submit("/", "/logout", &[], &[]).unwrap();
    assert_eq!(page.path, "/login");
    admin(&cluster);
}
