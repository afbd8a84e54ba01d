//! What a config key is: the columns of the table.

/// Kafka's `ConfigDef.Type`, numbered as DescribeConfigs answers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

impl ConfigType {
    pub fn code(self) -> i8 {
        self as i8
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }
}

/// Which resource a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Topic,
    Broker,
    Group,
    ClientMetrics,
}

/// When a broker key may change (KIP-226). Topic, group and client-metrics keys may always change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutability {
    /// At start only.
    ReadOnly,
    /// Of one broker, while it runs.
    PerBroker,
    /// Of one broker or of all of them, while they run.
    ClusterWide,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Validator {
    Any,
    /// Both ends allowed.
    IntegerRange {
        min: i64,
        max: i64,
    },
    /// The range, or this one value outside of it (`compression.gzip.level`: 1 to 9 or -1).
    IntegerRangeOr {
        min: i64,
        max: i64,
        or: i64,
    },
    DoubleRange {
        min: f64,
        max: f64,
    },
    OneOf(&'static [&'static str]),
    OneOfIgnoreCase(&'static [&'static str]),
    NotEmpty,
    /// No entry empty, duplicates dropped; `values` empty = any.
    List {
        values: &'static [&'static str],
        empty_allowed: bool,
    },
    /// `*` or `partition:broker,…`
    ThrottledReplicas,
    /// `latest`, `earliest` or `by_duration:<ISO 8601 duration>` (KIP-932).
    ShareOffsetReset,
    /// Not an internal topic's name; empty: none (KIP-1191).
    DeadLetterTopic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Effective,
    /// Accepted, kept and shown, but it changes nothing; the reason goes into warnings and the reference.
    NoEffect(&'static str),
}

/// A broker key that stands behind a topic or group key, in its own unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    /// Multiplies the broker's value (hours or minutes to milliseconds).
    pub factor: i64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfigKey {
    pub name: &'static str,
    pub config_type: ConfigType,
    /// In Kafka's string form; none = null.
    pub default: Option<&'static str>,
    pub validator: Validator,
    pub mutability: Mutability,
    /// Not described unless it was set.
    pub internal: bool,
    /// A key of Ottla that Kafka does not have.
    pub ours: bool,
    pub effect: Effect,
    /// The broker keys behind this key, the first one set wins.
    pub synonyms: &'static [Synonym],
    pub documentation: &'static str,
}

impl ConfigKey {
    /// Passwords are never shown.
    pub fn is_sensitive(&self) -> bool {
        self.config_type == ConfigType::Password
    }
}

/// A row of the table. The rest of its columns follow as methods, so that a row says only what is special.
pub(super) const fn key(
    name: &'static str,
    config_type: ConfigType,
    default: &'static str,
    documentation: &'static str,
) -> ConfigKey {
    ConfigKey {
        name,
        config_type,
        default: Some(default),
        validator: Validator::Any,
        mutability: Mutability::ReadOnly,
        internal: false,
        ours: false,
        effect: Effect::Effective,
        synonyms: &[],
        documentation,
    }
}

impl ConfigKey {
    pub(super) const fn null(mut self) -> Self {
        self.default = None;
        self
    }

    pub(super) const fn min(mut self, min: i64) -> Self {
        self.validator = Validator::IntegerRange { min, max: i64::MAX };
        self
    }

    pub(super) const fn range(mut self, min: i64, max: i64) -> Self {
        self.validator = Validator::IntegerRange { min, max };
        self
    }

    pub(super) const fn check(mut self, validator: Validator) -> Self {
        self.validator = validator;
        self
    }

    pub(super) const fn one_of(mut self, values: &'static [&'static str]) -> Self {
        self.validator = Validator::OneOf(values);
        self
    }

    /// A list of any values, empty or not.
    pub(super) const fn list(mut self) -> Self {
        self.validator = Validator::List { values: &[], empty_allowed: true };
        self
    }

    pub(super) const fn list_not_empty(mut self) -> Self {
        self.validator = Validator::List { values: &[], empty_allowed: false };
        self
    }

    pub(super) const fn cluster_wide(mut self) -> Self {
        self.mutability = Mutability::ClusterWide;
        self
    }

    pub(super) const fn per_broker(mut self) -> Self {
        self.mutability = Mutability::PerBroker;
        self
    }

    pub(super) const fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    pub(super) const fn ours(mut self) -> Self {
        self.ours = true;
        self
    }

    pub(super) const fn no_effect(mut self, reason: &'static str) -> Self {
        self.effect = Effect::NoEffect(reason);
        self
    }

    pub(super) const fn behind(mut self, synonyms: &'static [Synonym]) -> Self {
        self.synonyms = synonyms;
        self
    }
}

pub(super) const fn same(name: &'static str) -> Synonym {
    Synonym { name, factor: 1 }
}
