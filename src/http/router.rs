//! Handlers by method and path.

use crate::error::{Error, Result};
use crate::http::method::Method;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::http::target::{decode, path_of};

/// Answers a request; an error becomes an error page.
pub type Handler<S> = fn(&S, &mut Request<'_>) -> Result<Response>;

/// What became of a request.
#[derive(Debug)]
pub enum Routed {
    /// A handler answered it.
    Response(Response),
    /// A handler failed.
    Error(Error),
    /// No route has this path.
    NotFound,
    /// Routes have this path, for these methods.
    MethodNotAllowed(Vec<Method>),
}

/// Routes, tried in the order in which they were added.
///
/// A pattern is literal segments, `:name` for one segment that is not empty, and at the end `*name` for
/// the whole rest. Segments are split before they are decoded: an encoded `/` stays within its segment.
pub struct Router<S> {
    routes: Vec<Route<S>>,
}

struct Route<S> {
    method: Method,
    pattern: &'static str,
    handler: Handler<S>,
}

impl<S> Default for Router<S> {
    fn default() -> Router<S> {
        Router { routes: Vec::new() }
    }
}

impl<S> Router<S> {
    /// No routes.
    pub fn new() -> Router<S> {
        Router::default()
    }

    /// Adds a page: GET, and HEAD with it.
    pub fn get(self, pattern: &'static str, handler: Handler<S>) -> Router<S> {
        self.on(Method::Get, pattern, handler)
    }

    /// Adds an action of a form.
    pub fn post(self, pattern: &'static str, handler: Handler<S>) -> Router<S> {
        self.on(Method::Post, pattern, handler)
    }

    /// Adds a handler of any method.
    pub fn on(mut self, method: Method, pattern: &'static str, handler: Handler<S>) -> Router<S> {
        self.routes.push(Route { method, pattern, handler });
        self
    }

    /// Lets the first route answer that has this method and path. OPTIONS is answered here.
    pub fn dispatch(&self, state: &S, request: &mut Request<'_>) -> Routed {
        let method = if request.method == Method::Head { Method::Get } else { request.method };
        for route in self.routes.iter().filter(|r| r.method == method) {
            if let Some(params) = matched(route.pattern, path_of(&request.target)) {
                request.set_params(params);
                return (route.handler)(state, request)
                    .map_or_else(Routed::Error, Routed::Response);
            }
        }
        let allowed = self.allowed(path_of(&request.target));
        match (allowed.is_empty(), method) {
            (true, _) => Routed::NotFound,
            (false, Method::Options) => {
                Routed::Response(Response::empty(204).with_header("Allow", Method::list(&allowed)))
            }
            (false, _) => Routed::MethodNotAllowed(allowed),
        }
    }

    /// The methods that a path has.
    fn allowed(&self, path: &str) -> Vec<Method> {
        let here = |m: &Method| {
            let served = if *m == Method::Head { Method::Get } else { *m };
            self.routes.iter().any(|r| r.method == served && matched(r.pattern, path).is_some())
        };
        let mut allowed: Vec<Method> = Method::ALL.into_iter().filter(here).collect();
        if !allowed.is_empty() && !allowed.contains(&Method::Options) {
            allowed.push(Method::Options);
        }
        allowed
    }
}

/// The parameters of a raw path, where the pattern fits it.
fn matched(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let mut params = Vec::new();
    let mut rest = Some(path.strip_prefix('/')?);
    for part in pattern.strip_prefix('/')?.split('/') {
        let left = rest?;
        if let Some(name) = part.strip_prefix('*') {
            params.push((name, decode(left).ok()?.into_owned()));
            return Some(params);
        }
        let (segment, after) = match left.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (left, None),
        };
        let segment = decode(segment).ok()?;
        match part.strip_prefix(':') {
            Some(name) if !segment.is_empty() => params.push((name, segment.into_owned())),
            None if segment == part => {}
            _ => return None,
        }
        rest = after;
    }
    rest.is_none().then_some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &'static str, path: &str) -> Option<String> {
        let params = matched(pattern, path)?;
        Some(params.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn patterns_fit_whole_paths() {
        assert_eq!(fits("/", "/").as_deref(), Some(""));
        assert_eq!(fits("/files", "/files").as_deref(), Some(""));
        assert_eq!(fits("/files/:id/move", "/files/a%20b/move").as_deref(), Some("id=a b"));
        assert_eq!(fits("/static/*path", "/static/a/b%2Fc").as_deref(), Some("path=a/b/c"));
        for (pattern, path) in [
            ("/", "/files"),
            ("/files", "/"),
            ("/files", "/files/"),
            ("/files", "/Files"),
            ("/files/:id", "/files"),
            ("/files/:id", "/files/"),
            ("/files/:id", "/files/a/b"),
            ("/static/*path", "/static"),
            ("/files", "//files"),
        ] {
            assert_eq!(fits(pattern, path), None, "{pattern} {path}");
        }
    }

    #[test]
    fn an_encoded_slash_stays_in_its_segment() {
        assert_eq!(fits("/rows/:row/x", "/rows/alice%2Fmail/x").as_deref(), Some("row=alice/mail"));
        assert_eq!(fits("/a/b", "/a%2Fb"), None);
    }
}
