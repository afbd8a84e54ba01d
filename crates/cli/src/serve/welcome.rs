//! What `serve` says once it is ready: where it is and what to try next. For people on stderr, for programs as one JSON line on stdout.

use std::io::IsTerminal;
use std::net::SocketAddr;

use broker::{Endpoint, SecurityProtocol};
use serde_json::json;

use crate::arguments::Output;
use crate::exit::Done;

use super::data::Place;
use super::properties::join;

pub struct Started<'a> {
    pub listening: &'a [SocketAddr],
    pub advertised: &'a [Endpoint],
    pub admin: SocketAddr,
    pub data: &'a Place,
    pub cluster_id: &'a str,
    pub node_id: i32,
    /// Whether anybody may do anything with what no ACL names.
    pub allows_everyone: bool,
    /// Is there anybody who may do anything, now or once ACLs are made?
    pub has_super_users: bool,
}

impl Started<'_> {
    /// Who may do what, in a line.
    fn rights(&self) -> &'static str {
        match (self.allows_everyone, self.has_super_users) {
            (true, _) => {
                "everybody may do everything that no ACL is about (allow.everyone.if.no.acl.found=true)"
            }
            (false, true) => {
                "what ACLs allow, and super.users everything (allow.everyone.if.no.acl.found=false)"
            }
            (false, false) => {
                "what ACLs allow; there are no super.users, so nobody can make the first one \
                 (allow.everyone.if.no.acl.found=false)"
            }
        }
    }
}

pub fn print(output: Output, started: &Started<'_>) -> Done {
    if output == Output::Json {
        let addresses: Vec<String> = started.listening.iter().map(ToString::to_string).collect();
        return crate::output::json(&json!({
            "listening": addresses,
            "advertised": started.advertised.iter().map(address).collect::<Vec<_>>(),
            "admin": started.admin.to_string(),
            "data": started.data.shown(),
            "cluster_id": started.cluster_id,
            "node_id": started.node_id,
            "allow_everyone_if_no_acl_found": started.allows_everyone,
            "pid": std::process::id(),
        }));
    }
    eprint!("{}", text(started, std::io::stderr().is_terminal()));
    Ok(())
}

fn address(endpoint: &Endpoint) -> String {
    join(&endpoint.host, endpoint.port)
}

fn text(started: &Started<'_>, colour: bool) -> String {
    let (bold, plain) = if colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let listening: Vec<String> = started.listening.iter().map(ToString::to_string).collect();
    let advertised: Vec<String> = started.advertised.iter().map(address).collect();
    let mut text = format!("\n{bold}Ottla {} is ready{plain}\n", env!("CARGO_PKG_VERSION"));
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<11}{value}\n"));
    line("listening", listening.join(", "));
    if advertised != listening {
        line("advertised", advertised.join(", "));
    }
    line("admin", format!("http://{0}/metrics, http://{0}/health/ready", started.admin));
    line("data", started.data.shown());
    line("rights", started.rights().to_owned());
    line("cluster", format!("{}, broker {}", started.cluster_id, started.node_id));
    // The verbs speak plain TCP.
    let plain = |endpoint: &&Endpoint| endpoint.security_protocol == SecurityProtocol::Plaintext.code();
    if let Some(broker) = started.advertised.iter().find(plain).map(address) {
        let to = if broker == super::DEFAULT_LISTEN { String::new() } else { format!(" -b {broker}") };
        text.push_str(&format!(
            "\nTry next:\n  echo hello | ottla produce -t greetings{to}\n  ottla consume -t greetings -e{to}\n\
             or any Kafka client with {broker} as its bootstrap server.\n\n"
        ));
    }
    text
}
