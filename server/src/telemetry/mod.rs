//! Logs: the reference's form, one escaper, one stream.
//!
//! Two ways lead to the same [`Log`]: `tracing`'s macros, for all that an operator reads, and [`Log::write`], for lines whose fields are lists or
//! whose instant is already known; the [`audit`] lines go that way, without a subscriber in between. A line is formatted whole and written in
//! one call, so lines of several threads, and of several processes on one pipe, never mix.
//!
//! Nothing secret may be put in: no token, key, signature or answer of STS has a `Display`, and this module cannot tell one from a name.

pub mod audit;
mod budget;
pub mod escape;
mod layer;
pub mod logrus;

use std::fmt;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use arngate_core::UnixSeconds;
use thiserror::Error;
use tracing_subscriber::layer::SubscriberExt as _;

pub use budget::{Admission, LineBudget};
pub use layer::LogLayer;
pub use logrus::Level as Verbosity;
pub use logrus::{Format, Level, Record, Value};

use crate::clock::{Clock, SystemClock};
use layer::NoSpans;

/// Where lines go.
pub trait Sink: fmt::Debug + Send + Sync {
    /// Writes one line, whose end is included.
    fn write_line(&self, line: &str);
}

/// Standard error.
#[derive(Clone, Copy, Debug)]
pub struct Stderr;

impl Sink for Stderr {
    fn write_line(&self, line: &str) {
        // Unbuffered, so this is one write(2). There is no other place to report that it failed.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// Memory, for tests; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Captured(Arc<Mutex<String>>);

impl Captured {
    /// All lines so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink for Captured {
    fn write_line(&self, line: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(line);
    }
}

/// A log; clones are the same log.
#[derive(Clone, Debug)]
pub struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    format: Format,
    verbosity: Verbosity,
    clock: Arc<dyn Clock>,
    sink: Box<dyn Sink>,
}

impl Log {
    /// A log that writes lines up to `verbosity` to `sink`.
    #[must_use]
    pub fn new(format: Format, verbosity: Verbosity, clock: Arc<dyn Clock>, sink: impl Sink + 'static) -> Self {
        Self(Arc::new(Shared { format, verbosity, clock, sink: Box::new(sink) }))
    }

    /// A log on standard error.
    #[must_use]
    pub fn stderr(format: Format, verbosity: Verbosity) -> Self {
        Self::new(format, verbosity, Arc::new(SystemClock::new()), Stderr)
    }

    /// How much is written.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        self.0.verbosity
    }

    /// Whether a line of that level is written at all.
    #[must_use]
    pub fn wants(&self, level: Level) -> bool {
        level <= self.0.verbosity
    }

    /// Writes a line with the instant that the caller has read.
    pub fn write(&self, at: UnixSeconds, record: &Record<'_>) {
        if self.wants(record.level) {
            let mut line = String::with_capacity(512);
            logrus::write_line(self.0.format, at, record, &mut line);
            self.0.sink.write_line(&line);
        }
    }

    /// Writes a line with the present instant.
    pub fn write_now(&self, record: &Record<'_>) {
        if self.wants(record.level) {
            self.write(self.0.clock.now().unix, record);
        }
    }

    /// The layer that brings `tracing` events here.
    #[must_use]
    pub fn layer(&self) -> LogLayer {
        LogLayer::new(self.clone())
    }
}

/// The process has a subscriber already.
#[derive(Clone, Copy, Debug, Error)]
#[error("logging is set up already")]
pub struct InstallError;

/// Sets up logging on standard error for the whole process, once, and gives the log for [`audit`] lines.
///
/// # Errors
///
/// [`InstallError`] when something else has set a `tracing` subscriber.
pub fn install(format: Format, verbosity: Verbosity) -> Result<Log, InstallError> {
    let log = Log::stderr(format, verbosity);
    tracing::subscriber::set_global_default(NoSpans.with(log.layer())).map_err(|_| InstallError)?;
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_line_is_written_in_one_call_and_only_when_wanted() {
        #[derive(Debug, Default)]
        struct Calls(Arc<Mutex<Vec<String>>>);
        impl Sink for Calls {
            fn write_line(&self, line: &str) {
                self.0.lock().unwrap().push(line.to_owned());
            }
        }
        let calls = Arc::new(Mutex::new(Vec::new()));
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(0)));
        let log = Log::new(Format::Text, Level::Info, clock, Calls(Arc::clone(&calls)));
        log.write_now(&Record { level: Level::Debug, message: "not wanted", fields: &[] });
        log.write_now(&Record { level: Level::Info, message: "wanted", fields: &[("a", Value::Bool(true))] });
        log.write(UnixSeconds::new(1), &Record { level: Level::Fatal, message: "the end", fields: &[] });
        assert_eq!(
            *calls.lock().unwrap(),
            ["time=\"1970-01-01T00:00:00Z\" level=info msg=wanted a=true\n", "time=\"1970-01-01T00:00:01Z\" level=fatal msg=\"the end\"\n"]
        );
    }
}
