//! Chromium, driven over `--remote-debugging-pipe`: messages of the DevTools protocol, each ended by a NUL.
//!
//! One browser, several people: each [`Page`] has cookies of its own. A page collects its *troubles* (console
//! errors, exceptions, what the content security policy refused, requests to other hosts); a test ends by asking
//! for them.

use super::{PATIENCE, command, skipped};
use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const ARGUMENTS: [&str; 12] = [
    "--remote-debugging-pipe",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--lang=en",
    "about:blank",
];

/// Finds what a person would press: `=Save` by what it says or is labelled, all else as a CSS selector. Only
/// what is shown is found.
const FIND: &str = r#"(s => {
    const shown = e => e.checkVisibility({ visibilityProperty: true, opacityProperty: true });
    if (!s.startsWith("=")) return [...document.querySelectorAll(s)].find(shown);
    const says = e => [e.innerText.trim(), e.getAttribute("aria-label"), e.title].includes(s.slice(1));
    return [...document.querySelectorAll("a, button, summary, label")].find(e => shown(e) && says(e));
})"#;

/// The accessibility checker, which is not part of PennCloud: fetched once by npm, checked against its hash, kept
/// in the target directory.
const AXE_PACKAGE: &str = "axe-core@4.10.3";
const AXE_SHA256: &str = "0f2b4d7dcdf7d1219df8d1959ad68e565f51d14c3f0d88bb71cd59abeb956292";

/// What it finds on a page, as lines for people.
const AXE_RUN: &str = r#"axe.run({ resultTypes: ["violations"] }).then(r => r.violations.map(v =>
    `${v.id} (${v.impact}): ` + v.nodes.slice(0, 3).map(n => n.html.slice(0, 150) + " — " + n.failureSummary).join(" | ")))"#;

/// A running browser. It ends when this is dropped, and by itself when the test process ends.
pub struct Browser {
    pipe: Rc<RefCell<Pipe>>,
    child: Child,
    axe: Option<Rc<str>>,
    _profile: tempfile::TempDir,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Names its screenshots.
    pub name: &'static str,
    /// Width of the window in pixels; below 600 it is a phone.
    pub width: u32,
    /// Whether dark colours are asked for.
    pub dark: bool,
    /// Whether scripts run.
    pub scripts: bool,
}

impl Browser {
    /// Starts Chromium; or why that cannot be.
    pub fn launch() -> Result<Browser, String> {
        let path = command("chromium").ok_or("there is no chromium (Debian package chromium)")?;
        let profile = tempfile::tempdir().map_err(|e| e.to_string())?;
        let mut shell = Command::new("sh");
        // The browser reads from descriptor 3 and writes to 4.
        shell.args(["-c", r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#, "sh"]);
        shell
            .arg(path)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(ARGUMENTS);
        let mut child = shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        let pipe = Rc::new(RefCell::new(Pipe::new(&mut child)));
        let version = pipe.borrow_mut().call(None, "Browser.getVersion", json!({}));
        version.map_err(|e| format!("chromium does not start: {e}"))?;
        let axe = axe().map_err(|why| skipped("axe-core on every page", &why)).ok();
        Ok(Browser { pipe, child, axe, _profile: profile })
    }

    /// A window for somebody new.
    pub fn page(&self, look: Look) -> Page {
        let call = |session: Option<&str>, method: &str, parameters: Value| {
            self.pipe.borrow_mut().call(session, method, parameters).unwrap()
        };
        let context = call(None, "Target.createBrowserContext", json!({}));
        let context = context["browserContextId"].as_str().unwrap().to_string();
        let target = call(
            None,
            "Target.createTarget",
            json!({ "url": "about:blank", "browserContextId": context }),
        );
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = call(None, "Target.attachToTarget", attach);
        let downloads = tempfile::tempdir().unwrap();
        let allow = json!({
            "behavior": "allow", "browserContextId": context, "downloadPath": downloads.path(),
        });
        call(None, "Browser.setDownloadBehavior", allow);
        let session = session["sessionId"].as_str().unwrap().to_string();
        let axe = self.axe.clone().filter(|_| look.scripts);
        let page = Page { pipe: self.pipe.clone(), session, look, downloads, axe };
        page.set_up();
        page
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.pipe.borrow_mut().call(None, "Browser.close", json!({}));
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The connection to the browser, shared by all pages.
struct Pipe {
    to: ChildStdin,
    from: Receiver<Value>,
    last: u64,
    events: VecDeque<Value>,
}

impl Pipe {
    fn new(child: &mut Child) -> Pipe {
        let (sender, from) = channel();
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            for message in out.split(0).map_while(Result::ok) {
                let value = serde_json::from_slice(&message).expect("the browser sends JSON");
                if sender.send(value).is_err() {
                    break;
                }
            }
        });
        Pipe { to: child.stdin.take().expect("a pipe"), from, last: 0, events: VecDeque::new() }
    }

    fn call(
        &mut self,
        session: Option<&str>,
        method: &str,
        parameters: Value,
    ) -> Result<Value, String> {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).map_err(|e| e.to_string())?;
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let answer = self.from.recv_timeout(left).map_err(|e| format!("{method}: {e}"))?;
            match answer["id"].as_u64() {
                Some(id) if id == self.last && answer["error"].is_null() => {
                    return Ok(answer["result"].clone());
                }
                Some(id) if id == self.last => {
                    return Err(format!("{method}: {}", answer["error"]));
                }
                Some(_) => {}
                None => self.events.push_back(answer),
            }
        }
    }
}

