//! A line on the terminal for what takes longer than a second. Nothing when stderr is not a terminal.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(200);

/// Runs `work`; after a second `line` is shown and kept up to date until it is done.
pub async fn show<T>(line: impl Fn() -> String, work: impl Future<Output = T>) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    let mut work = std::pin::pin!(work);
    let mut pause = PATIENCE;
    let mut is_shown = false;
    loop {
        match world::task::timeout(pause, work.as_mut()).await {
            Ok(done) => {
                if is_shown {
                    write("");
                }
                return done;
            }
            Err(_) => {
                write(&line());
                (is_shown, pause) = (true, TICK);
            }
        }
    }
}

/// Overwrites the present line.
fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush());
}
