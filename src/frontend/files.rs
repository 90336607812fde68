//! Pages of the drive: look at folders; make, rename, move and delete what is in them.

use super::used::Used;
use super::{Section, Shell, Visit, download, problem, text, upload};
use crate::drive::{Drive, Listing, Node, ROOT, sweep};
use crate::error::{Error, Result};
use crate::http::{Request, Response, Router};
use askama::Template;
use uuid::Uuid;

/// The routes of the drive.
pub(super) fn routes(router: Router<Visit>) -> Router<Visit> {
    router
        .get("/files", show_root)
        .get("/files/:id", show)
        .post("/files/:id/folder", make_folder)
        .post("/files/:id/upload", upload::upload)
        .get("/files/:id/download", download::download)
        .get("/files/:id/rename", show_rename)
        .post("/files/:id/rename", rename)
        .get("/files/:id/move", show_move)
        .post("/files/:id/move", move_to)
        .get("/files/:id/delete", show_delete)
        .post("/files/:id/delete", delete)
}

#[derive(Template)]
#[template(path = "files.html")]
struct FilesPage {
    shell: Shell,
    /// The folders above, the root first.
    above: Vec<Node>,
    folder: Node,
    rows: Vec<Row>,
    /// Where the next page is.
    more: Option<String>,
    /// Whether this is not the first page.
    later: bool,
    used: Used,
    new_name: String,
    folder_fault: Option<String>,
}

#[derive(Template)]
#[template(path = "file_rename.html")]
struct RenamePage {
    shell: Shell,
    node: Node,
    typed: String,
    fault: Option<String>,
}

#[derive(Template)]
#[template(path = "file_move.html")]
struct MovePage {
    shell: Shell,
    node: Node,
    above: Vec<Node>,
    target: Node,
    folders: Vec<Node>,
    more: Option<String>,
    fault: Option<String>,
}

#[derive(Template)]
#[template(path = "file_delete.html")]
struct DeletePage {
    shell: Shell,
    node: Node,
    size: String,
}

/// An entry as it is listed.
struct Row {
    node: Node,
    kind: &'static str,
    size: String,
    modified: String,
    modified_iso: String,
}

impl Row {
    fn new(node: Node) -> Row {
        Row {
            kind: kind(&node),
            size: if node.folder { String::new() } else { text::size(node.size) },
            modified: text::moment(node.modified),
            modified_iso: text::iso(node.modified),
            node,
        }
    }

    fn icon(&self) -> &'static str {
        if self.node.folder { "folder-full" } else { self.kind }
    }
}

/// What a node is, by the type of its bytes.
fn kind(node: &Node) -> &'static str {
    let main = node.content_type.split('/').next().unwrap_or_default();
    match (node.folder, main, node.content_type.as_str()) {
        (true, ..) => "folder",
        (_, "image", _) => "image",
        (_, "audio", _) => "audio",
        (_, "video", _) => "video",
        (_, "text", _) | (_, _, "application/pdf") => "document",
        _ => "file",
    }
}

/// The URL of a folder's page.
pub(super) fn url(folder: Uuid) -> String {
    if folder == ROOT { "/files".into() } else { format!("/files/{folder}") }
}

/// The folder or file in the path, or the page that says it is not there.
pub(super) fn find(visit: &Visit, request: &Request) -> Result<Result<Node, Response>> {
    let found = match Uuid::try_parse(request.param("id")) {
        Ok(id) => visit.drive().node(id)?,
        Err(_) => None,
    };
    Ok(found.ok_or_else(|| gone(visit, request)))
}

/// The page for what is not there (any more).
pub(super) fn gone(visit: &Visit, request: &Request) -> Response {
    problem::not_found(&visit.shell("Not here", Section::Files), request)
}

fn show_root(visit: &Visit, request: &mut Request) -> Result<Response> {
    sweep(&visit.app.client, visit.user());
    folder_page(visit, request, 200, ROOT, String::new(), None)
}

fn show(visit: &Visit, request: &mut Request) -> Result<Response> {
    match find(visit, request)? {
        Ok(node) if node.folder => folder_page(visit, request, 200, node.id, String::new(), None),
        Ok(file) => Ok(Response::redirect(&format!("/files/{}/download", file.id))),
        Err(gone) => Ok(gone),
    }
}

fn folder_page(
    visit: &Visit,
    request: &Request,
    status: u16,
    folder: Uuid,
    new_name: String,
    folder_fault: Option<String>,
) -> Result<Response> {
    let drive = visit.drive();
    let Some((folder, above)) = place(&drive, folder)? else { return Ok(gone(visit, request)) };
    let after = request.query("after");
    let listing = drive.list(folder.id, after)?;
    let title = if folder.is_root() { "Files" } else { &folder.name };
    let page = FilesPage {
        shell: visit.shell(title, Section::Files),
        above,
        more: next_page(&url(folder.id), "", &listing),
        rows: listing.entries.into_iter().map(Row::new).collect(),
        folder,
        later: after.is_some(),
        used: visit.used()?,
        new_name,
        folder_fault,
    };
    visit.page(status, &page)
}

/// A folder and the folders above it.
fn place(drive: &Drive, folder: Uuid) -> Result<Option<(Node, Vec<Node>)>> {
    let Some(mut path) = drive.path(folder)? else { return Ok(None) };
    Ok(path.pop().filter(|node| node.folder).map(|node| (node, path)))
}

