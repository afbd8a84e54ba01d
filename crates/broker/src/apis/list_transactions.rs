//! ListTransactions (key 66), versions 0–2 (KIP-664): transactional ids that this broker looks after.
//!
//! The pattern of v2 is a regular expression of the `regex` crate and not of Java: what both know means the same, but there is no
//! looking around and no back reference, so no pattern takes long. It has to fit the whole id.
//!
//! 1: only those that have been open for longer (KIP-994) · 2: a pattern for ids (KIP-1152)

use catalog::acl::AclOperation;
use protocol::messages::list_transactions_response::TransactionState;
use protocol::messages::{ListTransactionsRequest, ListTransactionsResponse};
use protocol::{ErrorCode, Str};
use regex::{Regex, RegexBuilder};

use crate::authorizer::Resource;
use crate::request::RequestContext;
use crate::transactions::{Listed, State};

/// Of a pattern when it is compiled.
const PATTERN_BYTES_MAX: usize = 1 << 20;

pub(super) async fn handle(
    context: RequestContext,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    match list(&context, &request).await {
        Ok(response) => response,
        Err(code) => {
            ListTransactionsResponse { error_code: code.code(), ..ListTransactionsResponse::default() }
        }
    }
}

async fn list(
    context: &RequestContext,
    request: &ListTransactionsRequest,
) -> Result<ListTransactionsResponse, ErrorCode> {
    let pattern = request.transactional_id_pattern.as_deref().filter(|pattern| !pattern.is_empty());
    let pattern = pattern.map(compile).transpose()?;
    let listed = context.broker.transactions.list().await?;
    let state_of = |name: &Str| State::ALL.into_iter().find(|state| state.name() == name.as_str());
    let states: Vec<State> = request.state_filters.iter().filter_map(state_of).collect();
    let now_ms = context.broker.clock.now_ms();
    let catalog = context.broker.catalog.read();
    let rights = context.rights(&catalog);
    let is_wanted = |listed: &Listed| {
        let producers = &request.producer_id_filters;
        (producers.is_empty() || producers.contains(&listed.producer_id))
            && (request.state_filters.is_empty() || states.contains(&listed.state))
            && (request.duration_filter < 0 || now_ms - listed.started_ms > request.duration_filter)
            && pattern.as_ref().is_none_or(|pattern| pattern.is_match(&listed.transactional_id))
            && rights.may(AclOperation::Describe, Resource::TransactionalId(&listed.transactional_id))
    };
    let shown = listed.into_iter().filter(is_wanted).map(|listed| TransactionState {
        transactional_id: listed.transactional_id,
        producer_id: listed.producer_id,
        transaction_state: Str::from_static(listed.state.name()),
    });
    let unknown = request.state_filters.iter().filter(|name| state_of(name).is_none() && !is_kafkas(name));
    Ok(ListTransactionsResponse {
        error_code: ErrorCode::None.code(),
        unknown_state_filters: unknown.cloned().collect(),
        transaction_states: shown.collect(),
        ..ListTransactionsResponse::default()
    })
}

/// States of Kafka in which nothing is here that could be shown.
fn is_kafkas(name: &str) -> bool {
    matches!(name, "Dead" | "PrepareEpochFence")
}

fn compile(pattern: &str) -> Result<Regex, ErrorCode> {
    let whole = format!("^(?:{pattern})$");
    let built = RegexBuilder::new(&whole).size_limit(PATTERN_BYTES_MAX).build();
    built.map_err(|_| ErrorCode::InvalidRegularExpression)
}
