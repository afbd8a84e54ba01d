//! ListPartitionReassignments (key 46), version 0 (KIP-455).
//!
//! Nothing is ever under way here: a partition's place is a line in the catalog, there is no copy to make.

use protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use crate::request::RequestContext;

pub(super) async fn handle(
    _context: RequestContext,
    _request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse {
        error_message: None,
        ..ListPartitionReassignmentsResponse::default()
    }
}
