//! People with a real browser: accounts, mail and files, on a desk and on a phone, in light and dark, with
//! and without scripts. Pictures of every page are left in `target/screenshots`.

use crate::harness::browser::{Browser, Look, Page};
use crate::harness::web::Upload;
use crate::harness::{Cluster, Smtp, Text, Web, eventually, long, noise, skipped};
use penncloud::protocol::cell::slot;
use std::path::Path;

const PASSWORD: &str = "correct horse battery";
const NEW_PASSWORD: &str = "staple of a new kind";

const DESK: Look = Look { name: "desk-light", width: 1280, dark: false, scripts: true };
const DESK_DARK: Look = Look { name: "desk-dark", dark: true, ..DESK };
const PHONE: Look = Look { name: "phone-light", width: 390, ..DESK };
const PHONE_DARK: Look = Look { name: "phone-dark", dark: true, ..PHONE };
const NO_SCRIPTS: Look = Look { name: "desk-no-scripts", scripts: false, ..DESK };
const DESK_DARK_NO_SCRIPTS: Look = Look { name: "desk-dark-no-scripts", dark: true, ..NO_SCRIPTS };
const PHONE_NO_SCRIPTS: Look = Look { name: "phone-no-scripts", width: 390, ..NO_SCRIPTS };
const PHONE_DARK_NO_SCRIPTS: Look =
    Look { name: "phone-dark-no-scripts", dark: true, ..PHONE_NO_SCRIPTS };

/// A browser on the shared cluster; none where there is no Chromium.
fn browser(name: &str) -> Option<Browser> {
    Browser::launch().map_err(|why| skipped(name, &why)).ok()
}

/// Somebody at a window.
struct Person<'a> {
    page: Page,
    name: String,
    cluster: &'a Cluster,
}

impl<'a> Person<'a> {
    /// Comes by way of the balancer and signs up.
    fn sign_up(browser: &Browser, cluster: &'a Cluster, look: Look, name: &str) -> Person<'a> {
        let name = format!("{name}-{}", look.name);
        let page = browser.page(look);
        page.goto(&format!("http://{}/", cluster.address("lb")));
        assert_eq!(page.path(), "/login");
        page.shot("01-login");
        page.follow("=Create an account");
        page.fill("#username", &name);
        page.fill("#password", PASSWORD);
        page.shot("02-signup");
        page.follow("=Create account");
        assert!(page.path().starts_with("/mail"), "{}", page.text());
        Person { page, name, cluster }
    }

    fn address(&self) -> String {
        format!("{}@penn.test", self.name)
    }

    fn goto(&self, path: &str) {
        self.page.goto(&format!("http://{}{path}", self.cluster.address("f1")));
    }

    fn sign_out(&self) {
        self.page.click(".account summary");
        self.page.follow("=Sign out");
        assert_eq!(self.page.path(), "/login");
    }

    fn sign_in(&self, password: &str) {
        self.page.fill("#username", &self.name);
        self.page.fill("#password", password);
        self.page.follow("=Sign in");
    }

    /// Opens the newest message of the inbox.
    fn open_newest(&self, subject: &str) {
        self.goto("/mail");
        self.page.wait_for(subject);
        self.page.follow(".letter a");
        self.page.wait_for(subject);
    }

    fn write_to(&self, to: &Person, subject: &str, text: &str) {
        self.goto("/mail");
        self.page.follow("=Compose");
        self.page.fill("#to", &to.address());
        self.page.fill("#subject", subject);
        self.page.fill("#text", text);
    }

    /// What is wrong with the pages, apart from what was asked for.
    fn no_troubles(&self, but: &[&str]) {
        let troubles = self.page.troubles();
        let own: Vec<_> = troubles.iter().filter(|t| !but.iter().any(|b| t.contains(b))).collect();
        assert!(own.is_empty(), "{}: {own:#?}", self.name);
    }
}

/// A person makes an account, changes the password, and comes back with it.
fn account(alice: &Person) {
    let page = &alice.page;
    page.wait_for("Inbox");
    page.shot("03-empty-inbox");
    page.follow("a[href='/files']");
    page.wait_for("Nothing here yet");
    page.shot("04-empty-files");
    alice.goto("/settings");
    page.shot("05-settings");
    page.fill("#old", PASSWORD);
    page.fill("#new", NEW_PASSWORD);
    page.follow("=Change password");
    page.shot("06-password-changed");
    alice.sign_out();
    alice.sign_in(PASSWORD);
    assert_eq!(page.path(), "/login", "the old password is of no use");
    page.shot("07-wrong-password");
    alice.sign_in(NEW_PASSWORD);
    page.wait_for("Inbox");
}

/// A letter with a file goes to and fro, is forwarded and deleted.
fn mail(alice: &Person, bob: &Person) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("Grüße & 'quotes'.bin");
    std::fs::write(&file, noise(7, 100_000)).unwrap();
    let subject = "Zoë says “hi” & <b>bye</b>";
    alice.write_to(bob, subject, "Line one\n.\n<script>alert(1)</script>\nhttps://penn.test/");
    alice.page.choose("#files", &[&file]);
    alice.page.shot("10-compose");
    alice.page.follow("=Send");
    alice.page.shot("11-sent");

