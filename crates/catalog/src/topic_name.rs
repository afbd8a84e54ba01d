//! Names of topics: what Kafka allows, which ones collide, which ones are internal.
//!
//! Source: Kafka's `org.apache.kafka.common.internals.Topic`.

use std::borrow::Cow;

pub const TOPIC_NAME_LEN_MAX: usize = 249;

pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
pub const TRANSACTION_STATE: &str = "__transaction_state";
pub const SHARE_GROUP_STATE: &str = "__share_group_state";
/// Of Kafka's KRaft log, which is no topic here: nobody may make one of that name.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";

/// Why a topic name is refused with INVALID_TOPIC_EXCEPTION.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    #[error("Topic name is invalid: it is empty")]
    Empty,
    #[error("Topic name is invalid: '{0}' is not allowed")]
    Dots(&'static str),
    #[error("Topic name is invalid: it is {len} characters long, at most {TOPIC_NAME_LEN_MAX} are allowed")]
    TooLong { len: usize },
    #[error(
        "Topic name is invalid: '{name}' has characters other than ASCII letters, digits, '.', '_' and '-'"
    )]
    Characters { name: String },
}

pub fn validate(name: &str) -> Result<(), TopicNameError> {
    match name {
        "" => return Err(TopicNameError::Empty),
        "." => return Err(TopicNameError::Dots(".")),
        ".." => return Err(TopicNameError::Dots("..")),
        _ => {}
    }
    if name.len() > TOPIC_NAME_LEN_MAX {
        return Err(TopicNameError::TooLong { len: name.chars().count() });
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.bytes().all(legal) {
        return Err(TopicNameError::Characters { name: name.to_owned() });
    }
    Ok(())
}

/// Kafka's metrics write '.' as '_', so two topics that differ only there cannot live side by side.
/// The key is the name as a metric shows it; none when the name has neither character.
pub fn collision_key(name: &str) -> Option<Cow<'_, str>> {
    if name.contains('.') {
        Some(Cow::Owned(name.replace('.', "_")))
    } else if name.contains('_') {
        Some(Cow::Borrowed(name))
    } else {
        None
    }
}

pub fn is_internal(name: &str) -> bool {
    matches!(name, CONSUMER_OFFSETS | TRANSACTION_STATE | SHARE_GROUP_STATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafka_names_pass_and_the_rest_says_why() {
        for good in ["a", "a.b_c-D9", "...", "_", &"x".repeat(249)] {
            assert_eq!(validate(good), Ok(()), "{good}");
        }
        assert_eq!(validate(""), Err(TopicNameError::Empty));
        assert_eq!(validate(".."), Err(TopicNameError::Dots("..")));
        assert_eq!(validate(&"x".repeat(250)), Err(TopicNameError::TooLong { len: 250 }));
        for bad in ["a b", "a/b", "ä", "a:b", "a\n"] {
            assert!(matches!(validate(bad), Err(TopicNameError::Characters { .. })), "{bad}");
        }
    }

    #[test]
    fn dots_and_underscores_collide() {
        assert_eq!(collision_key("a.b"), collision_key("a_b"));
        assert_ne!(collision_key("a.b"), collision_key("a.c"));
        assert_eq!(collision_key("ab"), None);
    }
}
