//! Waits for an instant, to some microseconds where the system can.
//!
//! tokio's own timers count in milliseconds: at ten questions in a millisecond they would ask them all at its end, and the target would look half a
//! millisecond slower than it is.

use tokio::time::Instant;

/// Waits for instants.
#[derive(Debug)]
pub(super) struct Pacer {
    #[cfg(target_os = "linux")]
    timer: Option<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>>,
}

impl Pacer {
    /// A timer of the system, in the present runtime; where there is none, and in a runtime whose time stands still, tokio's.
    pub(super) fn new() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            timer: linux::timer(),
        }
    }

    /// tokio's own timer: for tests, whose clock the system does not know of.
    #[cfg(test)]
    pub(super) const fn of_tokio() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            timer: None,
        }
    }

    /// Waits until `due`; at once if that is past.
    pub(super) async fn wait_until(&mut self, due: Instant) {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        #[cfg(target_os = "linux")]
        if let Some(timer) = &self.timer
            && linux::wait(timer, left).await.is_some()
        {
            return;
        }
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    pub(super) fn timer() -> Option<AsyncFd<OwnedFd>> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).ok()?;
        #[expect(
            deprecated,
            reason = "unsound for what closes its descriptor before its end, which an OwnedFd does not; the new one is `unsafe`"
        )]
        AsyncFd::with_interest(timer, Interest::READABLE).ok()
    }

    /// `None`: the system would not.
    pub(super) async fn wait(timer: &AsyncFd<OwnedFd>, left: Duration) -> Option<()> {
        let value = Timespec { tv_sec: i64::try_from(left.as_secs()).ok()?, tv_nsec: left.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &once).ok()?;
        loop {
            let mut ready = timer.readable().await.ok()?;
            // How often it has gone off: it says so once, and blocks before that.
            match ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0_u8; 8])?)) {
                Ok(read) => return read.ok().map(drop),
                Err(_would_block) => {}
            }
        }
    }
}