fn next_page(path: &str, query: &str, listing: &Listing) -> Option<String> {
    let after = listing.more_after.as_ref()?;
    let after: String = form_urlencoded::byte_serialize(after.as_bytes()).collect();
    Some(format!("{path}?{query}after={after}"))
}

fn make_folder(visit: &Visit, request: &mut Request) -> Result<Response> {
    let form = visit.form(request)?;
    let parent = match find(visit, request)? {
        Ok(node) => node.id,
        Err(gone) => return Ok(gone),
    };
    let typed = form.get("name").unwrap_or_default().trim();
    match visit.drive().make_folder(parent, typed) {
        Ok(Some(_)) => Ok(visit.done(&url(parent), "folder", 1)),
        Ok(None) => Ok(gone(visit, request)),
        Err(Error::Bad(why)) => {
            let fault = Some(problem::sentence(&why));
            folder_page(visit, request, 400, parent, typed.into(), fault)
        }
        Err(error) => Err(error),
    }
}

fn show_rename(visit: &Visit, request: &mut Request) -> Result<Response> {
    match find(visit, request)? {
        Ok(node) => rename_page(visit, 200, node.name.clone(), node, None),
        Err(gone) => Ok(gone),
    }
}

fn rename_page(
    visit: &Visit,
    status: u16,
    typed: String,
    node: Node,
    fault: Option<String>,
) -> Result<Response> {
    let shell = visit.shell("Rename", Section::Files);
    visit.page(status, &RenamePage { shell, node, typed, fault })
}

fn rename(visit: &Visit, request: &mut Request) -> Result<Response> {
    let form = visit.form(request)?;
    let node = match find(visit, request)? {
        Ok(node) => node,
        Err(gone) => return Ok(gone),
    };
    let typed = form.get("name").unwrap_or_default().trim();
    match visit.drive().rename(node.id, typed) {
        Ok(Some(node)) => Ok(visit.done(&url(node.parent), "renamed", 1)),
        Ok(None) => Ok(gone(visit, request)),
        Err(Error::Bad(why)) => {
            rename_page(visit, 400, typed.into(), node, Some(problem::sentence(&why)))
        }
        Err(error) => Err(error),
    }
}

fn show_move(visit: &Visit, request: &mut Request) -> Result<Response> {
    let node = match find(visit, request)? {
        Ok(node) => node,
        Err(gone) => return Ok(gone),
    };
    let target = request.query("to").and_then(|to| Uuid::try_parse(to).ok()).unwrap_or(node.parent);
    move_page(visit, request, 200, node, target, None)
}

fn move_page(
    visit: &Visit,
    request: &Request,
    status: u16,
    node: Node,
    target: Uuid,
    fault: Option<String>,
) -> Result<Response> {
    let drive = visit.drive();
    let Some((target, above)) = place(&drive, target)? else { return Ok(gone(visit, request)) };
    let listing = drive.list(target.id, request.query("after"))?;
    let more =
        next_page(&format!("/files/{}/move", node.id), &format!("to={}&", target.id), &listing);
    let folders = listing.entries.into_iter().filter(|e| e.folder && e.id != node.id).collect();
    let shell = visit.shell("Move", Section::Files);
    visit.page(status, &MovePage { shell, node, above, target, folders, more, fault })
}

fn move_to(visit: &Visit, request: &mut Request) -> Result<Response> {
    let form = visit.form(request)?;
    let node = match find(visit, request)? {
        Ok(node) => node,
        Err(gone) => return Ok(gone),
    };
    let target = Uuid::try_parse(form.get("to").unwrap_or_default())
        .map_err(|_| Error::bad("a folder to move to is needed"))?;
    match visit.drive().move_to(node.id, target) {
        Ok(Some(node)) => Ok(visit.done(&url(node.parent), "moved", 1)),
        Ok(None) => Ok(gone(visit, request)),
        Err(Error::Bad(why)) => {
            move_page(visit, request, 400, node, target, Some(problem::sentence(&why)))
        }
        Err(error) => Err(error),
    }
}

fn show_delete(visit: &Visit, request: &mut Request) -> Result<Response> {
    match find(visit, request)? {
        Ok(node) if node.is_root() => Err(Error::bad("the drive itself cannot be removed")),
        Ok(node) => {
            let (shell, size) = (visit.shell("Delete", Section::Files), text::size(node.size));
            visit.page(200, &DeletePage { shell, node, size })
        }
        Err(gone) => Ok(gone),
    }
}

fn delete(visit: &Visit, request: &mut Request) -> Result<Response> {
    visit.form(request)?;
    let node = match find(visit, request)? {
        Ok(node) => node,
        Err(gone) => return Ok(gone),
    };
    match visit.drive().remove(node.id)? {
        Some(node) => Ok(visit.done(&url(node.parent), "deleted", 1)),
        None => Ok(gone(visit, request)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_has_the_short_address() {
        assert_eq!(url(ROOT), "/files");
        assert_eq!(url(Uuid::from_u128(1)), "/files/00000000-0000-0000-0000-000000000001");
    }

    #[test]
    fn the_next_page_begins_after_any_name() {
        let listing = Listing { entries: Vec::new(), more_after: Some("a&b=\"ü\"".into()) };
        assert_eq!(next_page("/files", "", &listing).unwrap(), "/files?after=a%26b%3D%22%C3%BC%22");
    }
}
