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

    /// Is `id` known, and elsewhere than `other`?
    pub fn is_at_another_address(&self, id: i32, other: i32) -> bool {
        let address = |id| self.find(id).map(|node| (&node.host, node.port));
        address(id).is_some_and(|found| Some(found) != address(other))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_life_is_at_the_same_address_and_who_is_not_known_is_nowhere_else() {
        let node = |id, host: &str, port| Node { id, host: host.into(), port, rack: None };
        let nodes =
            Nodes(vec![node(1, "a", 9092), node(2, "a", 9093), node(4, "a", 9092), node(5, "b", 9092)]);
        let at_another = |id| nodes.is_at_another_address(id, 4);
        assert_eq!([1, 2, 3, 4, 5].map(at_another), [false, true, false, false, true]);
    }
}
