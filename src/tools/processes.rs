//! `penncloud processes`: what a script has to know to start a cluster.

use crate::config::Config;

/// One line for the cluster, one for each process, in the order in which they start, and one for each listener that a
/// process has beside its main one; fields are separated by tabs:
///
/// ```text
/// cluster  <data directory>  <mail domain>  <http or https>  <user who is postmaster>
/// process  <name>  <role>  <address>
/// listener  <name of the process>  <what it is for>  <address>
/// ```
pub fn list(config: &Config) -> String {
    let cluster = &config.cluster;
    let mut out = format!(
        "cluster\t{}\t{}\t{}\t{}\n",
        cluster.data_dir.display(),
        cluster.mail_domain,
        config.http.scheme(),
        cluster.postmaster
    );
    for (name, role, address) in config.processes() {
        out.push_str(&format!("process\t{name}\t{role}\t{address}\n"));
    }
    for smtp in &config.smtps {
        for (what, address) in smtp.other_listeners() {
            out.push_str(&format!("listener\t{}\t{what}\t{address}\n", smtp.name));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_master_is_first_and_every_process_has_a_line() {
        let config = Config::parse(include_str!("../../conf/local.toml")).unwrap();
        let text = list(&config);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "cluster\tdata\tpenn.test\thttp\t");
        assert_eq!(lines[1], "process\tm1\tmaster\t127.0.0.1:5000");
        assert_eq!(lines[13], "listener\ts1\tsubmission\t127.0.0.1:2587");
        assert_eq!(lines.len(), 1 + 12 + 2);
    }
}
