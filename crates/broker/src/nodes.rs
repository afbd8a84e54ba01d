//! The brokers as a client of one listener sees them.

use catalog::State;
use protocol::Str;

use crate::broker::Broker;

/// Kafka's "nobody", where a leader or a coordinator is named.
pub(crate) const NO_NODE: i32 = -1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub id: i32,
    pub host: Str,
    pub port: i32,
    pub rack: Option<Str>,
}

/// Ordered by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nodes(Vec<Node>);

impl Nodes {
    pub fn find(&self, id: i32) -> Option<&Node> {
        self.0.binary_search_by_key(&id, |node| node.id).ok().map(|at| &self.0[at])
    }

    /// A leader as clients are told of it: nobody, if they could not reach it.
    pub fn or_nobody(&self, leader: i32) -> i32 {
        self.find(leader).map_or(NO_NODE, |node| node.id)
    }

    /// Those of a partition's brokers that cannot be reached.
    pub fn offline(&self, replicas: &[i32]) -> Vec<i32> {
        replicas.iter().copied().filter(|replica| self.find(*replica).is_none()).collect()
    }
}

impl IntoIterator for Nodes {
    type Item = Node;
    type IntoIter = std::vec::IntoIter<Node>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Broker {
    /// All live brokers that can be reached through a listener of that name. This broker is always one of them: what it
    /// advertises now counts, not what it registered.
    pub(crate) fn nodes(&self, state: &State, listener: &str) -> Nodes {
        let own = self.endpoint(listener);
        let rack = state.broker(self.node_id).and_then(|broker| broker.rack.clone());
        let mut nodes = vec![Node { id: self.node_id, host: own.host.clone(), port: own.port.into(), rack }];
        for broker in state.live_brokers().filter(|broker| broker.node_id != self.node_id) {
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
        nodes.sort_by_key(|node| node.id);
        Nodes(nodes)
    }

    /// Which broker takes cluster-wide requests. Every broker can: it appends to the catalog itself.
    pub(crate) fn controller_id(&self, state: &State) -> i32 {
        state.controller().unwrap_or(self.node_id)
    }
}
