//! The configurations of the clusters that tests start, as people would write them.

use std::path::Path;

/// The processes of the store alone.
pub const STORE: [&str; 4] = ["m1", "a1", "a2", "a3"];
/// How many addresses a whole cluster has: one for each of its 11 processes, and two more for the first SMTP server.
pub const WHOLE: usize = 13;

/// The store alone, with the addresses of its processes: few tablets, which start fast, and small cells.
pub fn store(dir: &Path, addresses: &[String]) -> String {
    let [m1, a1, a2, a3] = addresses else { panic!("four addresses") };
    format!(
        r#"
[cluster]
data_dir = "{}/data"
mail_domain = "penn.test"
log = "info"

[store]
cell_bytes = 4096
small_tablets = 2
large_tablets = 1
segment_bytes = 1048576
checkpoint_bytes = 1048576
log_keep_bytes = 1048576
disk_reserve_bytes = 16777216

[master]
name = "m1"
address = "{m1}"
heartbeat_interval_ms = 200
heartbeat_timeout_ms = 1500

[[group]]
name = "a"
backend = [
    {{ name = "a1", address = "{a1}" }},
    {{ name = "a2", address = "{a2}" }},
    {{ name = "a3", address = "{a3}" }},
]
"#,
        dir.display()
    )
}

/// A whole cluster, with the addresses of its processes. Small segments and few tablets: the same code does more
/// in less time.
pub fn whole(dir: &Path, addresses: &[String]) -> String {
    let [m1, a1, a2, b1, b2, f1, f2, s1, s2, lb, console, submission, submissions] = addresses
    else {
        panic!("thirteen addresses")
    };
    let dir = dir.display();
    format!(
        r#"
[cluster]
data_dir = "{dir}/data"
mail_domain = "penn.test"
postmaster = "the-postmaster"
log = "info"

[store]
cell_bytes = 65536
small_tablets = 3
large_tablets = 2
segment_bytes = 1048576
checkpoint_bytes = 4194304
log_keep_bytes = 4194304
disk_reserve_bytes = 16777216

[master]
name = "m1"
address = "{m1}"
heartbeat_interval_ms = 200
heartbeat_timeout_ms = 1500

[[group]]
name = "a"
backend = [
    {{ name = "a1", address = "{a1}" }},
    {{ name = "a2", address = "{a2}" }},
]

[[group]]
name = "b"
backend = [
    {{ name = "b1", address = "{b1}" }},
    {{ name = "b2", address = "{b2}" }},
]

[[frontend]]
name = "f1"
address = "{f1}"

[[frontend]]
name = "f2"
address = "{f2}"

[[smtp]]
name = "s1"
exchange = "{s1}"
submission = "{submission}"
submissions = "{submissions}"
tls_cert = "{dir}/data/smtp-cert.pem"
tls_key = "{dir}/data/smtp-key.pem"

[smtp.relay]
route = "mx"
workers = 0

[[smtp]]
name = "s2"
exchange = "{s2}"
message_bytes_max = 100000
recipients_max = 2
sessions_max = 3
idle_ms = 3000

[smtp.relay]
route = "none"
workers = 0

[[balancer]]
name = "lb"
address = "{lb}"
ping_interval_ms = 200

[[console]]
name = "console"
address = "{console}"
"#
    )
}
