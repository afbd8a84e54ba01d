//! Bit fields of allowed operations (KIP-430). Without an authorizer everybody may do whatever the resource knows,
//! and Kafka then answers the full set of that resource type; so do we.

/// Kafka's `AclOperation` codes are the bit numbers.
const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

/// "Not asked for": the default in the schemas.
pub(crate) const NOT_ASKED: i32 = i32::MIN;

pub(crate) const TOPIC: i32 =
    READ | WRITE | CREATE | DESCRIBE | DELETE | ALTER | DESCRIBE_CONFIGS | ALTER_CONFIGS;
pub(crate) const GROUP: i32 = READ | DESCRIBE | DELETE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
pub(crate) const CLUSTER: i32 =
    CREATE | CLUSTER_ACTION | DESCRIBE_CONFIGS | ALTER_CONFIGS | IDEMPOTENT_WRITE | ALTER | DESCRIBE;

pub(crate) fn if_asked(asked: bool, operations: i32) -> i32 {
    if asked { operations } else { NOT_ASKED }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_sets_are_those_of_kafka_4() {
        // As `kafka-topics` and `kafka-configs` of 4.3.1 print them for a broker without an authorizer.
        assert_eq!(super::TOPIC, 0x0df8);
        assert_eq!(super::GROUP, 0x0d48);
        assert_eq!(super::CLUSTER, 0x1fa0);
    }
}
