//! The drive's pages over a real cluster. A visitor here has no scripts.

use crate::harness::web::{Page, Upload};
use crate::harness::{Cluster, Web, html, noise};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A name that tries to be a tag.
const EVIL: &str = "\"><img src=x onerror=alert(1)>";
const ROOT: &str = "00000000-0000-0000-0000-000000000000";

/// The cluster that these tests share: a store and two frontends.
fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    let cut = |text: &mut String| text.truncate(text.find("[[smtp]]").unwrap());
    SHARED.get_or_init(|| Cluster::start_with(cut))
}

/// Someone with an empty drive.
fn owner() -> Web {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("filer{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let mut web = Web::new(&shared().address("f1"));
    let fields = [("username", name.as_str()), ("password", "correct horse battery")];
    assert_eq!(web.submit("/signup", "/signup", &fields, &[]).unwrap().path, "/mail");
    web
}

fn upload(web: &mut Web, folder: &str, files: &[(&str, &[u8])]) -> Page {
    let files: Vec<Upload> =
        files.iter().map(|(name, bytes)| Upload { field: "file", name, bytes }).collect();
    let page = if folder == ROOT { "/files".into() } else { format!("/files/{folder}") };
    web.submit(&page, &format!("/files/{folder}/upload"), &[], &files).unwrap()
}

fn make_folder(web: &mut Web, parent: &str, name: &str) -> String {
    let page = if parent == ROOT { "/files".into() } else { format!("/files/{parent}") };
    let page =
        web.submit(&page, &format!("/files/{parent}/folder"), &[("name", name)], &[]).unwrap();
    assert_eq!(page.status, 200, "{}", page.text());
    id_of(&page, name)
}

/// Names and links of what a folder's page lists.
fn entries(page: &Page) -> Vec<(String, String)> {
    let tags = html::tags(&page.source());
    let mut entries = Vec::new();
    let mut link = None;
    for tag in tags {
        match (tag.name.as_str(), tag.get("class")) {
            ("a", Some(class)) if class.starts_with("entry") => {
                link = tag.get("href").map(String::from);
            }
            ("span", None) => {
                if let (Some(href), Some(name)) = (link.take(), tag.get("title")) {
                    entries.push((name.into(), href));
                }
            }
            _ => {}
        }
    }
    entries
}

fn link_of(page: &Page, name: &str) -> String {
    let entries = entries(page);
    let found = entries.iter().find(|(n, _)| n == name);
    found.unwrap_or_else(|| panic!("no {name:?} in {entries:?}")).1.clone()
}

fn id_of(page: &Page, name: &str) -> String {
    link_of(page, name).split('/').nth(2).expect("an id").to_string()
}

fn names(page: &Page) -> Vec<String> {
    entries(page).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn files_of_any_name_come_back_bit_for_bit_from_the_other_frontend() {
    let mut web = owner();
    let big = noise(9, 2_500_000);
    let files: [(&str, &[u8]); 6] = [
        ("report.pdf", b"%PDF"),
        ("empty", b""),
        ("ünï 東京 🗼.bin", &big),
        ("it's \"quoted\"; x=1", b"quotes"),
        (" spaces  inside ", b"\0\r\n--boundary\r\n\xff"),
        ("a%20b&c=d?e#f+g", b"percent"),
    ];
    let page = upload(&mut web, ROOT, &files);
    assert!(page.text().contains("6 files uploaded."), "{}", page.text());
    web.host = shared().address("f2");
    for (name, bytes) in files {
        let got = web.get(&link_of(&page, name)).unwrap();
        assert!(got.body == bytes, "{name} came back differently");
        assert_eq!(got.header("content-length"), Some(bytes.len().to_string().as_str()));
    }
}

#[test]
fn user_bytes_never_run_in_our_origin() {
    let mut web = owner();
    let script: &[u8] = b"<script>alert(1)</script>";
    let page = upload(&mut web, ROOT, &[("evil.html", script), ("evil.svg", script)]);
    for name in ["evil.html", "evil.svg"] {
        let got = web.get(&link_of(&page, name)).unwrap();
        let said = got.header("content-disposition").unwrap();
        assert!(said.starts_with("attachment; filename=\""), "{said}");
        assert_eq!(got.header("content-security-policy"), Some("sandbox; default-src 'none'"));
        assert_eq!(got.header("content-type"), Some("application/octet-stream"));
        assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn a_name_that_tries_to_be_a_tag_is_text_on_every_page() {
    let mut web = owner();
    let folder = make_folder(&mut web, ROOT, EVIL);
    let page = upload(&mut web, &folder, &[(EVIL, b"x")]);
    let file = id_of(&page, EVIL);
    for path in [
        "/files".to_string(),
        format!("/files/{folder}"),
        format!("/files/{folder}/rename"),
        format!("/files/{folder}/delete"),
        format!("/files/{file}/move"),
        format!("/files/{file}/rename"),
        format!("/files/{file}/delete"),
    ] {
        let page = web.get(&path).unwrap();
        assert_eq!(page.status, 200, "{path}");
        assert!(page.text().contains(EVIL), "{path}: {}", page.text());
        let evil = html::tags(&page.source()).into_iter().find(|t| t.get("onerror").is_some());
        assert!(evil.is_none(), "{evil:?} on {path}");
    }
}

#[test]
fn ranges_and_validators_work_as_http_says() {
    let mut web = owner();
    let bytes = noise(3, 1_200_000);
    let page = upload(&mut web, ROOT, &[("range.bin", &bytes)]);
    let path = link_of(&page, "range.bin");
    let mut ask = |headers: &[(&str, String)]| web.once("GET", &path, headers, &[]).unwrap();
    let part = ask(&[("Range", "bytes=1048570-1048585".into())]);
    assert_eq!(part.status, 206);
    assert_eq!(part.header("content-range"), Some("bytes 1048570-1048585/1200000"));
    assert!(part.body == bytes[1_048_570..1_048_586]);
    assert_eq!(ask(&[("Range", "bytes=-3".into())]).body, bytes[1_199_997..]);
    let beyond = ask(&[("Range", "bytes=1200000-".into())]);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */1200000")));
    let etag = part.header("etag").unwrap().to_string();
    assert_eq!(ask(&[("If-None-Match", etag.clone())]).status, 304);
    let fresh = [("Range", "bytes=0-9".to_string()), ("If-Range", etag)];
    assert_eq!(ask(&fresh).status, 206);
    let stale = [("Range", "bytes=0-9".to_string()), ("If-Range", "\"other\"".into())];
    assert_eq!((ask(&stale).status, ask(&stale).body.len()), (200, 1_200_000));
}

#[test]
fn a_file_is_renamed_moved_and_deleted() {
    let mut web = owner();
    let folder = make_folder(&mut web, ROOT, "Photos");
    let page = upload(&mut web, ROOT, &[("old.jpg", b"picture")]);
    assert_eq!(names(&page), ["Photos", "old.jpg"]);
    let id = id_of(&page, "old.jpg");
    let rename = format!("/files/{id}/rename");
    let page = web.submit(&rename, &rename, &[("name", "  new.jpg ")], &[]).unwrap();
    assert_eq!(
        (page.path.as_str(), names(&page)),
        ("/files", vec!["Photos".into(), "new.jpg".into()])
    );
    let action = format!("/files/{id}/move");
    let page = web.submit(&format!("{action}?to={folder}"), &action, &[], &[]).unwrap();
    assert_eq!(
        (page.path.clone(), names(&page)),
        (format!("/files/{folder}"), vec!["new.jpg".into()])
    );
    assert_eq!(web.get(&format!("/files/{id}/download")).unwrap().body, b"picture");
    let delete = format!("/files/{id}/delete");
    let page = web.submit(&delete, &delete, &[], &[]).unwrap();
    assert!(page.text().contains("Deleted.") && names(&page).is_empty(), "{}", page.text());
    assert!(page.text().contains("0 bytes of 10 GB in use"), "{}", page.text());
    assert_eq!(web.get(&format!("/files/{id}/download")).unwrap().status, 404);
}

#[test]
fn what_was_typed_wrong_stays_in_the_form() {
    let mut web = owner();
    let page = upload(&mut web, ROOT, &[("a", b"1"), ("b", b"2")]);
    let rename = format!("/files/{}/rename", id_of(&page, "a"));
    for (typed, word) in [("b", "already"), ("x/y", "slash"), ("..", "dots")] {
        let page = web.submit(&rename, &rename, &[("name", typed)], &[]).unwrap();
        assert_eq!(page.status, 400, "{typed}");
        assert!(page.text().contains(word), "{typed}: {}", page.text());
        assert!(page.form(&rename).fields.contains(&("name".into(), typed.into())), "{typed}");
    }
    let action = format!("/files/{ROOT}/folder");
    let page = web.submit("/files", &action, &[("name", "a")], &[]).unwrap();
    assert_eq!(page.status, 400);
    assert!(page.form(&action).fields.contains(&("name".into(), "a".into())));
}

#[test]
fn a_folder_cannot_be_moved_into_itself_by_anyone_who_tries() {
    let mut web = owner();
    let outer = make_folder(&mut web, ROOT, "outer");
    let inner = make_folder(&mut web, &outer, "inner");
    let action = format!("/files/{outer}/move");
    let page = web.submit(&action, &action, &[("to", &inner)], &[]).unwrap();
    assert_eq!(page.status, 400);
    assert!(page.text().contains("into itself"), "{}", page.text());
    for (action, status) in [("move", 400), ("rename", 400), ("delete", 400)] {
        let path = format!("/files/{ROOT}/{action}");
        let form = web.get("/files").unwrap().form(&format!("/files/{ROOT}/folder"));
        let mut fields = form.fields.clone();
        fields.extend([("to".into(), outer.clone()), ("name".into(), "x".into())]);
        assert_eq!(web.post(&path, &fields).unwrap().status, status, "{action} of the root");
    }
}

#[test]
fn nobody_reaches_the_files_of_another() {
    let (mut alice, mut mallory) = (owner(), owner());
    let page = upload(&mut alice, ROOT, &[("secret", b"secret")]);
    let id = id_of(&page, "secret");
    for action in ["download", "rename", "move", "delete"] {
        assert_eq!(mallory.get(&format!("/files/{id}/{action}")).unwrap().status, 404, "{action}");
    }
    let mut guest = Web::new(&shared().address("f1"));
    assert!(guest.get(&format!("/files/{id}/download")).unwrap().path.starts_with("/login"));
    assert_eq!(alice.get(&format!("/files/{id}/download")).unwrap().body, b"secret");
}

#[test]
fn addresses_that_name_nothing_are_not_found() {
    let mut web = owner();
    for id in ["x", "..%2f..%2fetc%2fpasswd", "%00", "00000000-0000-0000-0000-00000000000g", "{}"] {
        for action in ["", "/download", "/rename", "/move", "/delete"] {
            let page = web.get(&format!("/files/{id}{action}")).unwrap();
            assert!([400, 404].contains(&page.status), "{id}{action}: {}", page.status);
        }
    }
}

#[test]
fn an_upload_without_the_sessions_token_is_refused() {
    let mut web = owner();
    let body = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\nx\r\n--B--\r\n";
    let kind = [("Content-Type", "multipart/form-data; boundary=B".to_string())];
    let page = web.once("POST", &format!("/files/{ROOT}/upload"), &kind, body.as_bytes()).unwrap();
    assert_eq!(page.status, 403);
    assert!(names(&web.get("/files").unwrap()).is_empty());
}

#[test]
fn an_upload_that_ends_in_the_middle_says_what_is_stored() {
    let mut web = owner();
    let files: [(&str, &[u8]); 3] = [("a.txt", b"a"), ("photo\u{202E}gpj.exe", b"b"), ("c", b"c")];
    let page = upload(&mut web, ROOT, &files);
    assert_eq!(page.status, 400);
    let text = page.text();
    assert!(text.contains("Stored before that: “a.txt”."), "{text}");
    assert!(!text.contains("Nothing was changed"), "{text}");
    assert_eq!(names(&web.get("/files").unwrap()), ["a.txt"]);
}

#[test]
fn an_upload_of_nothing_says_so() {
    let mut web = owner();
    let page = upload(&mut web, ROOT, &[("", b"")]);
    assert!(page.text().contains("No file was chosen."), "{}", page.text());
    assert!(names(&page).is_empty());
}
