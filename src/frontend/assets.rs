//! Styles, scripts and icons: in the binary, named by their hash, so that browsers keep them for ever and
//! never keep an old one.

use super::Guest;
use crate::error::{Error, Result};
use crate::http::{Request, Response, conditional};
use rust_embed::RustEmbed;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

#[derive(RustEmbed)]
#[folder = "html/static"]
struct Embedded;

struct Asset {
    bytes: Cow<'static, [u8]>,
    content_type: &'static str,
    /// First 16 hexadecimal digits of its SHA-256.
    hash: String,
    /// The same in quotes.
    etag: String,
}

static ASSETS: LazyLock<BTreeMap<String, Asset>> = LazyLock::new(|| {
    let assets = Embedded::iter().filter_map(|name| Some((name.to_string(), load(&name)?)));
    assets.collect()
});

fn load(name: &str) -> Option<Asset> {
    let file = Embedded::get(name)?;
    let sum = file.metadata.sha256_hash();
    let hash: String = sum[..8].iter().map(|b| format!("{b:02x}")).collect();
    let etag = format!("\"{hash}\"");
    Some(Asset { bytes: file.data, content_type: content_type(name), hash, etag })
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    }
}

/// The URL of a static file.
pub(super) fn url(name: &str) -> String {
    let hash = ASSETS.get(name).map_or("", |a| &a.hash);
    format!("/static/{name}?v={hash}")
}

/// A static file. One asked for by another hash than its own (a page of another version) is not to be kept.
pub(super) fn serve(_guest: &Guest, request: &mut Request) -> Result<Response> {
    let Some(asset) = ASSETS.get(request.param("path")) else {
        return Ok(Response::text(404, "There is no such file.\n"));
    };
    let current = request.query("v") == Some(&asset.hash);
    let keep = if current { "public, max-age=31536000, immutable" } else { "no-cache" };
    let answer =
        conditional::answer_bytes(request, asset.etag.as_str(), asset.content_type, &asset.bytes)?;
    Ok(answer.with_header("Cache-Control", keep))
}

/// Refuses a start without the files that every page needs.
pub(super) fn check() -> Result<()> {
    match ["app.css", "app.js", "icons.svg", "favicon.svg"]
        .iter()
        .find(|n| !ASSETS.contains_key(**n))
    {
        Some(name) => Err(Error::config(format!("the static file {name} is missing"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_its_files() {
        check().unwrap();
        assert!(url("app.css").starts_with("/static/app.css?v="));
        assert_eq!(url("app.css").len(), "/static/app.css?v=".len() + 16);
    }
}
