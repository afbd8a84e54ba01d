//! Where the state of tasks can be asked: the partitions of each member whose application has an address for that (KIP-1071,
//! interactive queries). Only in memory; after a restart every member is told again.

use std::collections::BTreeSet;

use protocol::Str;

use super::configure::Configured;
use super::group::StreamsGroup;
use super::member::{Endpoint, Member};
use super::tasks::Tasks;
use crate::groups::catalog_view::CatalogView;

/// A topic and some of its partitions.
pub type TopicPartitions = (Str, Vec<i32>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointTasks {
    pub endpoint: Endpoint,
    pub active: Vec<TopicPartitions>,
    pub standby: Vec<TopicPartitions>,
}

pub fn endpoints(group: &StreamsGroup, view: &dyn CatalogView) -> Vec<EndpointTasks> {
    let Some(configured) = &group.configured else { return Vec::new() };
    let members = group.stored.members.values();
    members.filter_map(|member| endpoint(member, configured, view)).collect()
}

fn endpoint(member: &Member, configured: &Configured, view: &dyn CatalogView) -> Option<EndpointTasks> {
    let endpoint = member.profile.endpoint.clone()?;
    let held = member.progress.held.sets();
    Some(EndpointTasks {
        endpoint,
        active: partitions(&held.active, configured, view),
        standby: partitions(&held.standby, configured, view),
    })
}

/// What tasks read: of each topic as many partitions as it has.
fn partitions(tasks: &Tasks, configured: &Configured, view: &dyn CatalogView) -> Vec<TopicPartitions> {
    let mut partitions = Vec::new();
    for (id, tasks) in tasks {
        let Some(subtopology) = configured.subtopologies.get(id) else { continue };
        for topic in &subtopology.sources {
            let Some(known) = view.topic(topic) else { continue };
            let of_topic: BTreeSet<i32> =
                tasks.iter().copied().filter(|task| *task < known.partition_count).collect();
            if !of_topic.is_empty() {
                partitions.push((topic.clone(), of_topic.into_iter().collect()));
            }
        }
    }
    partitions
}
