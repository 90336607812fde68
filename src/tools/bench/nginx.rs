//! nginx beside ours, where it is installed: as many workers as processors, no log.

use super::children::Children;
use crate::error::Result;
use std::fs;
use std::process::Command;

/// Name of its process.
pub const NAME: &str = "nginx";

/// Starts it, with one file to serve at `/file` and a redirect at any other path.
///
/// # Errors
/// `Io` of the kind `NotFound` where it is not installed.
pub fn start(children: &Children, address: &str, file: &[u8]) -> Result<()> {
    let dir = children.dir().join(NAME);
    fs::create_dir(&dir)?;
    fs::write(dir.join("file"), file)?;
    fs::write(dir.join("nginx.conf"), configuration(address))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&dir).args(["-c", "nginx.conf", "-e", "stderr"]);
    children.start(NAME, &mut command)
}

fn configuration(address: &str) -> String {
    format!(
        r#"
daemon off;
user root;
pid nginx.pid;
worker_processes auto;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    open_file_cache max=10;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen {address} backlog=1024;
        root .;
        location = /file {{ }}
        location / {{ return 303 http://{address}/file; }}
    }}
}}
"#
    )
}
