//! Uploads: each file streams from the connection into the store; memory holds a few chunks of it.

use super::{Section, Visit, files, problem};
use crate::drive::{Node, name};
use crate::error::{Error, Result};
use crate::http::{self, Multipart, Part, Request, Response};
use crate::quota::{Reservation, SMALL_BYTES};
use serde::Serialize;
use uuid::Uuid;

/// Bytes of a form over the quota that are read away: a browser that is still sending does not hear why.
const REST_BYTES_MAX: u64 = 64 << 20;

/// What a script is told.
#[derive(Serialize)]
struct Told {
    uploaded: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

/// Takes any number of files into a folder. A browser gets a page, a script (`Accept: application/json`) JSON.
pub(super) fn upload(visit: &Visit, request: &mut Request) -> Result<Response> {
    let folder = match files::find(visit, request)? {
        Ok(node) => node,
        Err(gone) => return Ok(gone),
    };
    let by_script = request.header("Accept") == Some("application/json");
    let mut uploaded = Vec::new();
    let outcome = take_reserved(visit, folder.id, request, &mut uploaded);
    if matches!(outcome, Err(Error::Quota { .. })) {
        request.read_away(REST_BYTES_MAX);
    }
    if by_script {
        return Ok(tell(outcome, uploaded));
    }
    match outcome {
        Ok(()) if uploaded.is_empty() => Ok(visit.done(&files::url(folder.id), "nothing", 1)),
        Ok(()) => Ok(visit.done(&files::url(folder.id), "uploaded", uploaded.len())),
        Err(error) if uploaded.is_empty() => Err(error),
        Err(error) => {
            let shell = visit.shell("Problem", Section::Files);
            Ok(problem::of_rest(&shell, request, &error, &stored(&uploaded)))
        }
    }
}

/// Reserves room before anything of the body is read, for as much as is known of its length.
fn take_reserved(
    visit: &Visit,
    folder: Uuid,
    request: &mut Request,
    uploaded: &mut Vec<String>,
) -> Result<()> {
    let most = request.length().unwrap_or(0);
    let mut room = visit.drive().reserve(most.saturating_sub(SMALL_BYTES), most)?;
    take_all(visit, folder, visit.multipart(request)?, &mut room, uploaded)
}

fn take_all(
    visit: &Visit,
    folder: Uuid,
    mut parts: Multipart<'_>,
    room: &mut Reservation,
    uploaded: &mut Vec<String>,
) -> Result<()> {
    while let Some(part) = parts.next_part()? {
        if let Some(node) = take(visit, folder, part, room)? {
            uploaded.push(node.name);
        }
    }
    Ok(())
}

/// Takes a file; what is no file, or one without a name (nothing was chosen), is passed over.
fn take(
    visit: &Visit,
    folder: Uuid,
    mut part: Part<'_>,
    room: &mut Reservation,
) -> Result<Option<Node>> {
    let Some(sent) = part.filename.clone().filter(|name| !name.is_empty()) else { return Ok(None) };
    let max = visit.app.config.http.upload_bytes_max;
    let made = visit.drive().upload(folder, name::of_upload(&sent), &mut part, max, room)?;
    made.map(Some).ok_or_else(|| Error::bad("the folder was removed meanwhile"))
}

fn tell(outcome: Result<()>, uploaded: Vec<String>) -> Response {
    match outcome {
        Ok(()) => Response::json(200, &Told { uploaded, fault: None }),
        Err(error) => {
            let problem = problem::Problem::of(&error);
            let fault = Some(format!("{} {}", problem.what, problem.advice));
            Response::json(http::status_of(&error), &Told { uploaded, fault })
        }
    }
}

fn stored(uploaded: &[String]) -> String {
    let names: Vec<String> = uploaded.iter().map(|name| format!("“{name}”")).collect();
    format!("Stored before that: {}.", names.join(", "))
}
