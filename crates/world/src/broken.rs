//! Rules of the product that a test breaks on purpose, to show that it would notice. Without the feature `negative-controls`, which
//! only tests turn on, every rule holds.
//!
//! A simulation is one thread, and so is what is broken in it. The names are those of the scenarios that the rules keep away
//! (section 7 of the bucket protocol).

#[cfg(feature = "negative-controls")]
thread_local! {
    static BROKEN: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// In a process that was started for it.
#[cfg(feature = "negative-controls")]
static BROKEN_EVERYWHERE: std::sync::OnceLock<&'static str> = std::sync::OnceLock::new();

/// For as long as the process lives, on all its threads.
#[cfg(feature = "negative-controls")]
pub fn set_everywhere(rule: &'static str) {
    let _ = BROKEN_EVERYWHERE.set(rule);
}

/// From now on, on this thread.
#[cfg(feature = "negative-controls")]
pub fn set(rule: Option<&'static str>) {
    BROKEN.set(rule);
}

/// Is the rule that keeps this scenario away broken?
#[cfg(feature = "negative-controls")]
pub fn rule(scenario: &str) -> bool {
    BROKEN.get() == Some(scenario) || BROKEN_EVERYWHERE.get() == Some(&scenario)
}

#[cfg(not(feature = "negative-controls"))]
#[inline(always)]
pub const fn rule(_: &str) -> bool {
    false
}
