//! The brokers as a client of one listener sees them.

use catalog::State;
use protocol::Str;

use crate::broker::Broker;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub id: i32,
    pub host: Str,
    pub port: i32,
    pub rack: Option<Str>,
}

impl Broker {
    /// All brokers that can be reached through a listener of that name, ordered by id. This broker is always one
    /// of them: what it advertises now counts, not what it registered.
    pub(crate) fn nodes(&self, state: &State, listener: &str) -> Vec<Node> {
        let own = self.endpoint(listener);
        let mut rack = None;
        let mut nodes: Vec<Node> = Vec::with_capacity(1);
        for broker in state.brokers() {
            if broker.node_id == self.node_id {
                rack = broker.rack.clone();
                continue;
            }
            let Some(endpoint) = broker.endpoints.iter().find(|endpoint| endpoint.listener_name == listener)
            else {
                continue;
            };
            nodes.push(Node {
                id: broker.node_id,
                host: endpoint.host.clone(),
                port: endpoint.port.into(),
                rack: broker.rack.clone(),
            });
        }
        nodes.push(Node { id: self.node_id, host: own.host.clone(), port: own.port.into(), rack });
        nodes.sort_by_key(|node| node.id);
        nodes
    }

    /// Which broker takes cluster-wide requests. Every broker can: it appends to the catalog itself.
    pub(crate) fn controller_id(&self) -> i32 {
        self.node_id
    }
}