    bob.goto("/mail");
    bob.page.wait_for(subject);
    bob.page.shot("12-inbox");
    bob.open_newest(subject);
    bob.page.wait_for("<script>alert(1)</script>");
    bob.page.shot("13-message");
    bob.page.click(".chip");
    assert_eq!(bob.page.downloaded().1, noise(7, 100_000));
    bob.page.follow("=Reply");
    bob.page.type_before("#text", "An answer.\n");
    bob.page.shot("14-reply");
    bob.page.follow("=Send");

    alice.open_newest(&format!("Re: {subject}"));
    alice.page.wait_for("An answer.");
    alice.page.shot("15-answer");
    alice.page.follow("=Forward");
    alice.page.fill("#to", &bob.address());
    alice.page.follow("=Send");
    bob.open_newest("Fwd: ");
    alice.open_newest(&format!("Re: {subject}"));
    alice.page.follow("=Delete");
    alice.goto("/mail");
    assert!(!alice.page.text().contains(subject), "{}", alice.page.text());
    alice.page.shot("16-deleted");
}

/// A file of any name comes back bit for bit, is renamed, moved and deleted.
fn files(alice: &Person) {
    let page = &alice.page;
    let dir = tempfile::tempdir().unwrap();
    let name = "Ünïcode “q” 'x' 100% & <i>東京.bin";
    let (file, bytes) = (dir.path().join(name), noise(9, 300_000));
    std::fs::write(&file, &bytes).unwrap();
    alice.goto("/files");
    page.click("=New folder");
    page.fill("#folder-name", "Größe & <b>");
    page.shot("20-new-folder");
    page.follow("=Create");
    page.wait_for("Größe & <b>");
    upload(alice, &file);
    page.shot("21-files");
    page.click(&format!("={name}"));
    assert!(page.downloaded().1 == bytes, "bit for bit");

    act(alice, name, "Rename");
    page.fill("#name", "plain.bin");
    page.shot("22-rename");
    page.follow("main form button");
    page.wait_for("plain.bin");
    act(alice, "plain.bin", "Move");
    page.follow("=Größe & <b>");
    page.shot("23-move");
    page.follow("=Move to “Größe & <b>”");
    alice.goto("/files");
    assert!(!page.text().contains("plain.bin"), "{}", page.text());
    page.follow("=Größe & <b>");
    page.wait_for("plain.bin");
    page.shot("24-folder");
    act(alice, "plain.bin", "Delete");
    page.shot("25-delete");
    page.follow("=Delete");
    page.wait_for("Nothing here yet");
}

fn upload(alice: &Person, file: &Path) {
    let page = &alice.page;
    page.choose("#upload-files", &[file]);
    let name = file.file_name().unwrap().to_string_lossy();
    if page.look.scripts {
        page.wait("the upload ends", "document.body.innerText.includes('All uploaded')");
        page.shot("20-uploaded");
        page.click("[aria-label='Close the list of uploads']");
    } else {
        page.click("=Upload");
        page.follow("#upload form button");
    }
    page.wait_for(&name);
}

/// Chooses something from the menu of a file.
fn act(alice: &Person, name: &str, what: &str) {
    alice.page.click(&format!("=Actions for {name}"));
    alice.page.follow(&format!("={what}"));
}

fn everything(look: Look) {
    let Some(browser) = browser(look.name) else { return };
    let cluster = Cluster::shared();
    let alice = Person::sign_up(&browser, &cluster, look, "alice");
    let bob = Person::sign_up(&browser, &cluster, look, "bob");
    account(&alice);
    mail(&alice, &bob);
    files(&alice);
    alice.no_troubles(&["\"network\""]);
    bob.no_troubles(&[]);
    alice.sign_out();
}

#[test]
fn a_person_at_a_desk() {
    everything(DESK);
}

#[test]
fn a_person_with_a_phone_in_the_dark() {
    everything(PHONE_DARK);
}

#[test]
fn a_person_without_scripts() {
    everything(NO_SCRIPTS);
}

