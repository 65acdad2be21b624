//! From `tracing` events to lines.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::Log;
use super::logrus::{Level, Record, Value};

/// Writes `tracing` events to a [`Log`].
///
/// The event's message is the message, its fields are the fields (spans are not used). Values are outside text, but for a field named `error`, which is a
/// sentence. Events of other crates (hyper, h2, rustls, kube …) pass from `warn` up only: theirs is not the log that anybody keys on, and a peer can
/// cause any number of the rest.
#[derive(Clone, Debug)]
pub struct LogLayer {
    log: Log,
}

impl LogLayer {
    pub(super) const fn new(log: Log) -> Self {
        Self { log }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let level = level_of(metadata);
        self.log.wants(level) && (is_ours(metadata.target()) || level <= Level::Warning)
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        use tracing::level_filters::LevelFilter;
        Some(match self.log.verbosity() {
            Level::Panic | Level::Fatal => LevelFilter::OFF,
            Level::Error => LevelFilter::ERROR,
            Level::Warning => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Asked again: other layers of the same subscriber may have wanted what we do not.
        if !self.wants(event.metadata()) {
            return;
        }
        let mut collected = Collected::default();
        event.record(&mut collected);
        let fields: Vec<_> = collected.fields.iter().map(|(key, value)| (*key, value.as_value())).collect();
        self.log.write_now(&Record { level: level_of(event.metadata()), message: &collected.message, fields: &fields });
    }
}

/// What stands below the layer: it keeps no spans, for nobody asks for any. The registry that is usual there takes 40 kB before the first line.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoSpans;

impl Subscriber for NoSpans {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn level_of(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warning,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

/// Whether an event comes from one of our own crates, all of which are named `arngate` or `arngate_…`.
fn is_ours(target: &str) -> bool {
    target.strip_prefix("arngate").is_some_and(|rest| rest.is_empty() || rest.starts_with('_') || rest.starts_with("::"))
}

#[derive(Default)]
struct Collected {
    message: String,
    fields: Vec<(&'static str, Owned)>,
}

enum Owned {
    Bool(bool),
    Message(String),
    Outside(String),
    Signed(i64),
    Unsigned(u64),
}

impl Owned {
    fn as_value(&self) -> Value<'_> {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Message(text) => Value::Message(text),
            Self::Outside(text) => Value::Outside(text),
            Self::Signed(number) => Value::Signed(*number),
            Self::Unsigned(number) => Value::Unsigned(*number),
        }
    }
}

impl Collected {
    fn text(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" => self.message = text,
            "error" => self.fields.push(("error", Owned::Message(text))),
            name => self.fields.push((name, Owned::Outside(text))),
        }
    }
}

impl Visit for Collected {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), Owned::Bool(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), Owned::Signed(value)));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), Owned::Unsigned(value)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arngate_core::UnixSeconds;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::clock::ManualClock;
    use crate::telemetry::{Captured, Format};

    fn capture(verbosity: Level, events: impl FnOnce()) -> String {
        let captured = Captured::default();
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(1_795_521_600)));
        let log = Log::new(Format::Text, verbosity, clock, captured.clone());
        let subscriber = NoSpans.with(log.layer());
        tracing::subscriber::with_default(subscriber, events);
        captured.text()
    }

    #[test]
    fn writes_an_event_with_its_fields_sorted() {
        let text = capture(Level::Info, || {
            let error = std::io::Error::other("no\nway");
            tracing::warn!(port = 21362_u16, path = "a b", %error, again = -1, ok = true, ratio = 0.5, "could not {}", "listen");
        });
        assert_eq!(
            text,
            "time=\"2026-11-24T12:00:00Z\" level=warning msg=\"could not listen\" again=-1 error=\"no\\u{a}way\" ok=true path=\"a b\" \
             port=21362 ratio=0.5\n"
        );
    }

    #[test]
    fn leaves_out_what_is_more_than_was_asked_for() {
        let all = || {
            tracing::error!("error");
            tracing::warn!("warning");
            tracing::info!("info");
            tracing::debug!("debug");
            tracing::trace!("trace");
        };
        // A release of the binary is built without the last.
        let built = if tracing::level_filters::STATIC_MAX_LEVEL >= tracing::Level::TRACE { 5 } else { 4 };
        for (verbosity, lines) in Level::ALL.into_iter().zip([0, 0, 1, 2, 3, 4, built]) {
            assert_eq!(capture(verbosity, all).lines().count(), lines, "{verbosity:?}");
        }
    }

    #[test]
    fn other_crates_are_heard_from_warn_up_only() {
        let text = capture(Level::Trace, || {
            tracing::info!(target: "hyper::proto", "no");
            tracing::debug!(target: "arngatex", "no");
            tracing::warn!(target: "rustls::conn", "yes");
            tracing::debug!(target: "arngate::cli", "yes");
            tracing::debug!(target: "arngate", "yes");
            tracing::debug!(target: "arngate_core", "yes");
        });
        assert_eq!((text.matches("msg=yes").count(), text.lines().count()), (4, 4));
    }

    #[test]
    fn is_silent_about_spans() {
        let text = capture(Level::Trace, || {
            let _span = tracing::info_span!("request", token = "secret").entered();
            tracing::info!("inside");
        });
        assert_eq!(text, "time=\"2026-11-24T12:00:00Z\" level=info msg=inside\n");
    }
}
