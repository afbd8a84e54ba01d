//! What goes wrong inside of a broker and is told to nobody but its log: errors, and panics of tasks.
//! One simulation runs per thread, so does its witness.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::sync::{Once, OnceLock};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};
use world::task::{self, Instant};

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What an outage of the bucket, a takeover, and the death of a process explain. (A panic is seen by itself.)
const EXPECTED: [&str; 7] = [
    "the partition is led by another broker",
    "no producer ids can be allocated error=whether the change was made is not known",
    "the metadata log refuses changes",
    "the task that writes is gone",
    "this broker is fenced",
    "the topic of the group coordinator cannot be made",
    "the topic of the transaction coordinator cannot be made",
];
/// Nothing explains that a topic is there already and is not to be found.
const UNEXPECTED: &str = "UnknownTopicOrPartition";

/// Runs something; gives what it came to and what was seen meanwhile. With `aloud` everything that is logged goes to stderr.
pub fn watched<T>(aloud: bool, run: impl FnOnce() -> T) -> (T, Vec<String>) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            SEEN.with_borrow_mut(|seen| seen.push(panic.to_string()));
            before(panic);
        }));
    });
    SEEN.take();
    let result = tracing::subscriber::with_default(Witness { aloud, began: OnceLock::new() }, run);
    (result, SEEN.take())
}

struct Witness {
    aloud: bool,
    /// When something was logged first.
    began: OnceLock<Instant>,
}

impl Subscriber for Witness {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= if self.aloud { Level::DEBUG } else { Level::ERROR }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let level = event.metadata().level();
        if self.aloud {
            let at = self.began.get_or_init(task::now).elapsed().as_secs_f64();
            eprintln!("{at:9.3} {level} {} {}", event.metadata().target(), line.0);
        }
        let is_expected = EXPECTED.iter().any(|expected| line.0.contains(expected));
        if *level == Level::ERROR && (!is_expected || line.0.contains(UNEXPECTED)) {
            SEEN.with_borrow_mut(|seen| seen.push(line.0));
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "{name}={value:?} "),
        };
        written.expect("writing to a string does not fail");
    }
}
