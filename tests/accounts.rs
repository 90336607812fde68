//! Accounts over a real cluster: who may sign up, where somebody is signed in, and how an account ends.

use crate::harness::web::Upload;
use crate::harness::{Web, eventually};
use crate::web::{PASSWORD, at, log_in, new_name, newcomer, shared};
use argon2::password_hash::PasswordHasher;
use penncloud::account::{Accounts, LogIn, Made};
use penncloud::client::{Client, Op};
use penncloud::error::Error;
use penncloud::mail::{Address, Mailboxes};
use penncloud::tools::invite;
use std::time::Instant;

const DRIVE: &str = "00000000-0000-0000-0000-000000000000";

fn client() -> Client {
    Client::new(shared().config()).unwrap()
}

fn accounts() -> Accounts {
    let config = shared().config();
    Accounts::new(client(), &config.cluster, &config.accounts)
}

/// What an operator gets from `penncloud invite`.
fn invitation() -> String {
    let mut out = Vec::new();
    invite::run(shared().config(), 1, 14, &mut out).unwrap();
    String::from_utf8(out).unwrap().trim().to_string()
}

/// Tries to sign up where an invitation is asked for: the status, and where it leads.
fn come_with(code: &str, name: &str) -> (u16, String) {
    let mut web = Web::new(&shared().address("f3"));
    let fields = [("username", name), ("password", PASSWORD), ("code", code)];
    let page = web.submit("/signup", "/signup", &fields, &[]).unwrap();
    (page.status, page.path)
}

#[test]
fn an_invitation_lets_one_person_in() {
    let (code, name) = (invitation(), new_name("ines"));
    for bad in ["", "0000-0000-0000-0000"] {
        assert_eq!(come_with(bad, &name).0, 403, "{bad}");
    }
    let typed = code.to_lowercase().replace('-', " ");
    assert_eq!(come_with(&typed, &name), (200, "/mail".into()));
    assert_eq!(come_with(&code, &new_name("ivo")).0, 403, "it was used");
    assert_eq!(come_with(&code, &name), (200, "/mail".into()), "a repeat goes on");
    let mut web = Web::new(&shared().address("f3"));
    let fields = [("username", name.as_str()), ("password", "another password"), ("code", &code)];
    assert_eq!(web.submit("/signup", "/signup", &fields, &[]).unwrap().status, 409);
    assert_eq!(come_with(&code, &new_name("ida")).0, 403, "a refused repeat does not free it");
}

#[test]
fn an_invitation_is_not_spent_on_a_taken_name() {
    let (code, name) = (invitation(), new_name("ilse"));
    newcomer(shared(), "f1", &name);
    let mut web = Web::new(&shared().address("f3"));
    let fields = [("username", name.as_str()), ("password", "another password"), ("code", &code)];
    let page = web.submit("/signup", "/signup", &fields, &[]).unwrap();
    assert_eq!(page.status, 409);
    assert!(page.form("/signup").fields.contains(&("code".into(), code.clone())), "it is kept");
    assert_eq!(come_with(&code, &new_name("ilse")).0, 200);
}

#[test]
fn nobody_signs_up_where_it_is_closed() {
    let mut web = Web::new(&shared().address("f4"));
    assert!(!web.get("/login").unwrap().text().contains("Create an account"));
    assert!(web.get("/signup").unwrap().text().contains("made by the operator"));
    let name = new_name("clara");
    let fields = [("username".into(), name.clone()), ("password".into(), PASSWORD.into())];
    assert_eq!(web.post("/signup", &fields).unwrap().status, 403);
    assert!(!accounts().exists(&name).unwrap());
}

#[test]
fn sessions_are_listed_with_browser_and_address_and_end_by_their_button() {
    let name = new_name("lina");
    let mut here = newcomer(shared(), "f1", &name);
    let mut there = Web::new(&shared().address("f2"));
    let agent = [
        ("User-Agent", "Mozilla/5.0 (iPhone) Safari/604.1".to_string()),
        ("Content-Type", "application/x-www-form-urlencoded".to_string()),
    ];
    let body = format!("username={name}&password={}", PASSWORD.replace(' ', "+"));
    assert_eq!(there.once("POST", "/login", &agent, body.as_bytes()).unwrap().status, 303);
    let page = here.get("/settings").unwrap();
    let text = page.text();
    assert!(text.contains("Safari on iPhone") && text.contains("127.0.0.1 ·"), "{text}");
    assert!(text.contains("this one"), "{text}");
    let page = here.submit("/settings", "/settings/sessions/end", &[], &[]).unwrap();
    assert!(page.text().contains("The session was signed out."), "{}", page.text());
    assert!(there.get("/mail").unwrap().path.starts_with("/login"));
    assert_eq!(here.get("/mail").unwrap().path, "/mail");
}