/// Every page of somebody who has mail and files, and what guests see.
fn every_page(browser: &Browser, look: Look, web: &Web, pages: &[(&str, String)]) {
    let page = browser.page(look);
    let site = format!("http://{}", web.host);
    for (shot, path) in
        [("50-login", "/login"), ("51-signup", "/signup"), ("52-guest-lost", "/ways/lost")]
    {
        page.goto(&format!("{site}{path}"));
        page.shot(shot);
    }
    page.set_cookie(&site, "pc_session", web.cookie("pc_session").expect("signed in"));
    for (shot, path) in pages {
        page.goto(&format!("{site}{path}"));
        if *path == "/mail/compose" {
            let end = "document.querySelector('.send .primary').getBoundingClientRect().bottom";
            page.wait("Send in sight", &format!("(scrollTo(0, 0), {end} < innerHeight)"));
        }
        page.shot(shot);
    }
    let troubles = page.troubles();
    let own: Vec<_> = troubles.iter().filter(|t| !t.contains("\"network\"")).collect();
    assert!(own.is_empty(), "{}: {own:#?}", look.name);
}

/// A message as shops send them.
const OFFER: &str = "From: A shop <shop@x.org>\r\nSubject: Spring is here\r\nMIME-Version: 1.0\r\n\
    Content-Type: text/html; charset=utf-8\r\n\r\n<title>Spring</title><style>h1 { color: red }</style>\
    <table width='100%' bgcolor='#f4f6fb'><tr><td align=center>\r\n\
    <table width=560 bgcolor='#ffffff' cellpadding=24><tr><td><h1 style='color:#2a4bd7;font-family:Georgia'>\
    Twenty new tulips</h1>\r\n<p style='font-size:16px'>They are <b>half the price</b> until Sunday. \
    <a href='https://x.org/tulips'>See all of them</a>.</p><img src='https://x.org/t.gif' alt=tulips width=200>\
    \r\n<ul><li>red</li><li>yellow</li></ul><blockquote>They last for weeks.</blockquote>\
    <script>alert(1)</script></td></tr></table></td></tr></table>\r\n";

#[test]
fn every_page_in_every_look() {
    let Some(browser) = browser("every page in every look") else { return };
    let cluster = Cluster::shared();
    let mut web = Web::new(&cluster.address("f1"));
    let name = format!("visitor-{}", std::process::id());
    let fields = [("username", name.as_str()), ("password", PASSWORD)];
    assert_eq!(web.submit("/signup", "/signup", &fields, &[]).unwrap().path, "/mail");
    let to = format!("{name}@penn.test");
    let words =
        [("to", to.as_str()), ("subject", "A letter to myself"), ("text", "Hello\n\n> quoted\n")];
    let words = [&words[..], &[("action", "send")]].concat();
    web.submit("/mail/compose", "/mail/compose", &words, &[]).unwrap();
    let mut smtp = Smtp::connect(&cluster.address("s1")).unwrap();
    smtp.message("shop@x.org", &[&to], OFFER.as_bytes()).unwrap();
    let root = "/files/00000000-0000-0000-0000-000000000000";
    web.submit("/files", &format!("{root}/folder"), &[("name", "Holidays")], &[]).unwrap();
    let file = [Upload { field: "file", name: "A picture of the sea.png", bytes: &noise(3, 9000) }];
    let files = web.submit("/files", &format!("{root}/upload"), &[], &file).unwrap();
    let letter = web.get("/mail").unwrap().link("A letter to myself");
    let offer = web.get("/mail").unwrap().link("Spring is here");
    let message = web.get(&letter).unwrap();
    let (folder, file) = (files.link("Holidays"), files.link("A picture"));
    let file = file.trim_end_matches("/download").to_string();
    let pages = [
        ("53-inbox", "/mail".into()),
        ("54-message", letter),
        ("54-message-html", offer),
        ("55-reply", message.link("Reply")),
        ("56-compose", "/mail/compose".into()),
        ("57-files", "/files".into()),
        ("58-folder", folder),
        ("59-rename", format!("{file}/rename")),
        ("60-move", format!("{file}/move")),
        ("61-delete", format!("{file}/delete")),
        ("62-settings", "/settings".into()),
        ("62-settings-sessions", "/settings?#sessions".into()),
        ("63-delete-account", "/settings/delete".into()),
        ("64-lost", "/ways/lost".into()),
    ];
    // Most of the others are those in which people go through everything, above.
    let rest = [DESK_DARK, PHONE_NO_SCRIPTS];
    let all = [DESK, PHONE, PHONE_DARK, NO_SCRIPTS, DESK_DARK_NO_SCRIPTS, PHONE_DARK_NO_SCRIPTS];
    for look in rest.into_iter().chain(all.into_iter().filter(|_| long())) {
        every_page(&browser, look, &web, &pages);
    }
}

fn enter_console(page: &Page, password: &str) {
    page.fill("#username", "admin");
    page.fill("#password", password);
    page.follow("=Sign in");
}

