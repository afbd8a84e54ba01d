//! Where other brokers of a bucket reach this one, and the certificate authority that the bucket has for them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use broker::{Endpoint, INTER_BROKER_LISTENER, SecurityProtocol};
use catalog::{Authorities, Catalog};
use futures_util::future::BoxFuture;
use server::{Authority, AuthorityStore, Credentials, InterBroker, PeerId, Security};
use world::clock::SharedClock;
use world::net::Net;

use super::data::Place;
use super::properties::{self, ListenerAddress};
use crate::exit::Failure;

/// What the properties say, or the addresses of clients where they say nothing.
pub struct Addresses {
    pub listen: ListenerAddress,
    advertised: Option<ListenerAddress>,
}

/// Without a word of it the listener is bound where the first one for clients is, to a port that is free.
pub fn addresses(all: &BTreeMap<String, String>, clients: &[ListenerAddress]) -> Result<Addresses, Failure> {
    let listen = properties::inter_broker("listeners", all)?;
    let advertised = properties::inter_broker("advertised.listeners", all)?;
    let by_clients = || ListenerAddress {
        name: INTER_BROKER_LISTENER.to_owned(),
        protocol: SecurityProtocol::Ssl,
        port: 0,
        ..clients[0].clone()
    };
    Ok(Addresses { listen: listen.unwrap_or_else(by_clients), advertised })
}

impl Addresses {
    /// What the metadata log tells the others. Where nothing is said of it, the host that clients are told.
    pub fn endpoint(&self, bound: SocketAddr, clients: &Endpoint) -> Endpoint {
        let said = self.advertised.as_ref();
        let host = said.map(|said| said.host.as_str()).filter(|host| !host.is_empty());
        let own = match bound.ip().is_unspecified() {
            true => clients.host.to_string(),
            false => bound.ip().to_canonical().to_string(),
        };
        Endpoint {
            listener_name: INTER_BROKER_LISTENER.into(),
            security_protocol: SecurityProtocol::Ssl.code(),
            host: host.unwrap_or(&own).into(),
            port: said.map(|said| said.port).filter(|port| *port != 0).unwrap_or(bound.port()),
        }
    }
}

/// With a certificate for this incarnation.
pub async fn open(
    place: &Place,
    catalog: &Arc<Catalog>,
    clock: &SharedClock,
) -> Result<Arc<InterBroker>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("{}: {error}", place.shown()));
    let authorities = catalog.authorities().ok_or_else(|| failed(&"only a bucket has other brokers"))?;
    let store = Arc::new(Store(authorities.clone()));
    let cluster_id = catalog.read().cluster_id().to_string();
    let me = PeerId { node_id: catalog.node_id(), wal_id: catalog.wal_id() };
    let credentials = Credentials::load(store, &cluster_id, me, clock.clone()).await;
    let credentials = credentials.map_err(|error| failed(&error))?;
    Ok(InterBroker::new(Net::tcp(), Security::Tls(credentials), clock.clone()))
}

/// The bucket's authorities, for `server`, which does not know what a bucket is.
struct Store(Authorities);

fn of_catalog(authority: catalog::Authority) -> Authority {
    let catalog::Authority { number, certificate, private_key } = authority;
    Authority { number, certificate, private_key }
}

impl AuthorityStore for Store {
    fn list(&self) -> BoxFuture<'static, Result<Vec<Authority>, String>> {
        let authorities = self.0.clone();
        Box::pin(async move {
            let listed = authorities.list().await.map_err(|error| error.to_string())?;
            Ok(listed.into_iter().map(of_catalog).collect())
        })
    }

    fn add(&self, new: Authority) -> BoxFuture<'static, Result<Authority, String>> {
        let authorities = self.0.clone();
        let Authority { number, certificate, private_key } = new;
        let new = catalog::Authority { number, certificate, private_key };
        Box::pin(async move { authorities.add(new).await.map(of_catalog).map_err(|error| error.to_string()) })
    }
}