#[test]
fn a_password_for_a_program_is_shown_once_and_removed_by_its_button() {
    let name = new_name("paula");
    let mut web = newcomer(shared(), "f1", &name);
    let mut make = |password: &str, label: &str| {
        let fields = [("password", password), ("label", label)];
        web.submit("/settings", "/settings/programs/make", &fields, &[]).unwrap()
    };
    assert_eq!(make("not my password", "Phone").status, 403);
    assert_eq!(make(PASSWORD, " ").status, 400);
    let page = make(PASSWORD, "<Phone>");
    let text = page.text();
    let shown = text.split("The password is").nth(1).unwrap().trim_start();
    let made: String = shown.chars().take(24).collect();
    assert!(text.contains("never used"), "{text}");
    let from = "127.0.0.1".parse().unwrap();
    let comes_in = || accounts().log_in_program(&name, &made, from).unwrap();
    assert!(matches!(comes_in(), LogIn::Welcome(user) if user == name));
    let text = web.get("/settings").unwrap().text();
    assert!(!text.contains(&made) && text.contains("from 127.0.0.1"), "{text}");
    let page = web.submit("/settings", "/settings/programs/end", &[], &[]).unwrap();
    assert!(page.text().contains("was removed."), "{}", page.text());
    assert!(matches!(comes_in(), LogIn::Wrong));
}

#[test]
fn everywhere_is_here_too() {
    let name = new_name("elsa");
    let mut here = newcomer(shared(), "f1", &name);
    let (mut there, _) = log_in(shared(), "f2", &name, PASSWORD);
    let old = here.clone();
    let page = here.submit("/settings", "/settings/sessions/end-all", &[], &[]).unwrap();
    assert!(page.text().contains("You are signed out everywhere."), "{}", page.text());
    for mut web in [at(&old, shared(), "f2"), old] {
        assert!(web.get("/mail").unwrap().path.starts_with("/login"));
    }
    assert!(there.get("/mail").unwrap().path.starts_with("/login"));
}

#[test]
fn another_login_ends_the_session_that_the_browser_had() {
    let name = new_name("nele");
    let mut web = newcomer(shared(), "f1", &name);
    let mut former = web.clone();
    let fields = [("username".into(), name), ("password".into(), PASSWORD.into())];
    assert_eq!(web.post("/login", &fields).unwrap().path, "/mail");
    assert_ne!(web.cookie("pc_session"), former.cookie("pc_session"));
    assert!(former.get("/mail").unwrap().path.starts_with("/login"));
    assert_eq!(web.get("/mail").unwrap().path, "/mail");
}

#[test]
fn no_session_outlives_a_password_even_if_it_begins_at_that_moment() {
    const CROWD: usize = 3;
    let name = new_name("rosa");
    let mut owner = newcomer(shared(), "f1", &name);
    let visitors: Vec<Web> = std::thread::scope(|scope| {
        let visitor = || (0..4).map(|_| log_in(shared(), "f2", &name, PASSWORD).0).collect();
        let crowd: Vec<_> = (0..CROWD).map(|_| scope.spawn(visitor)).collect();
        let mut change = || {
            let fields = [("old", PASSWORD), ("new", "a password of rosa's")];
            owner.submit("/settings", "/settings/password", &fields, &[]).unwrap().status
        };
        eventually("the password is changed", || (change() == 200).then_some(()));
        crowd.into_iter().flat_map(|c| -> Vec<Web> { c.join().unwrap() }).collect()
    });
    for mut web in visitors {
        assert!(web.get("/mail").unwrap().path.starts_with("/login"));
    }
    assert_eq!(owner.get("/mail").unwrap().path, "/mail");
}

#[test]
fn a_hash_of_former_costs_is_made_anew_at_the_next_login() {
    let (client, name) = (client(), new_name("hugo"));
    newcomer(shared(), "f1", &name);
    let params = argon2::Params::new(8 << 10, 1, 1, None).unwrap();
    let cheap = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let hash = cheap.hash_password(PASSWORD.as_bytes()).unwrap().to_string();
    client.write(Op::put(name.as_str(), "password", hash)).unwrap();
    assert_eq!(log_in(shared(), "f2", &name, PASSWORD).1.path, "/mail");
    let found = client.get(&name, "password", 1000).unwrap().unwrap();
    assert!(found.value.starts_with(b"$argon2id$v=19$m=19456,t=2,p=1$"));
    assert_eq!(log_in(shared(), "f1", &name, PASSWORD).1.path, "/mail");
}

/// Somebody with a file, a letter and two sessions.
fn settled(name: &str) -> Web {
    let mut web = newcomer(shared(), "f1", name);
    let file = [Upload { field: "file", name: "big.bin", bytes: &[7; 200_000] }];
    let page = web.submit("/files", &format!("/files/{DRIVE}/upload"), &[], &file).unwrap();
    assert!(page.text().contains("big.bin"), "{}", page.text());
    deliver(name).unwrap();
    log_in(shared(), "f2", name, PASSWORD);
    web
}

