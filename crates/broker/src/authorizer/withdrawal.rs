//! Changes of rights: in effect at every live broker before anybody is told that they are made.

use std::time::Duration;

use catalog::MetadataRecord;
use protocol::ErrorCode;

use crate::error::ApiError;
use crate::request::RequestContext;

/// Records of one request; Kafka's `MAX_RECORDS_PER_USER_OP`.
pub(crate) const ACL_CHANGES_MAX: usize = 10_000;
/// These requests bring no time of their own. Clients wait for 30 s or longer.
const EVERYWHERE_MAX: Duration = Duration::from_secs(20);

impl RequestContext {
    /// Writes records that may take rights away; the position for [`Self::in_effect_everywhere`]. Also without records: who asks a
    /// second time because the first answer did not come must not be told sooner.
    pub async fn change_rights(&self, records: Vec<MetadataRecord>) -> Result<u64, ApiError> {
        let broker = &self.broker;
        Ok(match records.is_empty() {
            true => broker.catalog.read().position(),
            false => broker.catalog.append(records).await?,
        })
    }

    /// Waits until every live broker goes by what the metadata says up to a position.
    pub async fn in_effect_everywhere(&self, position: u64) -> Result<(), ApiError> {
        let broker = &self.broker;
        broker.tell_others().await;
        match broker.applied_everywhere(position, broker.clock.monotonic() + EVERYWHERE_MAX).await {
            true => Ok(()),
            false => Err(ApiError::new(
                ErrorCode::RequestTimedOut,
                "the change is made, but a live broker does not go by it yet",
            )),
        }
    }
}
