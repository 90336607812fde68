//! What surrounds every page, and how a template becomes a response.

use super::assets;
use super::flash::Flash;
use super::text;
use crate::account::Session;
use crate::error::{Error, Result};
use crate::http::Response;
use askama::Template;
use std::fmt;
use std::time::Instant;

/// Which of the apps a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Webmail.
    Mail,
    /// Folders and files.
    Files,
    /// The user's own settings.
    Settings,
    /// None of them.
    None,
}

/// What surrounds a page: `base.html` reads it as `shell`.
pub struct Shell {
    /// The page's own part of the window title.
    pub title: String,
    /// Who is signed in.
    pub user: Option<Signed>,
    /// What was just done.
    pub flash: Option<Flash>,
    /// Which app is marked in the bar.
    pub section: Section,
    node: String,
    began: Instant,
}

/// Who is signed in.
pub struct Signed {
    /// Name of the user.
    pub name: String,
    /// Mail address of the user.
    pub address: String,
    /// What every form must carry.
    pub csrf: String,
}

impl Shell {
    pub(super) fn new(node: &str, began: Instant, title: &str) -> Shell {
        let (title, node) = (title.into(), node.into());
        Shell { title, user: None, flash: None, section: Section::None, node, began }
    }

    pub(super) fn with_flash(self, flash: Option<Flash>) -> Shell {
        Shell { flash, ..self }
    }

    pub(super) fn with_user(self, session: &Session, address: String, section: Section) -> Shell {
        let user = Signed { name: session.user.clone(), address, csrf: session.csrf.clone() };
        Shell { user: Some(user), section, ..self }
    }

    /// The session's token; empty for guests.
    pub fn csrf(&self) -> &str {
        self.user.as_ref().map_or("", |u| &u.csrf)
    }

    /// The letter in the user's badge.
    pub fn initial(&self) -> char {
        self.user
            .as_ref()
            .and_then(|u| u.name.chars().next())
            .map_or('?', |c| c.to_ascii_uppercase())
    }

    /// Whether a section is the page's own.
    pub fn is(&self, section: &str) -> bool {
        let own = match self.section {
            Section::Mail => "mail",
            Section::Files => "files",
            Section::Settings => "settings",
            Section::None => "",
        };
        own == section
    }

    /// The URL of a static file.
    pub fn asset(&self, name: &str) -> String {
        assets::url(name)
    }

    /// An icon of the sprite.
    pub fn icon(&self, name: &'static str) -> Icon {
        Icon(name)
    }

    /// Who made the page and how long it took: "f1 · 3 ms".
    pub fn served(&self) -> String {
        format!("{} · {} ms", self.node, self.began.elapsed().as_millis())
    }
}

/// An icon of the sprite `icons.svg`: decoration, hidden from readers of the screen.
pub struct Icon(&'static str);

impl fmt::Display for Icon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sprite = assets::url("icons.svg");
        write!(
            f,
            r##"<svg class="icon" aria-hidden="true"><use href="{sprite}#{}"/></svg>"##,
            self.0
        )
    }
}

/// Its HTML is made of our own words alone.
impl askama::filters::HtmlSafe for Icon {}

/// How long to wait, for people; scripts count it down.
pub struct Wait(pub u64);

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wait(n) = self;
        let time = text::seconds(*n);
        write!(f, r#"<span data-countdown="{n}">The next one is heard in {time}.</span>"#)
    }
}

/// Its HTML is made of our own words alone.
impl askama::filters::HtmlSafe for Wait {}

/// A page from its template.
pub(super) fn render(status: u16, template: &impl Template) -> Result<Response> {
    let page = template.render().map_err(|e| Error::corrupt(format!("a template: {e}")))?;
    Ok(Response::html(status, page))
}
