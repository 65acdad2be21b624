//! Where the time comes from: injected, so that tests stand still and tokens of fixed dates stay fresh.

use std::fmt;
use std::sync::Arc;

use arngate_core::UnixSeconds;

/// A source of the present instant.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> UnixSeconds + Send + Sync>);

impl Clock {
    /// Whatever `now` says.
    pub fn new(now: impl Fn() -> UnixSeconds + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// A clock that stands still.
    #[must_use]
    pub fn fixed(at: UnixSeconds) -> Self {
        Self::new(move || at)
    }

    /// The clock of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|| {
            #[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads the clock")]
            let now = std::time::SystemTime::now();
            let seconds = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
            UnixSeconds::new(i64::try_from(seconds).unwrap_or(i64::MAX))
        })
    }

    /// The present instant.
    #[must_use]
    pub fn now(&self) -> UnixSeconds {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
