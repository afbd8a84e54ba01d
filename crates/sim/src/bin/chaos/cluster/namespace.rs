//! A network namespace for a broker, with a cable to the store and one to its clients, each of which can swallow every packet.
//!
//! ```text
//!   host   outside ══ clients ══ inside   broker's namespace
//!          outside ══  store  ══ inside
//! ```
//! The host carries what brokers say to one another from one cable for clients to another. So a broker whose process has ended is refused
//! for by its own kernel, as by a machine that lives on, and one whose cable is broken is silent.
//!
//! A cable that is broken here answers nothing at all, as one between two machines: connections hang, and go on when TCP tries again,
//! which may be long after the cable is whole. Needs root and iproute2, and leaves nothing behind.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::producers::run;

/// Nobody's address: what is sent to it arrives and is dropped.
const NOWHERE: &str = "02:00:00:00:00:01";

const UNUSED_PORT: u16 = 9;

pub struct Namespace {
    pub name: String,
    pub to_store: Cable,
    pub to_clients: Cable,
}

pub struct Cable {
    namespace: String,
    /// The host's end; the other one is called `inner`.
    outer: String,
    inner: &'static str,
    pub outside: Ipv4Addr,
    pub inside: Ipv4Addr,
}

impl Namespace {
    /// Networks of 10.231.0.0/16; two runs at once meet one time in 256, and then the second one is told so.
    pub fn new(index: usize) -> anyhow::Result<Namespace> {
        let process = std::process::id();
        let name = format!("ottla-chaos-{process}-{index}");
        let cable = |inner: &'static str, base: usize| Cable {
            namespace: name.clone(),
            outer: format!("oc{process}-{index}{}", &inner[..1]),
            inner,
            outside: Ipv4Addr::new(10, 231, process as u8, (index * 8 + base) as u8 + 1),
            inside: Ipv4Addr::new(10, 231, process as u8, (index * 8 + base) as u8 + 2),
        };
        let namespace = Namespace { to_store: cable("store", 0), to_clients: cable("clients", 4), name };
        run(Command::new("ip").args(["netns", "add", &namespace.name]))?;
        run(Command::new("ip").args(["-n", &namespace.name, "link", "set", "lo", "up"]))?;
        for cable in [&namespace.to_store, &namespace.to_clients] {
            cable.lay()?;
        }
        namespace.to_clients.lead_to_others()?;
        Ok(namespace)
    }

    /// That the other one's machine answers, if only that nobody listens there.
    pub fn check_reaches(&self, other: &Namespace) -> anyhow::Result<()> {
        let target = format!("exec 3<>/dev/tcp/{}/{UNUSED_PORT}", other.to_clients.inside);
        let tried = Command::new("ip")
            .args(["netns", "exec", &self.name, "timeout", "5", "bash", "-c", &target])
            .output()
            .context("cannot try to connect")?;
        let said = String::from_utf8_lossy(&tried.stderr);
        ensure!(said.contains("refused"), "{} does not reach {}: {said}", self.name, other.name);
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its ends of the cables go with it, and the host's ends with those.
        let _ = run(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

impl Cable {
    fn lay(&self) -> anyhow::Result<()> {
        let Cable { namespace, outer, inner, outside, inside } = self;
        let ip = |line: String| run(Command::new("ip").args(line.split(' ')));
        ip(format!("link add {outer} type veth peer name {inner} netns {namespace}"))?;
        ip(format!("addr add {outside}/30 dev {outer}"))?;
        ip(format!("link set {outer} up"))?;
        ip(format!("-n {namespace} addr add {inside}/30 dev {inner}"))?;
        ip(format!("-n {namespace} link set {inner} up"))
    }

    /// What goes to other namespaces leaves by this cable, and the host lets it through.
    fn lead_to_others(&self) -> anyhow::Result<()> {
        let Cable { namespace, outer, outside, .. } = self;
        let [a, b, c, _] = outside.octets();
        let others = Ipv4Addr::new(a, b, c, 0);
        run(Command::new("ip").args(["-n", namespace, "route", "add"]).args([
            &format!("{others}/24"),
            "via",
            &outside.to_string(),
        ]))?;
        // Of this end of the cable only; the setting goes with it.
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{outer}/forwarding"), "1")?;
        Ok(())
    }

    /// Broken, both sides believe the other one to have an address that nobody has.
    pub fn set_broken(&self, is_broken: bool) -> anyhow::Result<()> {
        let Cable { namespace, outer, inner, outside, inside } = self;
        let change = |ip: &str, whom: &Ipv4Addr, device: &str| {
            let line = match is_broken {
                true => format!("{ip}neigh replace {whom} lladdr {NOWHERE} dev {device} nud permanent"),
                false => format!("{ip}neigh del {whom} dev {device}"),
            };
            run(Command::new("ip").args(line.split(' ')))
        };
        change("", inside, outer)?;
        change(&format!("-n {namespace} "), outside, inner)
    }
}
