//! A letter that came when it could not be taken: its sender gets it back, and goes on with it.

use super::compose;
use super::fields::Fields;
use crate::error::Result;
use crate::frontend::Visit;
use crate::frontend::visit::{TOKEN_BYTES_MAX, TOKEN_FIELD};
use crate::http::{Form, Method, Multipart, Request, Response};
use askama::Template;

/// Bytes of a text that a form for signing in carries on; what is longer is only shown. With the names of
/// its fields it must fit `http.form_bytes_max`.
const CARRIED_BYTES_MAX: usize = 768 << 10;

/// A letter that came without a session.
#[derive(Template)]
#[template(path = "mail/kept.html")]
pub(in crate::frontend) struct Kept {
    fields: Fields,
    /// The token that came with it.
    csrf: String,
}

/// A form that sends it again.
#[derive(Template)]
#[template(path = "mail/again.html")]
pub(in crate::frontend) struct Again<'k> {
    kept: &'k Kept,
}

/// Its template escapes what was typed.
impl askama::filters::HtmlSafe for Again<'_> {}

/// Its template escapes what was typed.
impl askama::filters::HtmlSafe for Kept {}

impl Kept {
    /// The letter in a request, if it is one that composes. Files are not kept.
    pub(in crate::frontend) fn of_request(request: &mut Request) -> Option<Kept> {
        if request.method != Method::Post || request.path != "/mail/compose" {
            return None;
        }
        let (mut fields, mut csrf) = (Fields::empty(""), String::new());
        let whole = request.multipart().and_then(|mut parts| {
            csrf = first_token(&mut parts)?;
            fields.take_all(&mut parts)
        });
        if let Err(error) = whole {
            log::debug!("{}: a letter without a session is read in part: {error}", request.id);
        }
        (!fields.is_blank()).then_some(Kept { fields, csrf })
    }

    /// The letter that a form for signing in carries on.
    pub(in crate::frontend) fn of_form(form: &Form) -> Option<Kept> {
        let mut fields = Fields::empty("");
        form.get("guid")?;
        form.iter().for_each(|(name, value)| fields.set(name, value));
        (!fields.is_blank()).then_some(Kept { fields, csrf: String::new() })
    }

    /// A form that sends it again, by the session that it came from.
    pub(in crate::frontend) fn to_send_again(&self) -> Again<'_> {
        Again { kept: self }
    }

    /// The compose page with the letter, for someone who has signed in meanwhile. Nothing is done yet.
    pub(in crate::frontend) fn go_on(self, visit: &Visit) -> Result<Response> {
        let said = "You were signed out. Nothing has been sent yet: look it over and send it now.";
        compose::page(visit, 200, "New message", self.fields, vec![said.into()])
    }

    /// Name, title and value of its fields of one line.
    fn lines(&self) -> [(&'static str, &'static str, &str); 4] {
        let fields = &self.fields;
        [
            ("to", "To", &fields.to),
            ("cc", "Cc", &fields.cc),
            ("bcc", "Bcc", &fields.bcc),
            ("subject", "Subject", &fields.subject),
        ]
    }

    fn is_carried(&self) -> bool {
        self.fields.text.len() <= CARRIED_BYTES_MAX
    }
}

/// The token is the first field of every form.
fn first_token(parts: &mut Multipart<'_>) -> Result<String> {
    match parts.next_part()? {
        Some(mut first) if first.name == TOKEN_FIELD => first.text(TOKEN_BYTES_MAX),
        _ => Ok(String::new()),
    }
}
