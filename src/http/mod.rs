//! HTTP/1.1: the server, and what handlers see of it.

pub mod body;
pub mod chunked;
pub mod date;
pub mod form;
pub mod head;
pub mod headers;
pub mod method;
pub mod multipart;
pub mod pace;
pub mod params;
pub mod parts;
pub mod request;
pub mod response;
pub mod router;
mod send;
mod server;
pub mod status;
pub mod target;
mod wire;

pub use form::Form;
pub use headers::Headers;
pub use method::Method;
pub use multipart::{Multipart, Part};
pub use request::Request;
pub use response::{Body, Response};
pub use router::{Handler, Routed, Router};
pub use server::{App, serve};
pub use status::status_of;
