//! A client for the addresses that were given, and what its errors mean for the exit code.

use std::time::Duration;

use client::{Client, ClientOptions, Error, ErrorCode};

use crate::exit::{Exit, Failure};

use super::arguments::Brokers;
use super::client_properties;

/// A command line waits less than a service.
const CONNECT: Duration = Duration::from_secs(5);
const CALL: Duration = Duration::from_secs(30);

/// Fails at once when no address answers: the client itself would go on trying.
pub async fn connect(brokers: &Brokers) -> Result<Client, Failure> {
    let addresses: Vec<&str> =
        brokers.brokers.split(',').map(str::trim).filter(|address| !address.is_empty()).collect();
    let transport = client_properties::transport(brokers.command_config.as_deref())?;
    let mut reason = Failure::usage("-b wants HOST:PORT");
    for address in &addresses {
        crate::serve::properties::host_and_port("-b", address)?;
        let refused = |why: String| Failure {
            exit: Exit::CannotConnect,
            message: format!("cannot connect to {address}: {why}"),
        };
        match world::task::timeout(CONNECT, transport.connect(address)).await {
            Ok(Ok(_)) => {
                let options =
                    ClientOptions::new(addresses.iter().copied()).client_id("ottla").transport(transport);
                return Ok(Client::new(options.connect_timeout(CONNECT).api_timeout(CALL)));
            }
            Ok(Err(error)) => reason = refused(error.to_string()),
            Err(_) => reason = refused(format!("no answer within {} s", CONNECT.as_secs())),
        }
    }
    Err(reason)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Connect { .. } | Error::Authentication { .. } => Exit::CannotConnect,
            Error::Kafka { code, .. } if is_not_found(*code) => Exit::NotFound,
            _ => Exit::Failed,
        };
        Failure { exit, message: error.to_string() }
    }
}

pub fn is_not_found(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId | ErrorCode::GroupIdNotFound
    )
}

/// The same failure with what it is about in front.
pub fn about(what: &str, error: Error) -> Failure {
    let failure = Failure::from(error);
    Failure { message: format!("{what}: {}", failure.message), ..failure }
}