/// A window, with the cookies of one person.
pub struct Page {
    pipe: Rc<RefCell<Pipe>>,
    session: String,
    /// How it is looked at.
    pub look: Look,
    downloads: tempfile::TempDir,
    axe: Option<Rc<str>>,
}

impl Page {
    fn set_up(&self) {
        for domain in ["Page", "Runtime", "Log", "DOM", "Network"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
        let (width, phone) = (self.look.width, self.look.width < 600);
        let height = if phone { 844 } else { 800 };
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if self.look.dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
        let off = json!({ "value": !self.look.scripts });
        self.call("Emulation.setScriptExecutionDisabled", off);
    }

    fn try_call(&self, method: &str, parameters: Value) -> Result<Value, String> {
        self.pipe.borrow_mut().call(Some(&self.session), method, parameters)
    }

    fn call(&self, method: &str, parameters: Value) -> Value {
        self.try_call(method, parameters).unwrap_or_else(|e| panic!("{e}"))
    }

    /// What an expression comes to in the page; none while the page changes.
    pub fn eval(&self, expression: &str) -> Option<Value> {
        let parameters =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let result = self.try_call("Runtime.evaluate", parameters).ok()?;
        let thrown = &result["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        Some(result["result"]["value"].clone())
    }

    /// Gives the browser a cookie of a site.
    pub fn set_cookie(&self, site: &str, name: &str, value: &str) {
        self.call("Network.setCookie", json!({ "url": site, "name": name, "value": value }));
    }

    /// Polls an expression until it is true; `what` is what is waited for.
    pub fn wait(&self, what: &str, expression: &str) {
        let end = Instant::now() + PATIENCE;
        while self.eval(expression) != Some(Value::Bool(true)) {
            assert!(Instant::now() < end, "{}: {what}; there is: {}", self.look.name, self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the page says this.
    pub fn wait_for(&self, text: &str) {
        let what = format!("the page says {text:?}");
        self.wait(&what, &format!("!!document.body?.innerText.includes({})", json!(text)));
    }

    /// Goes to an address and waits until the page is there.
    pub fn goto(&self, address: &str) {
        self.leave(|| {
            let went = self.call("Page.navigate", json!({ "url": address }));
            assert!(went["errorText"].is_null(), "{address}: {went}");
        });
    }

    /// Does what leads to another page, and waits until that is there.
    pub fn leave(&self, go: impl FnOnce()) {
        self.eval("window.stillHere = true");
        go();
        self.wait("another page comes", "!window.stillHere && document.readyState === 'complete'");
    }

    /// Presses what [`FIND`] finds, with a real mouse; it must not be covered by anything.
    pub fn click(&self, what: &str) {
        let script = format!(
            r#"(() => {{
                const e = {FIND}({});
                if (!e) return null;
                e.scrollIntoView({{ block: "center", behavior: "instant" }});
                const r = e.getClientRects()[0];
                const [x, y] = [r.x + r.width / 2, r.y + r.height / 2];
                const top = document.elementFromPoint(x, y);
                return [x, y, !!top && (e.contains(top) || top.contains(e)), top && top.outerHTML.slice(0, 200)];
            }})()"#,
            json!(what)
        );
        let end = Instant::now() + PATIENCE;
        let place = loop {
            match self.eval(&script) {
                Some(place) if place[2] == json!(true) => break place,
                other => assert!(
                    Instant::now() < end,
                    "{}: {what} cannot be pressed: {other:?}; there is: {}",
                    self.look.name,
                    self.text()
                ),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": button, "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Presses what leads to another page.
    pub fn follow(&self, what: &str) {
        self.leave(|| self.click(what));
    }

    /// Replaces what a field holds by typing.
    pub fn fill(&self, field: &str, text: &str) {
        self.click(field);
        self.eval("document.activeElement.select()");
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Types at the beginning of a field.
    pub fn type_before(&self, field: &str, text: &str) {
        self.click(field);
        self.eval("document.activeElement.setSelectionRange(0, 0)");
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Chooses files in a file field.
    pub fn choose(&self, field: &str, files: &[&Path]) {
        let root = self.call("DOM.getDocument", json!({ "depth": 0 }));
        let query = json!({ "nodeId": root["root"]["nodeId"], "selector": field });
        let node = self.call("DOM.querySelector", query)["nodeId"].clone();
        assert_ne!(node, json!(0), "there is no {field}");
        self.call("DOM.setFileInputFiles", json!({ "nodeId": node, "files": files }));
    }

    /// The file that was downloaded last, once it is whole; its name and bytes. It is taken away.
    pub fn downloaded(&self) -> (String, Vec<u8>) {
        super::eventually("a file is downloaded", || {
            let files: Vec<PathBuf> = std::fs::read_dir(self.downloads.path())
                .ok()?
                .filter_map(|entry| entry.ok().map(|entry| entry.path()))
                .collect();
            let [file] = files.as_slice() else { return None };
            let name = file.file_name()?.to_string_lossy().into_owned();
            if name.ends_with(".crdownload") || name.starts_with(".org.chromium") {
                return None;
            }
            let bytes = std::fs::read(file).ok()?;
            std::fs::remove_file(file).ok()?;
            Some((name, bytes))
        })
    }

    /// What a person reads.
    pub fn text(&self) -> String {
        let text = self.eval("location.pathname + ': ' + (document.body?.innerText ?? '')");
        text.and_then(|text| text.as_str().map(String::from)).unwrap_or_default()
    }

    /// Path of the page.
    pub fn path(&self) -> String {
        let path = self.eval("location.pathname");
        path.and_then(|path| path.as_str().map(String::from)).unwrap_or_default()
    }

    /// Keeps a picture, and judges what every page must have: a title, a language, one heading, names for all
    /// fields, and nothing wider than the window.
    pub fn shot(&self, name: &str) {
        self.shot_allowing(name, "");
    }

    /// [`Page::shot`] of a page that may break one rule of the accessibility checker, knowingly.
    pub fn shot_allowing(&self, name: &str, rule: &str) {
        self.wait("fonts are there", "document.fonts.ready.then(() => true)");
        let picture = self.call("Page.captureScreenshot", json!({}));
        let picture = picture["data"].as_str().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture).unwrap();
        let dir = screenshots().join(self.look.name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("{name}.png")), bytes).unwrap();
        let faults = self.eval(JUDGE).unwrap();
        assert_eq!(faults, json!([]), "{} {name}", self.look.name);
        if let Some(axe) = &self.axe {
            self.eval(&format!("{axe}; 0"));
            let mut found = self.eval(AXE_RUN).unwrap();
            let faults = found.as_array_mut().expect("a list");
            faults.retain(|fault| !fault.as_str().unwrap().starts_with(&format!("{rule} (")));
            assert_eq!(found, json!([]), "{} {name}", self.look.name);
        }
    }

    /// Troubles since the last call: console errors, exceptions, refused resources.
    pub fn troubles(&self) -> Vec<String> {
        self.eval("0");
        let mut pipe = self.pipe.borrow_mut();
        let (own, others) = std::mem::take(&mut pipe.events)
            .into_iter()
            .partition::<VecDeque<_>, _>(|event| event["sessionId"] == json!(self.session));
        pipe.events = others;
        own.iter().filter_map(trouble).collect()
    }
}

/// The checker's script, or why there is none.
fn axe() -> Result<Rc<str>, String> {
    static AXE: OnceLock<Result<String, String>> = OnceLock::new();
    AXE.get_or_init(fetch_axe).clone().map(Into::into)
}

fn fetch_axe() -> Result<String, String> {
    let archive = screenshots().with_file_name("axe-core-4.10.3.tgz");
    if !is_axe(&archive) {
        let npm = command("npm").ok_or("there is no npm")?;
        let target = archive.parent().expect("the archive is in a directory");
        let mut fetch = Command::new(npm);
        fetch.args(["pack", AXE_PACKAGE, "--silent", "--fetch-timeout=60000", "--fetch-retries=1"]);
        let output = fetch.current_dir(target).output().map_err(|e| e.to_string())?;
        if !output.status.success() || !is_axe(&archive) {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_string();
            return Err(format!("cannot fetch {AXE_PACKAGE}: {why}"));
        }
    }
    let mut tar = Command::new("tar");
    tar.arg("-xOzf").arg(&archive).arg("package/axe.min.js");
    let script = tar.output().map_err(|e| e.to_string())?.stdout;
    String::from_utf8(script).map_err(|e| e.to_string())
}

fn is_axe(archive: &Path) -> bool {
    let hash = |bytes| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
    std::fs::read(archive).is_ok_and(|bytes| hash(bytes) == AXE_SHA256)
}

/// Where pictures are left.
pub fn screenshots() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots")
}

fn trouble(event: &Value) -> Option<String> {
    let parameters = &event["params"];
    match event["method"].as_str()? {
        "Runtime.consoleAPICalled" if parameters["type"] == "error" => {
            Some(format!("console: {}", parameters["args"]))
        }
        "Runtime.exceptionThrown" => Some(format!("exception: {}", parameters["exceptionDetails"])),
        "Network.requestWillBeSent" => {
            let url = parameters["request"]["url"].as_str().unwrap_or_default();
            let own = ["http://127.0.0.1:", "data:", "blob:", "about:"];
            let foreign = !own.iter().any(|start| url.starts_with(start));
            foreign.then(|| format!("a request to another host: {url}"))
        }
        "Log.entryAdded" if parameters["entry"]["level"] == "error" => {
            let entry = &parameters["entry"];
            Some(format!("log: {} {} {}", entry["source"], entry["text"], entry["url"]))
        }
        _ => None,
    }
}

const JUDGE: &str = r#"(() => {
    const faults = [];
    const root = document.documentElement;
    if (!document.title) faults.push("no title");
    if (!root.lang) faults.push("no language");
    if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
    if (root.scrollWidth > innerWidth) faults.push(`${root.scrollWidth} wide in a window of ${innerWidth}`);
    for (const image of document.images) {
        if (!image.hasAttribute("alt")) faults.push("an image without alt: " + image.src);
        if (image.complete && !image.naturalWidth) faults.push("an image that is not there: " + image.src);
    }
    for (const field of document.querySelectorAll("input:not([type=hidden]):not([hidden]), textarea, select")) {
        const named = field.labels.length || field.getAttribute("aria-label") || field.getAttribute("aria-labelledby");
        if (!named) faults.push("a field without a label: " + field.outerHTML);
    }
    for (const press of document.querySelectorAll("a[href], button, summary")) {
        const name = press.textContent.trim() || press.getAttribute("aria-label") || press.title || press.querySelector("img[alt]");
        if (!name) faults.push("without a name: " + press.outerHTML);
    }
    const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
    for (const id of ids.filter((id, i) => ids.indexOf(id) !== i)) faults.push("an id twice: " + id);
    return faults;
})()"#;
