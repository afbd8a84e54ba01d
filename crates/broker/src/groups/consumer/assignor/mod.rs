//! Who should get which partition: the server-side assignors of KIP-848. Pure functions of who subscribes to what and of
//! the assignment before.

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{Str, Uuid};

use super::assignment::Partitions;

#[derive(Debug, Clone)]
pub struct Subscriber {
    pub member_id: Str,
    pub instance_id: Option<Str>,
    /// Topics that exist.
    pub topics: Arc<BTreeSet<Uuid>>,
    /// What it should have had until now.
    pub earlier: Arc<Partitions>,
}

#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// By member id, ascending: the same spec gives the same assignment.
    pub subscribers: Vec<Subscriber>,
    /// Partitions of every topic that somebody subscribes to.
    pub partition_counts: BTreeMap<Uuid, i32>,
}

impl Spec {
    /// Everybody subscribes to the same topics.
    fn is_homogeneous(&self) -> bool {
        let Some(first) = self.subscribers.first() else { return true };
        let is_same = |subscriber: &Subscriber| {
            Arc::ptr_eq(&subscriber.topics, &first.topics) || subscriber.topics == first.topics
        };
        self.subscribers.iter().all(is_same)
    }

    fn partition_count(&self, topic: &Uuid) -> i32 {
        self.partition_counts.get(topic).copied().unwrap_or(0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Everybody gets as many as the others, and keeps what it has.
    Uniform,
    /// Of each topic a run of partitions, so that topics alike are shared alike.
    Range,
}

/// All of them, the default first.
pub const ASSIGNORS: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

impl Assignor {
    pub fn of(name: &str) -> Option<Assignor> {
        ASSIGNORS.into_iter().find(|assignor| assignor.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// What every subscriber should have, in the order of the spec.
    pub fn assign(self, spec: &Spec) -> Vec<Partitions> {
        match self {
            Assignor::Uniform => uniform::assign(spec),
            Assignor::Range => range::assign(spec),
        }
    }
}