/// A letter to a user, by way of the mailbox alone, as if the address had been looked up before.
fn deliver(name: &str) -> Result<(), Error> {
    let mailboxes = Mailboxes::new(client(), shared().config());
    let mut incoming = mailboxes.incoming(None, [name.to_string()], 10_000).unwrap();
    incoming.add(b"Subject: hello\r\n\r\nhello\r\n").unwrap();
    incoming.deliver().unwrap().remove(0).1.map(drop)
}

fn owner_of_address(name: &str) -> Option<String> {
    let address = Address::parse(&format!("{name}@penn.test")).unwrap();
    Mailboxes::new(client(), shared().config()).resolve(&address).unwrap()
}

/// The rows that any backend holds for a user.
fn rows_of(name: &str) -> Vec<String> {
    let client = client();
    let rows = shared().backends().into_iter().flat_map(|backend| {
        let address = shared().address(&backend);
        client.rows_of(&address, name.as_bytes(), None, 100).unwrap().0
    });
    rows.map(|row| String::from_utf8(row.name.to_vec()).unwrap()).collect()
}

fn is_noted(name: &str) -> bool {
    client().get("~deletion", name, 100).unwrap().is_some()
}

fn wait_gone(name: &str) {
    eventually("nothing is left", || (rows_of(name).is_empty() && !is_noted(name)).then_some(()));
}

#[test]
fn a_deleted_account_leaves_nothing_and_its_name_is_free_after_a_while() {
    let name = new_name("gone.gerda");
    let mut web = settled(&name);
    let old = web.clone();
    let program = accounts().make_program(&name, PASSWORD, "Phone").unwrap();
    let LogIn::Welcome(Made::Password(program)) = program else { panic!("{program:?}") };
    assert_eq!(rows_of(&name).len(), 6, "three rows on two backends each");
    let page =
        web.submit("/settings/delete", "/settings/delete", &[("password", PASSWORD)], &[]).unwrap();
    assert_eq!((page.status, page.path.as_str()), (200, "/login"));
    assert!(page.text().contains("Your account is deleted."), "{}", page.text());
    wait_gone(&name);
    assert!(at(&old, shared(), "f2").get("/mail").unwrap().path.starts_with("/login"));
    assert_eq!(log_in(shared(), "f2", &name, PASSWORD).1.status, 403, "like any unknown name");
    let from = "127.0.0.1".parse().unwrap();
    assert!(matches!(accounts().log_in_program(&name, &program, from), Ok(LogIn::Wrong)));
    assert_eq!(owner_of_address(&name), None);
    let mut stranger = Web::new(&shared().address("f1"));
    let fields = [("username", name.as_str()), ("password", "another password")];
    let mut come = || stranger.submit("/signup", "/signup", &fields, &[]).unwrap();
    let first = come();
    assert!([200, 409].contains(&first.status), "{}", first.text());
    eventually("the name is free again", || (come().path == "/mail").then_some(()));
    let files = stranger.get("/files").unwrap().text();
    assert!(!files.contains("big.bin") && files.contains("Nothing here yet"), "{files}");
    assert_eq!(owner_of_address(&name), Some(name.clone()));
}

#[test]
fn a_wrong_password_deletes_nothing() {
    let name = new_name("stays.stella");
    let mut web = newcomer(shared(), "f1", &name);
    let fields = [("password", "not my password")];
    let page = web.submit("/settings/delete", "/settings/delete", &fields, &[]).unwrap();
    assert_eq!(page.status, 403);
    assert!(page.text().contains("The password is not right."), "{}", page.text());
    assert_eq!(web.get("/mail").unwrap().path, "/mail");
    assert!(!is_noted(&name));
}

#[test]
fn a_deletion_whose_frontend_died_is_finished_by_any_other() {
    let (client, name) = (client(), new_name("dead.doris"));
    settled(&name);
    client.write(Op::put("~deletion", name.as_str(), "0")).unwrap();
    client.write(Op::put(name.as_str(), "password", "deleted")).unwrap();
    wait_gone(&name);
    assert_eq!(owner_of_address(&name), None);
}

#[test]
fn a_deletion_that_was_never_decided_changes_nothing() {
    let name = new_name("lucky.lotte");
    newcomer(shared(), "f1", &name);
    client().write(Op::put("~deletion", name.as_str(), "0")).unwrap();
    eventually("the intention is forgotten", || {
        accounts().finish_deletions(Instant::now()).unwrap();
        (!is_noted(&name)).then_some(())
    });
    assert_eq!(log_in(shared(), "f2", &name, PASSWORD).1.path, "/mail");
}

#[test]
fn what_was_on_its_way_does_not_come_back_to_an_account_that_is_gone() {
    let name = new_name("late.lena");
    let mut web = settled(&name);
    let fields = [("password", PASSWORD)];
    web.submit("/settings/delete", "/settings/delete", &fields, &[]).unwrap();
    wait_gone(&name);
    assert!(
        matches!(deliver(&name), Err(Error::Retry(_))),
        "its sender asks for the address again"
    );
    assert!(matches!(accounts().set_display_name(&name, "Lena"), Err(Error::Denied(_))));
    assert_eq!(rows_of(&name), [""; 0]);
}