#[test]
fn an_operator_at_the_console() {
    for look in [DESK, PHONE_DARK] {
        let Some(browser) = browser("an operator at the console") else { return };
        let cluster = Cluster::shared();
        let mut store = Text::connect(&cluster.address("a1")).unwrap();
        store.put("console-row", "a%20column", b"<b>raw</b>\0\xff").unwrap();
        let page = browser.page(look);
        let goto = |path: &str| page.goto(&format!("http://{}{path}", cluster.address("console")));
        goto("/");
        assert_eq!(page.path(), "/login");
        page.shot("30-console-login");
        let password = cluster.config().secrets().unwrap().admin_password;
        enter_console(&page, &password);
        page.wait_for("Healthy");
        for name in cluster.backends() {
            page.wait_for(&name);
        }
        // It looks again by itself, without scripts too: that is what a dashboard is for. Not in the middle of its check.
        page.eval("window.stop()");
        page.shot_allowing("31-console", "meta-refresh");
        let backends = cluster.backends();
        let holder = backends.iter().find(|name| {
            goto(&format!("/kv/{name}"));
            page.text().contains("console-row")
        });
        assert!(holder.is_some(), "one of them holds the row");
        page.shot("32-rows");
        page.follow("=console-row");
        page.wait_for("a%20column");
        page.shot("33-columns");
        page.follow("=a%20column");
        page.shot("34-cell");
        assert!(page.troubles().is_empty());
    }
}

#[test]
fn an_operator_sees_nodes_go() {
    let Some(browser) = browser("an operator sees nodes go") else { return };
    let cluster = Cluster::start();
    let console = format!("http://{}", cluster.address("console"));
    let password = cluster.config().secrets().unwrap().admin_password;
    let pages = [DESK, DESK_DARK, PHONE, PHONE_DARK].map(|look| browser.page(look));
    let show = |said: &str, shot: &str| {
        for page in &pages {
            eventually(said, || {
                page.goto(&format!("{console}/"));
                page.text().contains(said).then_some(())
            });
            // What looks again by itself would be gone in the middle of its check.
            page.eval("window.stop()");
            page.shot_allowing(shot, "meta-refresh");
            page.eval("document.querySelector('.cards ~ .scroll')?.scrollIntoView()");
            page.shot_allowing(&format!("{shot}-tablets"), "meta-refresh");
        }
    };
    for page in &pages {
        page.goto(&format!("{console}/"));
        enter_console(page, &password);
        page.goto(&format!("{console}/nodes/a1/shutdown"));
        page.wait_for("One copy is left of");
        page.shot("35-console-shutdown");
    }
    let readers = [DESK, NO_SCRIPTS].map(|look| reader(&browser, &cluster, look));
    cluster.kill("a1");
    show("one copy left (all tablets of group a)", "36-console-degraded");
    cluster.kill("a2");
    show("no primary: no in-sync replica is alive", "37-console-down");
    for reader in &readers {
        reader.goto(&format!("http://{}/mail", cluster.address("f1")));
        reader.wait_for("The storage is electing a new primary");
        reader.shot_allowing("39-electing", "meta-refresh");
    }
    cluster.kill("m1");
    show("nobody of group a answers", "38-console-no-master");
    assert!(pages.iter().all(|page| page.troubles().is_empty()));
    ["m1", "a1", "a2"].iter().for_each(|name| cluster.start_again(name));
    readers.iter().for_each(|reader| reader.wait_for("Nothing here"));
}

/// Somebody whose mailbox lies in group a, at their inbox.
fn reader(browser: &Browser, cluster: &Cluster, look: Look) -> Page {
    let routes = cluster.routes();
    let is_in_a = |name: &String| {
        let slot = slot(name.as_bytes());
        routes.slots.iter().any(|s| s.group == "a" && (s.from..=s.to).contains(&slot))
    };
    let name =
        (0..).map(|n| format!("reader{n}-{}", look.name)).find(is_in_a).expect("half of all");
    let page = browser.page(look);
    page.goto(&format!("http://{}/signup", cluster.address("f1")));
    page.fill("#username", &name);
    page.fill("#password", PASSWORD);
    page.follow("=Create account");
    page.wait_for("Inbox");
    page
}

#[test]
fn what_is_wrong_with_a_page_is_found() {
    let Some(browser) = browser("troubles of a page") else { return };
    let page = browser.page(DESK);
    let cluster = Cluster::shared();
    page.goto(&format!("http://{}/", cluster.address("lb")));
    assert!(page.troubles().is_empty());
    page.eval("console.error('one')");
    page.eval(
        "document.body.append(Object.assign(document.createElement('script'), { text: '2' }))",
    );
    page.eval("void setTimeout(() => { throw new Error('three') })");
    let troubles = eventually("three troubles", || {
        let found = page.troubles();
        (!found.is_empty()).then_some(found)
    });
    assert!(troubles.iter().any(|t| t.contains("one")), "{troubles:?}");
    assert!(troubles.iter().any(|t| t.contains("Content Security Policy")), "{troubles:?}");
}
